"""Operations of a ViT, by formula: a compiler's own count also holds what it computes twice."""


def forward(model, image_size: tuple[int, int]) -> float:
  """Returns the operations of one image's forward pass, two for each multiply and add.

  Args:
    model: a ViT; the matrix products of patches, layers and head count, nothing else.
    image_size: (height, width) in pixels.
  """
  patches = (image_size[0] // model.patch[0]) * (image_size[1] // model.patch[1])
  tokens, width = patches + model.num_prefix, model.width
  embedding = patches * model.patch[0] * model.patch[1] * 3 * width
  projections = tokens * (4 * width * width + 2 * width * model.mlp_dim)
  attention = 2 * tokens * tokens * width
  return 2. * (embedding + model.depth * (projections + attention) + width * model.num_classes)


def train(model, image_size: tuple[int, int]) -> float:
  """Returns those of a train step: the backward pass has two products for each forward one."""
  return 3. * forward(model, image_size)
