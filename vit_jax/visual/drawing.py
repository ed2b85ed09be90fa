"""Draws what a model has learnt (ViT paper, Fig. 7), as matplotlib figures.

Every function takes arrays that this package's other modules compute and returns a
`matplotlib.figure.Figure`: write it with `figure.savefig(path, dpi=200)` or embed it with `page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vit_jax.visual import style

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure


def draw_filters(filters: np.ndarray, shares: np.ndarray | None = None, columns: int = 7) -> Figure:
  """Principal filters of the patch embedding as a grid (ViT paper, Fig. 7 left).

  Args:
    filters: float `[n, P, Q, C]` in [0, 1], see `filters.principal_filters`. Three channels are
      shown as colour, any other number as the grey mean.
    shares: float `[n]`, parts of the variance, for the title.
    columns: filters per row.
  """
  filters = filters if filters.shape[-1] == 3 else filters.mean(-1, keepdims=True).repeat(3, -1)
  enlarge = -(-24 // filters.shape[1])  # so that the gaps are thin beside tiny patches too
  filters = filters.repeat(enlarge, 1).repeat(enlarge, 2)
  rows = -(-len(filters) // columns)
  blank = np.ones((rows * columns - len(filters),) + filters.shape[1:])
  tiles = np.concatenate([filters, blank]).reshape((rows, columns) + filters.shape[1:])
  joined = style.mosaic(tiles, filters.shape[1] // 12).filled(1.)
  figure = style.new_figure(6., 6. * joined.shape[0] / joined.shape[1] + .35)
  axes = style.tidy(figure.subplots())
  axes.imshow(joined, interpolation='nearest')
  axes.axis('off')
  if shares is not None:
    style.tidy(axes, f'{len(filters)} components, {100 * shares.sum():.0f} % of the variance')
    axes.set_axis_off()
  return figure


def draw_position_similarity(similarity: np.ndarray, title: str = '', limit: int = 14) -> Figure:
  """One small map per patch: how similar its position is to all (ViT paper, Fig. 7 centre).

  Args:
    similarity: float `[h, w, h, w]`, see `positions.position_similarity`.
    title: plain text above.
    limit: at most so many rows and columns of maps; of a larger grid, evenly spaced ones.
  """
  rows, columns = np.minimum(similarity.shape[:2], limit) * similarity.shape[2:]
  figure = style.new_figure(5.6, .8 + 4.4 * float(np.clip(rows / columns, .2, 2.)))
  axes = figure.subplots()
  image = _similarity_maps(axes, similarity, title, limit)
  style.colorbar(figure, image, axes, 'cosine similarity', ticks=(-1, -.5, 0, .5, 1))
  return figure


def draw_position_pair(before: np.ndarray, after: np.ndarray,
                       titles: Sequence[str] = ('before', 'after interpolation'),
                       limit: int = 14) -> Figure:
  """Two position tables side by side, to see what interpolation keeps (ViT paper, section 3.2).

  Args:
    before: float `[h, w, h, w]`, see `positions.position_similarity`.
    after: the same of another grid.
    titles: plain text above each.
    limit: as in `draw_position_similarity`.
  """
  figure = style.new_figure(11.2, 5.2, layout='constrained')
  panels = figure.subplots(1, 2)
  for axes, similarity, title in zip(panels, (before, after), titles):
    height, width = similarity.shape[:2]
    image = _similarity_maps(axes, similarity, f'{title}: {height} × {width}', limit)
  style.colorbar(figure, image, panels, 'cosine similarity', ticks=(-1, -.5, 0, .5, 1))
  return figure


def _similarity_maps(axes: Axes, similarity: np.ndarray, title: str, limit: int):
  height, width = similarity.shape[:2]
  rows, columns = _evenly(height, limit), _evenly(width, limit)
  gap = max(1, round(max(height, width) / 9))
  image = axes.imshow(style.mosaic(similarity[np.ix_(rows, columns)], gap), cmap='viridis',
                      vmin=-1, vmax=1, interpolation='nearest')
  style.tidy(axes, title, 'patch column', 'patch row')
  axes.spines[:].set_visible(False)
  axes.tick_params(length=0)
  axes.set_xticks(np.arange(len(columns)) * (width + gap) + (width - 1) / 2, columns + 1)
  axes.set_yticks(np.arange(len(rows)) * (height + gap) + (height - 1) / 2, rows + 1)
  return image


def _evenly(length: int, limit: int) -> np.ndarray:
  """At most `limit` evenly spaced indices of 0 .. length - 1, both ends included."""
  return np.linspace(0, length - 1, min(length, limit)).round().astype(int)


def draw_attention_distance(distances: np.ndarray) -> Figure:
  """One dot per head over the depth of the network (ViT paper, Fig. 7 right).

  Args:
    distances: float `[layers, heads]` in pixels, see `attention.attention_distance`.
  """
  from matplotlib.ticker import MaxNLocator
  layers = np.arange(1, len(distances) + 1)
  figure = style.new_figure(5.6, 3.8)
  axes = style.tidy(figure.subplots(), x='layer', y='mean attention distance (pixels)')
  axes.plot(layers, distances.mean(1), color=style.ORANGE, linewidth=1.2, label='mean', zorder=1)
  axes.scatter(np.repeat(layers, distances.shape[1]), distances.ravel(), s=26, color=style.BLUE,
               alpha=.6, edgecolors='white', linewidths=.5, label='one head', zorder=2)
  axes.set_ylim(0, max(distances.max(), 1e-6) * 1.08)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axes.legend(frameon=False, fontsize=style.SMALL, labelcolor=style.INK, loc='lower right')
  return figure
