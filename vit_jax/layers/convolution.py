"""Convolutions of residual networks, plain and with standardised weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax.errors import UserError, unknown
from vit_jax.layers import padding, winograd

STANDARDIZE = ('none', 'vit', 'bit')
PADDING = ('same', 'symmetric')


def standardize(kernel: jax.Array, form: str = 'vit') -> jax.Array:
  """Returns a kernel whose every filter has mean 0 and variance 1 (arXiv:1903.10520, section 3).

  Args:
    kernel: `[height, width, in, out]`.
    form: where the epsilon stands: 'vit' adds 1e-5 to the standard deviation (vision_transformer,
      big_vision), 'bit' adds 1e-10 to the variance (Big Transfer).
  """
  centred = kernel - kernel.mean((0, 1, 2))
  variance = jnp.square(centred).mean((0, 1, 2))
  if form == 'vit':
    return centred / (jnp.sqrt(variance) + 1e-5)
  return centred / jnp.sqrt(variance + 1e-10)


class Conv(nn.Module):
  """A square convolution: `[batch, h, w, in]` to `[batch, h / stride, w / stride, out]`.

  Sizes that the stride does not divide are rounded up. Parameters: `kernel` `[k, k, in, out]`, `bias`.

  Attributes:
    features: channels out.
    kernel_size: an odd number of pixels.
    stride: pixels.
    dilation: pixels between the taps.
    padding: 'same' (TensorFlow's: what is missing, the larger half below and to the right) or
      'symmetric' (the same on every side, whatever the size).
    standardize: 'none', or a form of `standardize`.
    use_bias: whether a bias, zero at the start, is added.
    groups: parts of the channels that are convolved apart (arXiv:1611.05431); the kernel is
      `[k, k, in / groups, out]`.
    kernel_init: He's (arXiv:1502.01852) for what the next ReLU halves; scale-free if standardised.
    dtype: of the computation; weights are standardised in float32.
  """
  features: int
  kernel_size: int
  stride: int = 1
  dilation: int = 1
  padding: str = 'symmetric'
  standardize: str = 'none'
  use_bias: bool = False
  groups: int = 1
  kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(2., 'fan_out', 'normal')
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Convolves; a map that `valid` is given of, see `layers.padding`, is zero outside the images."""
    if self.standardize not in STANDARDIZE:
      raise unknown('form of weight standardisation', self.standardize, STANDARDIZE)
    if self.padding not in PADDING:
      raise unknown('padding', self.padding, PADDING)
    if x.shape[-1] % self.groups or self.features % self.groups:
      raise UserError(f'{self.groups} groups do not divide {x.shape[-1]} or {self.features} channels; '
                      'choose another group_width')
    shape = (self.kernel_size,) * 2 + (x.shape[-1] // self.groups, self.features)
    kernel = self.param('kernel', self.kernel_init, shape)
    if self.standardize != 'none':
      kernel = standardize(kernel, self.standardize)
    x = self._convolve(x.astype(self.dtype), kernel.astype(self.dtype), valid)
    if not self.use_bias:
      return x
    return x + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)

  def _convolve(self, x, kernel, valid):
    if self.kernel_size == 1:  # a matrix product, which XLA's CPU compiler would not make of it
      return x[:, ::self.stride, ::self.stride] @ kernel[0, 0]
    if (self.kernel_size, self.stride, self.dilation, self.groups) == (3, 1, 1, 1):
      return winograd.convolve(x, kernel)
    around = ((self.dilation * (self.kernel_size // 2),) * 2,) * 2
    if self.padding == 'same' and self.stride > 1:
      if valid is not None:
        x = padding.same(x, valid, 2 * around[0][0] + 1, self.stride)
      around = 'SAME' if valid is None else 'VALID'
    convolve = lambda x, kernel, groups=1: jax.lax.conv_general_dilated(
        x, kernel, (self.stride,) * 2, around, rhs_dilation=(self.dilation,) * 2,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=groups)
    if self.groups == 1:
      return convolve(x, kernel)
    # XLA's CPU convolution by groups takes up to 6 times as long, its gradient up to 50 times.
    apart = lambda x, kernel: jnp.concatenate([convolve(*one) for one in zip(
        jnp.split(x, self.groups, -1), jnp.split(kernel, self.groups, -1))], -1)
    return jax.lax.platform_dependent(
        x, kernel, cpu=apart, default=lambda x, kernel: convolve(x, kernel, self.groups))
