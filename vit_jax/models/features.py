"""What a backbone hands to a head.

A backbone is a module called as `backbone(image, train=False, valid=None)`. `valid`, bool `[batch,
height, width]`, tells which pixels of a padded canvas are image, the upper left part; None: all. With
it, the entries of every map that stand for pixels of the image, `valid[:, ::stride, ::stride]`, are the
same whatever is around the image. A backbone that cannot do so raises UserError, which names a remedy.
"""

import flax.struct
import jax


@flax.struct.dataclass
class Features:
  """The contract between backbones and heads.

  Attributes:
    maps: feature maps from fine to coarse, each `[batch, h, w, c]`.
    tokens: `[batch, n, c]` extra tokens (class, distillation), or None.
    strides: pixels between neighbouring entries of each map: the (height, width) of a step.
  """
  maps: tuple[jax.Array, ...]
  tokens: jax.Array | None = None
  strides: tuple[tuple[int, int], ...] = flax.struct.field(pytree_node=False, default=())
