"""What a set predictor hands to its losses, its evaluation and its pictures."""

import flax.struct
import jax


@flax.struct.dataclass
class Outputs:
  """The predictions of every decoder layer; the last one is the answer.

  Attributes:
    logits: `[layers, batch, queries, classes + 1]` where a softmax decides, "no object" last, or
      `[layers, batch, queries, classes]` where each class has a sigmoid of its own.
    boxes: `[layers, batch, queries, 4]`, (centre x, centre y, width, height) as shares of the image.
    masks: `[batch, queries, h, w]` logits of the last layer, or None.
    denoising: the same of the queries that were made from noisy targets (training only), or None;
      query `group * targets + t` stands for target `t`.
  """
  logits: jax.Array
  boxes: jax.Array
  masks: jax.Array | None = None
  denoising: 'Outputs | None' = None

  def last(self) -> tuple[jax.Array, jax.Array]:
    """Returns (logits, boxes) of the last layer, without the leading axis."""
    return self.logits[-1], self.boxes[-1]
