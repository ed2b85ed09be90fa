"""What a backbone hands to a head."""

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
