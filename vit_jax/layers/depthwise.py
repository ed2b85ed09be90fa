"""Depthwise convolution: a kernel for each channel (ConvNeXt, arXiv:2201.03545, section 2.3)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax.layers import padding


Around = tuple[tuple[int, int], tuple[int, int]]  # rows above and below, columns left and right


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1, around: Around | None = None,
              dilation: int = 1) -> jax.Array:
  """Convolves each channel with its own kernel.

  On a CPU, shifted copies of the map are multiplied and added: XLA's convolution takes 18 times as long
  for 7x7 kernels (benchmarks/depthwise.py). Elsewhere it is XLA's convolution. The gradient keeps the
  two arrays alone; there is no second derivative.

  Args:
    x: `[batch, height, width, channels]`.
    kernel: `[k, k, channels]`.
    stride: pixels.
    around: zeros on each side; None: k // 2 times the dilation.
    dilation: pixels between the taps.

  Returns:
    `[batch, height / stride, width / stride, channels]` in the dtype of `x`, summed in float32.
  """
  half = kernel.shape[0] // 2 * dilation
  return _depthwise(x, kernel, stride, around or ((half, half), (half, half)), dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise(x, kernel, stride, around, dilation):
  own = dict(stride=stride, around=around, dilation=dilation)
  return jax.lax.platform_dependent(x, kernel, cpu=functools.partial(_shifted, **own),
                                    default=functools.partial(_grouped, **own))


def _forward(x, kernel, stride, around, dilation):
  return _depthwise(x, kernel, stride, around, dilation), (x, kernel)


def _backward(stride, around, dilation, kept, gradient):
  x, kernel = kept
  own = dict(stride=stride, around=around, dilation=dilation)
  to_kernel = jax.lax.platform_dependent(x, kernel, gradient,
                                         cpu=functools.partial(_kernel_by_rows, **own),
                                         default=functools.partial(_kernel_grouped, **own))
  reach = _reach(kernel.shape[0], dilation)
  sides = tuple(_opposite(x.shape[axis], gradient.shape[axis], reach, stride, around[axis - 1])
                for axis in (1, 2))
  if stride > 1:
    gradient = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [
        (0, 0, 0), (0, 0, stride - 1), (0, 0, stride - 1), (0, 0, 0)])
  return _depthwise(gradient, kernel[::-1, ::-1], 1, sides, dilation), to_kernel


_depthwise.defvjp(_forward, _backward)


def _reach(size, dilation):
  """Returns from the first to the last pixel that a kernel sees."""
  return (size - 1) * dilation + 1


def _opposite(length, out, reach, stride, sides):
  """Returns the zeros around a gradient whose convolution has the length of what was convolved."""
  return reach - 1 - sides[0], length + sides[0] - stride * (out - 1) - 1


def _padded(x, around):
  return jnp.pad(x, ((0, 0), *around, (0, 0)))


def _lengths(around, reach, stride):
  """Returns the height and width behind a convolution of a map with its zeros around."""
  return tuple((n - reach) // stride + 1 for n in around.shape[1:3])


def _shifted(x, kernel, stride, around, dilation):
  size, padded = kernel.shape[0], _padded(x, around)
  height, width = _lengths(padded, _reach(size, dilation), stride)
  total = jnp.zeros((x.shape[0], height, width, x.shape[3]), jnp.float32)
  for i in range(size):
    for j in range(size):
      top, left = i * dilation, j * dilation
      part = padded[:, top:top + stride * (height - 1) + 1:stride,
                    left:left + stride * (width - 1) + 1:stride]
      total += (part * kernel[i, j]).astype(jnp.float32)
  return total.astype(x.dtype)


def _grouped(x, kernel, stride, around, dilation):
  return jax.lax.conv_general_dilated(
      x, kernel[:, :, None], (stride, stride), around, rhs_dilation=(dilation, dilation),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=x.shape[-1])


def _kernel_by_rows(x, kernel, gradient, stride, around, dilation):
  """Returns the gradient of the kernel, added row by row, so that what is read stays in the cache."""
  size, padded = kernel.shape[0], _padded(x, around).astype(jnp.float32)
  reach = _reach(size, dilation)
  height, width = _lengths(padded, reach, stride)

  def add(row, total):
    rows = jax.lax.dynamic_slice_in_dim(padded, stride * row, reach, axis=1)[:, ::dilation]
    of = jax.lax.dynamic_slice_in_dim(gradient, row, 1, axis=1).astype(jnp.float32)
    return total + jnp.stack([
        (rows[:, :, left:left + stride * (width - 1) + 1:stride] * of).sum((0, 2))
        for left in range(0, reach, dilation)], axis=1)

  start = jnp.zeros(kernel.shape, jnp.float32)
  return jax.lax.fori_loop(0, height, add, start).astype(kernel.dtype)


def _kernel_grouped(x, kernel, gradient, stride, around, dilation):
  return jax.vjp(lambda k: _grouped(x, k, stride, around, dilation), kernel)[1](gradient)[0]


class DepthwiseConv(nn.Module):
  """A depthwise convolution: `[batch, h, w, c]` to `[batch, h / stride, w / stride, c]`.

  Sizes that the stride does not divide are rounded up. Parameters: `kernel` `[k, k, c]`, `bias` `[c]`.

  Attributes:
    kernel_size: an odd number of pixels.
    kernel_init: of the kernel.
    stride: pixels.
    padding: 'symmetric' or 'same', as `layers.convolution.Conv`.
    use_bias: whether a bias, zero at the start, is added.
    dtype: compute dtype.
    dilation: pixels between the taps, with 'symmetric' padding.
  """
  kernel_size: int
  kernel_init: nn.initializers.Initializer = nn.initializers.normal(stddev=.02)
  stride: int = 1
  padding: str = 'symmetric'
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Convolves; a map that `valid` is given of, see `layers.padding`, is zero outside the images."""
    channels, around, size = x.shape[-1], None, self.kernel_size
    kernel = self.param('kernel', self.kernel_init, (size, size, channels))
    if self.padding == 'same' and self.stride > 1:
      around = ((0, 0), (0, 0)) if valid is not None else tuple(
          padding.around(n, size, self.stride) for n in x.shape[1:3])
      x = x if valid is None else padding.same(x, valid, size, self.stride)
    y = depthwise(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, around, self.dilation)
    if not self.use_bias:
      return y
    return y + self.param('bias', nn.initializers.zeros, (channels,)).astype(self.dtype)
