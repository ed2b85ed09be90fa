"""The two-layer MLP of a transformer block, and GELU in its two published forms."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax.errors import unknown


def gelu_tanh(x: jax.Array) -> jax.Array:
  """GELU by its tanh approximation (arXiv:1606.08415, section 2), as Google's ViT uses it."""
  return jax.nn.gelu(x, approximate=True)


def gelu_erf(x: jax.Array) -> jax.Array:
  """Exact GELU, as timm, DeiT and Swin use it.

  Through erf and not erfc as in `jax.nn.gelu`: the same to rounding, and twice as fast on CPU.
  """
  return .5 * x * (1. + jax.lax.erf(x * math.sqrt(.5)))


GELU = dict(tanh=gelu_tanh, erf=gelu_erf)


class MlpBlock(nn.Module):
  """Dense, GELU, dense, with dropout behind each (ViT paper, section 3.1).

  Parameters: `Dense_0` `[width, mlp_dim]`, `Dense_1` `[mlp_dim, width]`.

  Attributes:
    mlp_dim: width of the hidden layer.
    gelu: 'tanh' or 'erf'.
    dropout_rate: behind both layers.
    dtype: of the computation.
  """
  mlp_dim: int
  gelu: str = 'tanh'
  dropout_rate: float = 0.
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[..., width]` to `[..., width]`."""
    if self.gelu not in GELU:
      raise unknown('GELU form', self.gelu, GELU)
    dense = lambda features: nn.Dense(  # noqa: E731
        features, kernel_init=nn.initializers.xavier_uniform(),
        bias_init=nn.initializers.normal(stddev=1e-6), dtype=self.dtype)
    width = x.shape[-1]
    x = GELU[self.gelu](dense(self.mlp_dim)(x))
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    x = dense(width)(x)
    return nn.Dropout(self.dropout_rate, deterministic=not train)(x)
