"""The look that all pictures share, and what they all need.

Colours are Okabe and Ito's, which stay apart for every kind of colour vision. Settings go to each
figure by hand: matplotlib's global ones belong to the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vit_jax.errors import UserError

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

INK, MUTED, LINE = '#1f2430', '#687080', '#dfe3ea'
BLUE, ORANGE, GREEN, PINK = '#0072b2', '#d55e00', '#009e73', '#cc79a7'
SMALL, NORMAL, LARGE = 8, 9, 11  # points


def new_figure(width: float, height: float, layout: str | None = 'compressed') -> Figure:
  """An empty white figure of `width` x `height` inches, apart from pyplot's global state.

  `layout` is matplotlib's: 'compressed' keeps a colour bar as tall as its image, 'constrained'
  suits images of different shapes, None leaves all places to the caller.
  """
  from matplotlib.figure import Figure
  figure = Figure((width, height), layout=layout, facecolor='white')
  if layout:
    figure.get_layout_engine().set(w_pad=.12, h_pad=.12)
  return figure


def tidy(axes: Axes, title: str = '', x: str = '', y: str = '') -> Axes:
  """Quiet spines, ticks and labels; `title`, `x` and `y` are plain text. Returns the axes."""
  for side, spine in axes.spines.items():
    spine.set_visible(side in ('left', 'bottom'))
    spine.set_color(LINE)
  axes.tick_params(colors=LINE, labelcolor=MUTED, labelsize=SMALL, length=3)
  axes.set_title(title, loc='left', fontsize=LARGE, color=INK, pad=8, parse_math=False)
  axes.set_xlabel(x, fontsize=NORMAL, color=MUTED)
  axes.set_ylabel(y, fontsize=NORMAL, color=MUTED)
  return axes


def colorbar(figure: Figure, image, axes: Axes | Sequence[Axes], label: str, **options) -> None:
  """A thin frameless colour bar beside `axes`."""
  bar = figure.colorbar(image, ax=axes, aspect=32, pad=.02, **options)
  bar.outline.set_visible(False)
  bar.ax.tick_params(color=LINE, labelcolor=MUTED, labelsize=SMALL, length=2)
  bar.set_label(label, fontsize=NORMAL, color=MUTED)


def picture(axes: Axes, image: np.ndarray) -> None:
  """Draws an image uint8 `[h, w, 1|3]` without ticks or frame, pressed to the lower left."""
  axes.imshow(rgb(image))
  axes.set_anchor('SW')
  axes.axis('off')


def rgb(image: np.ndarray) -> np.ndarray:
  """An image `[h, w, 1|3]` as `[h, w, 3]`, same type. UserError for another number of channels."""
  image = np.asarray(image)
  if image.ndim != 3 or image.shape[-1] not in (1, 3):
    raise UserError(f'an image has shape [height, width, 1 or 3], not {list(image.shape)}.')
  return np.broadcast_to(image, image.shape[:2] + (3,))


def mosaic(tiles: np.ndarray, gap: int = 1) -> np.ndarray:
  """Joins tiles `[rows, columns, h, w, ...]` to one masked array, `gap` masked pixels between.

  One array draws in a moment where hundreds of little axes take seconds.
  """
  rows, columns, height, width = tiles.shape[:4]
  rest = tiles.shape[4:]
  shape = (rows, height + gap, columns, width + gap) + rest
  joined = np.ma.array(np.zeros(shape, tiles.dtype), mask=True)  # assigning unmasks
  joined[:, :height, :, :width] = np.moveaxis(tiles, 1, 2)
  flat = joined.reshape((rows * (height + gap), columns * (width + gap)) + rest)
  return flat[:flat.shape[0] - gap, :flat.shape[1] - gap]


def shorten(text: str, limit: int) -> str:
  """One line of at most `limit` characters; what is cut away shows as an ellipsis."""
  text = ' '.join(str(text).split())
  return text if len(text) <= limit else text[:limit - 1].rstrip() + '…'
