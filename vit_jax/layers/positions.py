"""Position embeddings: learned and sin-cos tables, and their resampling to another grid."""

import math

import flax.linen as nn
import jax
import numpy as np

from vit_jax.errors import UserError


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


RESAMPLING = dict(corner_aligned_linear=corner_aligned_linear)


def square_grid(entries: int) -> tuple[int, int]:
  """Returns the (height, width) of a square grid with so many patches.

  Raises:
    UserError: when that is no square.
  """
  side = math.isqrt(entries)
  if side * side != entries:
    raise UserError(f'a position table for {entries} patches belongs to an image that is not square; '
                    'give the image size that it was trained at')
  return side, side


def resample(table: np.ndarray, old_grid: tuple[int, int], grid: tuple[int, int],
             num_prefix: int = 1, method: str = 'corner_aligned_linear') -> np.ndarray:
  """Resamples a position table to another grid; entries of the class tokens are kept.

  Args:
    table: `[1, num_prefix + h * w, d]`.
    old_grid: (h, w) of the table, in patches.
    grid: the wanted (h, w), in patches.
    num_prefix: entries in front that belong to no patch.
    method: one of `RESAMPLING`: the rule of the code base that the table comes from.

  Returns:
    `[1, num_prefix + grid height * grid width, d]` in the table's dtype.
  """
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
