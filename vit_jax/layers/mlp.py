"""The two-layer MLP of a transformer block, and GELU in its two published forms."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax.errors import unknown


def _keeping_input(function, derivative):
  """Returns `function` with a gradient that keeps the input alone and computes the rest again.

  What autodiff would keep (tanh or erf of every hidden unit) is as large as the layer itself.
  """
  wrapped = jax.custom_vjp(function)
  wrapped.defvjp(lambda x: (function(x), x), lambda x, g: (g * derivative(x),))
  return functools.wraps(function)(wrapped)


_TANH_SCALE, _CUBIC = 2. * math.sqrt(2. / math.pi), .044715


def gelu_tanh(x: jax.Array) -> jax.Array:
  """GELU by its tanh approximation (arXiv:1606.08415, section 2), as Google's ViT uses it.

  Written with (1 + tanh(a)) / 2 = sigmoid(2 a), which is one exponential.
  """
  return x * jax.nn.sigmoid(_TANH_SCALE * x * (1. + _CUBIC * x * x))


def _gelu_tanh_derivative(x):
  square = x * x
  gate = jax.nn.sigmoid(_TANH_SCALE * x * (1. + _CUBIC * square))
  return gate + x * gate * (1. - gate) * _TANH_SCALE * (1. + 3. * _CUBIC * square)


def gelu_erf(x: jax.Array) -> jax.Array:
  """Exact GELU, as timm, DeiT and Swin use it.

  Through erf and not erfc as in `jax.nn.gelu`: the same to rounding, and twice as fast on CPU.
  """
  return .5 * x * (1. + jax.lax.erf(x * math.sqrt(.5)))


def _gelu_erf_derivative(x):
  density = math.sqrt(.5 / math.pi) * jnp.exp(-.5 * x * x)
  return .5 * (1. + jax.lax.erf(x * math.sqrt(.5))) + x * density


gelu_tanh = _keeping_input(gelu_tanh, _gelu_tanh_derivative)
gelu_erf = _keeping_input(gelu_erf, _gelu_erf_derivative)

GELU = dict(tanh=gelu_tanh, erf=gelu_erf)


class MlpBlock(nn.Module):
  """Dense, GELU, dense, with dropout behind each (ViT paper, section 3.1).

  Parameters: `Dense_0` `[width, mlp_dim]`, `Dense_1` `[mlp_dim, width]`.

  Attributes:
    mlp_dim: width of the hidden layer.
    gelu: 'tanh' or 'erf'.
    dropout_rate: behind both layers.
    dtype: of the computation.
    kernel_init, bias_init: of both layers.
  """
  mlp_dim: int
  gelu: str = 'tanh'
  dropout_rate: float = 0.
  dtype: jnp.dtype = jnp.float32
  kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
  bias_init: nn.initializers.Initializer = nn.initializers.normal(stddev=1e-6)

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[..., width]` to `[..., width]`."""
    if self.gelu not in GELU:
      raise unknown('GELU form', self.gelu, GELU)
    dense = lambda features: nn.Dense(
        features, kernel_init=self.kernel_init, bias_init=self.bias_init, dtype=self.dtype)
    width = x.shape[-1]
    x = GELU[self.gelu](dense(self.mlp_dim)(x))
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    x = dense(width)(x)
    return nn.Dropout(self.dropout_rate, deterministic=not train)(x)
