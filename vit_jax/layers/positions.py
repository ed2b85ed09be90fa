"""Position embeddings: learned and sin-cos tables, and their resampling to another grid."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np

from vit_jax.errors import UserError, unknown


def sincos_2d(grid: tuple[int, int], width: int, temperature: float = 10_000.) -> np.ndarray:
  """Returns fixed 2-D positions (MoCo v3, arXiv:2104.02057, section 5).

  Args:
    grid: (height, width) in patches.
    width: of the embedding; a multiple of 4.
    temperature: the longest wavelength over 2 pi.

  Returns:
    float32 `[1, grid height * grid width, width]`: sin x, cos x, sin y, cos y, a quarter each.

  Raises:
    UserError: when 4 does not divide the width.
  """
  if width % 4:
    raise UserError(f'sin-cos positions need a width that 4 divides, not {width}')
  y, x = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing='ij')
  omega = temperature ** -(np.arange(width // 4) / max(width // 4 - 1, 1))
  x, y = x.reshape(-1, 1) * omega, y.reshape(-1, 1) * omega
  return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], 1)[None].astype(np.float32)


def corner_aligned_linear(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Resamples `[h, w, d]` to `[*grid, d]` linearly, corners on corners, each axis by itself.

  The rule of vision_transformer and big_vision (ViT paper, section 3.2), which they write for
  square grids alone. Computed in float64.
  """
  table = np.asarray(table, np.float64)
  for axis, size in enumerate(grid):
    old = table.shape[axis]
    at = np.linspace(0., old - 1., size) if size > 1 else np.zeros(1)
    low = np.minimum(at.astype(int), max(old - 2, 0))
    share = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
    high = np.minimum(low + 1, old - 1)
    table = np.take(table, low, axis) * (1. - share) + np.take(table, high, axis) * share
  return table


def _triangle(x: np.ndarray) -> np.ndarray:
  return np.maximum(1. - np.abs(x), 0.)


def _cubic(a: float) -> Callable[[np.ndarray], np.ndarray]:
  """Returns the convolution kernel of Keys (IEEE TASSP 29(6), 1981) with slope `a` at 1."""
  def kernel(x):
    x = np.abs(x)
    near = (a + 2.) * x**3 - (a + 3.) * x**2 + 1.
    far = a * (x**3 - 5. * x**2 + 8. * x - 4.)
    return np.where(x <= 1., near, np.where(x < 2., far, 0.))
  return kernel


def _half_pixel(table: np.ndarray, grid: tuple[int, int], kernel: Callable, antialias: bool
                ) -> np.ndarray:
  """Resamples `[h, w, d]` to `[*grid, d]` by a kernel; centres of pixels stand at .5, 1.5, ...

  Beyond the border lies the border's own value. With `antialias` the kernel widens where the table
  shrinks, and what lies beyond the border does not count. Computed in float64.
  """
  table = np.asarray(table, np.float64)
  for axis, size in enumerate(grid):
    old = table.shape[axis]
    at = (np.arange(size) + .5) * (old / size) - .5
    margin = 2  # the reach of the widest kernel
    offsets = np.arange(-margin, old + margin) - at[:, None]
    weights = kernel(offsets / max(old / size, 1.) if antialias else offsets)
    inner = weights[:, margin:-margin]
    if antialias:
      inner = inner / inner.sum(axis=1, keepdims=True)
    else:
      inner[:, 0] += weights[:, :margin].sum(axis=1)
      inner[:, -1] += weights[:, -margin:].sum(axis=1)
    table = np.moveaxis(np.tensordot(inner, table, (1, axis)), 0, axis)
  return table


def bilinear(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Half-pixel linear without antialiasing: Segmenter, and torch's `interpolate(mode='bilinear')`."""
  return _half_pixel(table, grid, _triangle, antialias=False)


def bicubic(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Half-pixel cubic, a = -0.75, without antialiasing: torch's `interpolate(mode='bicubic')`.

  DeiT's rule for position tables and Swin's for relative-position biases (`[1, h * w, heads]`).
  """
  return _half_pixel(table, grid, _cubic(-.75), antialias=False)


def antialiased_bicubic(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Half-pixel cubic, a = -0.5, antialiased: timm's rule, also that of PIL and `jax.image.resize`."""
  return _half_pixel(table, grid, _cubic(-.5), antialias=True)


# By the code base that a table comes from; they differ by a good part of the table's own size.
RESAMPLING = dict(
    corner_aligned_linear=corner_aligned_linear,  # vision_transformer, big_vision
    bilinear=bilinear,  # Segmenter
    bicubic=bicubic,  # DeiT; Swin's bias tables, and from there Video Swin and DiNAT
    antialiased_bicubic=antialiased_bicubic)  # timm


def square_grid(entries: int) -> tuple[int, int]:
  """Returns the (height, width) of a square grid with so many patches.

  Raises:
    UserError: when that is no square.
  """
  side = math.isqrt(entries)
  if side * side != entries:
    raise UserError(f'a position table for {entries} patches belongs to an image that is not square; '
                    'give the image size that it was trained at: --image_size=HEIGHTxWIDTH of a '
                    'command, trained_image_size of vit_jax.load, or config.init_image_size')
  return side, side


def resample(table: np.ndarray, old_grid: tuple[int, int], grid: tuple[int, int],
             num_prefix: int = 1, method: str = 'corner_aligned_linear') -> np.ndarray:
  """Resamples a position table to another grid; entries of the class tokens are kept.

  A table of relative-position biases is one without class tokens, its heads taken as the depth.

  Args:
    table: `[1, num_prefix + h * w, d]`.
    old_grid: (h, w) of the table, in patches.
    grid: the wanted (h, w), in patches.
    num_prefix: entries in front that belong to no patch.
    method: one of `RESAMPLING`: the rule of the code base that the table comes from.

  Returns:
    `[1, num_prefix + grid height * grid width, d]` in the table's dtype.

  Raises:
    UserError: for an unknown method.
  """
  if method not in RESAMPLING:
    raise unknown('resampling method', method, RESAMPLING)
  table = np.asarray(table)
  prefix, patches = table[:, :num_prefix], table[0, num_prefix:]
  patches = RESAMPLING[method](patches.reshape(*old_grid, -1), grid)
  return np.concatenate([prefix, patches.reshape(1, grid[0] * grid[1], -1).astype(table.dtype)], 1)


class LearnedPositions(nn.Module):
  """Adds a learned table to tokens `[batch, tokens, width]` (ViT paper, equation 1).

  The table `pos_embedding` is `[1, tokens, width]`, drawn from N(0, 0.02).
  """

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    shape = (1, *tokens.shape[1:])
    if self.has_variable('params', 'pos_embedding'):
      entries = self.get_variable('params', 'pos_embedding').shape[1]
      if entries != shape[1]:
        raise UserError(f'the position table holds {entries} entries, the image gives {shape[1]} '
                        'tokens; load the weights for this image size (vit_jax.load(..., '
                        'image_size=...) or init_from), which resamples the table')
    table = self.param('pos_embedding', nn.initializers.normal(stddev=.02), shape)
    return tokens + table.astype(tokens.dtype)
