"""What the matching chooses from: the cost of each pair of a query and a target (DETR, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vit_jax.visual import style

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def draw_costs(costs: np.ndarray, query: Sequence[int], names: Sequence[str]) -> Figure:
  """The costs as a picture, a row per target, with a frame around each pair that was matched.

  Args:
    costs: `[queries, targets]`, see `ops.matching.cost`; numbers appear up to 30 queries.
    query: `[targets]`, the query of each target, or -1, see `ops.matching.match`.
    names: of the targets.
  """
  from matplotlib.patches import Rectangle
  costs = np.asarray(costs, np.float64).T
  targets, queries = costs.shape
  width = min(1.8 + .36 * queries, 10.)
  figure = style.new_figure(width, 1.1 + .36 * targets)
  axes = style.tidy(figure.subplots(), x='query')
  image = axes.imshow(costs, cmap='Blues_r', aspect='auto', interpolation='nearest')
  axes.tick_params(length=0)
  axes.set_yticks(range(targets), [style.shorten(name, 18) for name in names], parse_math=False)
  step = 1 if queries <= 30 else 10
  axes.set_xticks(range(0, queries, step))
  if queries <= 30:
    middle = (costs.min() + costs.max()) / 2
    for row, column in np.ndindex(*costs.shape):
      axes.text(column, row, f'{costs[row, column]:.1f}', ha='center', va='center', fontsize=6,
                color='white' if costs[row, column] < middle else style.INK)
  for row, column in enumerate(query):
    if column >= 0:
      axes.add_patch(Rectangle((column - .5, row - .5), 1, 1, fill=False, edgecolor=style.ORANGE,
                               linewidth=2, clip_on=False))
  style.colorbar(figure, image, axes, 'cost')
  return figure
