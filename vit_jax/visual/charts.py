"""Draws how a run went: its curves, and the classes it mixes up, as matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vit_jax.errors import UserError
from vit_jax.visual import style

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure


def draw_confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
  """Confusion matrix, coloured by the share of each true class.

  Names appear up to 40 classes, counts in the cells up to 12. Colours follow the square root of
  the share: a class lost to another once in a hundred times still shows.

  Args:
    matrix: int `[K, K]`, rows are the truth, see `confusion.confusion_matrix`.
    class_names: K names.

  Raises:
    UserError: there are not as many names as classes.
  """
  from matplotlib.colors import PowerNorm
  count = len(matrix)
  if len(class_names) != count:
    raise UserError(f'{len(class_names)} class names for a confusion matrix of {count} classes.')
  share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
  side = float(np.clip(2.4 + .24 * count, 3.4, 8.))
  figure = style.new_figure(side + 1., side)
  axes = style.tidy(figure.subplots(), x='predicted class', y='true class')
  image = axes.imshow(share, cmap='Blues', norm=PowerNorm(.5, 0, 1), interpolation='nearest')
  axes.tick_params(length=0)
  if count <= 40:
    names = [style.shorten(name, 22) for name in class_names]
    axes.set_xticks(range(count), names, rotation=90 if count > 3 else 0, parse_math=False)
    axes.set_yticks(range(count), names, parse_math=False)
  if count <= 12:
    for row, column in np.ndindex(count, count):
      axes.text(column, row, matrix[row, column] or '·', ha='center', va='center',
                fontsize=style.SMALL, color='white' if share[row, column] > .3 else style.INK)
  style.colorbar(figure, image, axes, 'share of the true class', ticks=(0, .01, .1, .25, .5, 1))
  return figure


PANELS = ('loss', 'accuracy', 'precision_at_1', 'ap', 'ap50', 'pq', 'learning_rate')


def draw_curves(metrics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
  """Loss, main measures and, small, the learning rate over the steps of a run.

  Args:
    metrics: `(steps, values)` by name, see `curves.read_metrics`. The part before the last slash
      names the line (`train`, `test`), the part after it the panel, one of `PANELS`;
      other names are not drawn.

  Raises:
    UserError: none of them has been logged yet.
  """
  panels = {}
  for name, series in metrics.items():
    line, _, what = name.rpartition('/')
    if what in PANELS:
      panels.setdefault(what, {})[line] = series
  if not panels:
    raise UserError('the run has logged no loss, measure or learning rate yet.')
  order = [what for what in PANELS if what in panels]
  heights = [1. if what == 'learning_rate' else 2.6 for what in order]
  figure = style.new_figure(6.4, sum(heights) + .5)
  rows = figure.subplots(len(order), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
  for axes, what in zip(rows, order):
    _lines(style.tidy(axes, y=what.replace('_', ' ')), panels[what], legend=what != 'learning_rate')
  rows[-1].set_xlabel('step', fontsize=style.NORMAL, color=style.MUTED)
  figure.align_ylabels(rows)
  return figure


def _lines(axes: Axes, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], legend: bool) -> None:
  fixed = {'train': style.BLUE, 'test': style.ORANGE}
  spare = iter((style.GREEN, style.PINK, style.INK) * len(lines))
  for name, (steps, values) in lines.items():
    color = fixed.get(name) or next(spare)
    axes.plot(steps, values, color=color, linewidth=1.4, label=name or None,
              marker='o' if len(steps) <= 25 else None, markersize=3.5, markeredgewidth=0)
  axes.grid(axis='y', color=style.LINE, linewidth=.6)
  axes.set_axisbelow(True)
  axes.margins(x=.02)
  if legend and any(lines):
    axes.legend(frameon=False, fontsize=style.SMALL, labelcolor=style.INK)
