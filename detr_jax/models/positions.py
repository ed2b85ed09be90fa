"""Where things stand: sines and learned tables of a map's entries, and sines of boxes.

DETR's sines count valid entries from 1 and stretch them over a whole turn (arXiv:2005.12872, appendix
A.4), so an image has the same positions whatever it is padded to.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from detr_jax.ops.masks import nearest
from vit_jax.errors import UserError

TURN = 2. * math.pi


def valid(size: jax.Array, grid: tuple[int, int], canvas: tuple[int, int]) -> jax.Array:
  """Returns which entries of a map belong to the image, bool `[batch, *grid]`.

  An entry stands for the pixel that `ops.masks.nearest` shows, as in the authors' models/backbone.py.

  Args:
    size: int `[batch, 2]`, (height, width) of the image, which lies in the upper left corner.
    grid: (height, width) of the map.
    canvas: (height, width) of the padded image.
  """
  rows, columns = (nearest(whole, n) for n, whole in zip(grid, canvas, strict=True))
  return (rows[:, None] < size[:, 0, None, None]) & (columns < size[:, 1, None, None])


def counts(mask: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (y, x) of each entry, counted among the valid ones from 1: float32, as `mask`."""
  mask = mask.astype(jnp.float32)
  return jnp.cumsum(mask, axis=-2), jnp.cumsum(mask, axis=-1)


def waves(angles: jax.Array, width: int, temperature: float = 10_000.) -> jax.Array:
  """Returns sines and cosines in turn, of wavelengths 2 pi to 2 pi * temperature.

  Args:
    angles: float `[...]`.
    width: of the result; even.
    temperature: the longest wavelength over 2 pi.

  Returns:
    float32 `[..., width]`.
  """
  turns = temperature ** (np.arange(width // 2, dtype=np.float32) * 2. / width)
  angles = angles[..., None] / turns
  return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(*angles.shape[:-1], width)


def sine(mask: jax.Array, width: int, temperature: float = 10_000., scale: float | None = TURN
         ) -> jax.Array:
  """Returns the sines of a map's entries.

  Args:
    mask: bool `[batch, h, w]`: the entries that belong to the image.
    width: a multiple of 4.
    temperature: as in `waves`; 20 suits anchors (DAB-DETR, arXiv:2201.12329, section 4.4).
    scale: what the counts of an image's entries are stretched to; None: they stay as they are.

  Returns:
    float32 `[batch, h, w, width]`: y in the first half, x in the second.
  """
  y, x = counts(mask)
  if scale is not None:
    y, x = scale * y / (y[:, -1:, :] + 1e-6), scale * x / (x[:, :, -1:] + 1e-6)
  return jnp.concatenate([waves(n, width // 2, temperature) for n in (y, x)], -1)


def sine_of_boxes(boxes: jax.Array, width: int, temperature: float = 10_000.) -> jax.Array:
  """Returns the sines of boxes `[..., 4]` (cxcywh, shares of the image): `[..., 2 * width]`.

  The first half is laid out as `sine` is: y, then x; height and width follow.
  """
  x, y, w, h = jnp.moveaxis(TURN * boxes.astype(jnp.float32), -1, 0)
  return jnp.concatenate([waves(n, width // 2, temperature) for n in (y, x, h, w)], -1)


def check_grid(grid: tuple[int, int], entries: int) -> None:
  """Raises UserError when a map is larger than the tables of learned positions."""
  if max(grid) > entries:
    raise UserError(f'the learned positions have {entries} rows and columns, the image gives a map of '
                    '{}x{}; set max_positions={} or more'.format(*grid, max(grid)))


def learned(row_embed: jax.Array, col_embed: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """Returns the learned positions of a map: column in the first half, row in the second.

  Args:
    row_embed, col_embed: `[entries, width / 2]`.
    grid: (height, width) of the map.

  Returns:
    `[1, *grid, width]`.

  Raises:
    UserError: when the map is larger than the tables.
  """
  height, width = grid
  check_grid(grid, row_embed.shape[0])
  half = row_embed.shape[1]
  return jnp.concatenate([jnp.broadcast_to(col_embed[:width], (height, width, half)),
                          jnp.broadcast_to(row_embed[:height, None], (height, width, half))], -1)[None]
