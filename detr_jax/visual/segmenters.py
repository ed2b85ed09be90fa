"""Where a segmenter looks, and how its classes lie to each other (Segmenter, figures 8 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from detr_jax.visual.attention import light
from detr_jax.visual.maps import Colours
from vit_jax.visual import style

if TYPE_CHECKING:
  from matplotlib.figure import Figure

SIDE = 320  # pixels of the longer side of a picture


def draw_lit(image: np.ndarray, rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> Figure:
  """Returns the image lit by maps, a row of pictures for each list.

  Args:
    image: uint8 `[height, width, 3]`.
    rows: (title, attention `[rows, columns]`) of each picture.
  """
  columns, height = max(map(len, rows)), image.shape[0] / image.shape[1]
  figure = style.new_figure(2. * columns, (2. * height + .25) * len(rows))
  for line, axes in zip(rows, figure.subplots(len(rows), columns, squeeze=False)):
    for n, axis in enumerate(axes):
      if n >= len(line):
        axis.set_axis_off()
        continue
      title, map_ = line[n]
      style.picture(axis, light(image, map_ / max(map_.max(), 1e-20), SIDE))
      axis.set_title(style.shorten(title, 24), fontsize=style.SMALL)
  return figure


def project(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns embeddings `[classes, width]` by their two largest singular directions, `[classes, 2]`, and
  the share of the variance that these hold, `[2]`."""
  centred = np.asarray(embeddings, np.float64) - np.mean(embeddings, 0)
  left, values, _ = np.linalg.svd(centred, full_matrices=False)
  return (left * values)[:, :2], values[:2] ** 2 / max((values ** 2).sum(), 1e-30)


def draw_classes(embeddings: np.ndarray, classes: Sequence[str], colours: Colours) -> Figure:
  """Returns a point for each class, where its embedding lies; arguments as `project` and `maps.draw`."""
  places, shares = project(embeddings)
  figure = style.new_figure(6., 5.)
  axes = style.tidy(figure.subplots(), x=f'first direction, {shares[0]:.0%} of the variance',
                    y=f'second, {shares[1]:.0%}')
  axes.scatter(*places.T, s=30, c=np.asarray(colours, float) / 255., edgecolors='black', linewidths=.4)
  for place, name in zip(places, classes):
    axes.annotate(style.shorten(name, 18), place, xytext=(4, 3), textcoords='offset points',
                  fontsize=style.SMALL)
  return figure
