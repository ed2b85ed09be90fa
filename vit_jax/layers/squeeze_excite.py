"""Squeeze and excitation: a weight for each channel of a map (arXiv:1709.01507, section 3)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax.layers import padding

_normal = nn.initializers.variance_scaling(2., 'fan_out', 'normal')


class SqueezeExcite(nn.Module):
  """Multiplies each channel by what two layers make of the means of all (equation 3).

  Parameters: `reduce`, `expand`.

  Attributes:
    width: features between the two layers.
    activation: of the first layer; the second one ends in a sigmoid.
    dtype: compute dtype; the means are float32.
  """
  width: int
  activation: Callable[[jax.Array], jax.Array] = nn.relu
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to the same; means inside the images alone, see `layers.padding`."""
    dense = lambda features, name: nn.Dense(features, kernel_init=_normal, dtype=self.dtype, name=name)
    means = padding.mean(x.astype(jnp.float32), valid, (1, 2))
    y = self.activation(dense(self.width, 'reduce')(means))
    return x * nn.sigmoid(dense(x.shape[-1], 'expand')(y))[:, None, None].astype(x.dtype)
