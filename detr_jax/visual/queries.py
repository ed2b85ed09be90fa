"""What each query has specialised in: where its boxes lie, and how large they are (DETR, figure 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vit_jax.visual import style

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def box_colours(boxes: np.ndarray) -> np.ndarray:
  """Returns a colour for each box: green for small, red for wide, blue for tall (DETR, figure 7).

  Args:
    boxes: `[..., 4]` (centre x, centre y, width, height) as shares of the image.

  Returns:
    float `[..., 3]` in [0, 1].
  """
  size = np.clip(np.asarray(boxes, np.float64)[..., 2:], 1e-6, 1.)
  large = size.max(axis=-1)
  width = size[..., 0] / size.sum(axis=-1)
  colours = np.stack([large * width, (1. - large) * .75, large * (1. - width)], axis=-1)
  return colours / np.maximum(colours.max(axis=-1, keepdims=True), 1e-6) * .9


def draw_query_boxes(boxes: np.ndarray, count: int = 20, columns: int = 10) -> Figure:
  """The centres of all boxes of each of the first queries over all images (DETR, figure 7).

  Args:
    boxes: `[images, queries, 4]` (centre x, centre y, width, height) as shares of the image.
    count: of queries to show.
    columns: of them in a row.
  """
  shown = np.asarray(boxes, np.float64)[:, :count]
  colours = box_colours(shown)
  total = shown.shape[1]
  columns = min(columns, total)
  rows = -(-total // columns)
  figure = style.new_figure(.95 * columns + .2, 1.1 * rows + .2)
  cells = figure.subplots(rows, columns, squeeze=False).ravel()
  for query, axes in enumerate(cells):
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=(), yticks=(), aspect='equal')
    for spine in axes.spines.values():
      spine.set_color(style.LINE)
    if query >= total:
      axes.set_axis_off()
      continue
    axes.scatter(shown[:, query, 0], shown[:, query, 1], s=4, c=colours[:, query], linewidths=0,
                 rasterized=True)
    axes.set_title(str(query), fontsize=style.SMALL, color=style.MUTED, pad=2)
  return figure
