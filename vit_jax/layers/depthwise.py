"""Depthwise convolution: a kernel for each channel (ConvNeXt, arXiv:2201.03545, section 2.3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp


@jax.custom_vjp
def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves each channel with its own kernel, stride 1, zeros around.

  On a CPU, shifted copies of the map are multiplied and added: XLA's convolution takes 18 times as long
  for 7x7 kernels (benchmarks/depthwise.py). Elsewhere it is XLA's convolution. The gradient keeps the
  two arguments alone; there is no second derivative.

  Args:
    x: `[batch, height, width, channels]`.
    kernel: `[k, k, channels]`, k odd.

  Returns:
    `[batch, height, width, channels]` in the dtype of `x`, summed in float32.
  """
  return jax.lax.platform_dependent(x, kernel, cpu=_shifted, default=_grouped)


def _forward(x, kernel):
  return depthwise(x, kernel), (x, kernel)


def _backward(kept, gradient):
  x, kernel = kept
  to_kernel = jax.lax.platform_dependent(x, kernel, gradient, cpu=_kernel_by_rows,
                                         default=_kernel_grouped)
  return depthwise(gradient, kernel[::-1, ::-1]), to_kernel


depthwise.defvjp(_forward, _backward)


def _padded(x, size):
  return jnp.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))


def _shifted(x, kernel):
  size, (height, width) = kernel.shape[0], x.shape[1:3]
  around, total = _padded(x, size), jnp.zeros(x.shape, jnp.float32)
  for i in range(size):
    for j in range(size):
      total += (around[:, i:i + height, j:j + width] * kernel[i, j]).astype(jnp.float32)
  return total.astype(x.dtype)


def _grouped(x, kernel):
  return jax.lax.conv_general_dilated(
      x, kernel[:, :, None], (1, 1), [(kernel.shape[0] // 2,) * 2] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=x.shape[-1])


def _kernel_by_rows(x, kernel, gradient):
  """Returns the gradient of the kernel, added row by row, so that what is read stays in the cache."""
  size, width = kernel.shape[0], x.shape[2]
  around = _padded(x, size).astype(jnp.float32)

  def add(row, total):
    rows = jax.lax.dynamic_slice_in_dim(around, row, size, axis=1)
    of = jax.lax.dynamic_slice_in_dim(gradient, row, 1, axis=1).astype(jnp.float32)
    return total + jnp.stack([(rows[:, :, j:j + width] * of).sum((0, 2)) for j in range(size)], axis=1)

  start = jnp.zeros(kernel.shape, jnp.float32)
  return jax.lax.fori_loop(0, x.shape[1], add, start).astype(kernel.dtype)


def _kernel_grouped(x, kernel, gradient):
  return jax.vjp(lambda k: _grouped(x, k), kernel)[1](gradient)[0]


class DepthwiseConv(nn.Module):
  """A depthwise convolution with a bias: `[batch, h, w, c]` to the same.

  Parameters: `kernel` `[k, k, c]`, `bias` `[c]`.

  Attributes:
    kernel_size: an odd number of pixels.
    kernel_init: of the kernel.
    dtype: compute dtype.
  """
  kernel_size: int
  kernel_init: nn.initializers.Initializer = nn.initializers.normal(stddev=.02)
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Convolves."""
    channels = x.shape[-1]
    kernel = self.param('kernel', self.kernel_init, (self.kernel_size,) * 2 + (channels,))
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    return depthwise(x.astype(self.dtype), kernel.astype(self.dtype)) + bias.astype(self.dtype)
