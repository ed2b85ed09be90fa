"""The facts of detection data."""

import dataclasses

from vit_jax.data.info import Info


@dataclasses.dataclass(frozen=True)
class DetectionInfo(Info):
  """What a detector must know of the data it was trained on; `image_size` is the first canvas.

  Attributes:
    category_ids: the data set's own number of each class.
    is_thing: of each class whether its objects are counted; () where the data does not tell.
    canvases, test_canvases: (height, width) of the arrays that images lie on.
    test_transforms: how a test image is made ready, as in `config.data.test_transforms`.
    max_boxes: box slots per image of a batch.
    box_counts, test_box_counts: (objects, images that have so many) of the training and the test split.
    masks: whether batches hold masks.
    panoptic: whether the annotations are panoptic.
  """
  category_ids: tuple[int, ...] = ()
  is_thing: tuple[bool, ...] = ()
  canvases: tuple[tuple[int, int], ...] = ()
  test_canvases: tuple[tuple[int, int], ...] = ()
  test_transforms: tuple[dict, ...] = ()
  max_boxes: int = 0
  box_counts: tuple[tuple[int, int], ...] = ()
  test_box_counts: tuple[tuple[int, int], ...] = ()
  masks: bool = False
  panoptic: bool = False

  @property
  def things(self) -> tuple[bool, ...]:
    """Of each class whether its objects are counted; of all, where the data does not tell."""
    return self.is_thing or (True,) * self.num_classes


@dataclasses.dataclass(frozen=True)
class SegmentationInfo(Info):
  """What a segmenter must know of the data it was trained on; `image_size` is that of a training window.

  Attributes:
    colours: (red, green, blue) of each class, as the data's legend has it; () where it has none.
    inference: fields of `detr_jax.ops.windows.Inference` by which images are evaluated.
  """
  colours: tuple[tuple[int, int, int], ...] = ()
  inference: dict = dataclasses.field(default_factory=dict)
