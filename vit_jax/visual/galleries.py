"""Draws images with what a model says about them, as matplotlib figures.

Images are uint8 `[h, w, 1|3]`, of any and differing sizes; each function raises UserError for
another number of channels, and for no image at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vit_jax.errors import UserError
from vit_jax.visual import style

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

Images = Sequence[np.ndarray]
SIDE, GAP, LINE = 1.5, .18, .17  # inches: an image, the space between two, a line of text


def overlay_rollout(image: np.ndarray, attention_map: np.ndarray) -> np.ndarray:
  """The image lit where the model looks, the rest faded to grey (after ViT paper, Fig. 6).

  Args:
    image: uint8 `[h, w, 1|3]`.
    attention_map: float `[rows, columns]` in [0, 1], enlarged to the image bilinearly.

  Returns:
    uint8 `[h, w, 3]`.
  """
  from matplotlib import colormaps
  from PIL import Image
  image = style.rgb(image)
  small = Image.fromarray(np.asarray(attention_map, np.float32))
  weight = np.asarray(small.resize(image.shape[1::-1], Image.Resampling.BILINEAR))
  # Colour on top of grey, so that a black background shows its attention too.
  heat = 255 * colormaps['inferno'](weight)[..., :3]
  grey = image.mean(-1, keepdims=True)
  return (.5 * grey + .65 * heat).clip(0, 255).astype(np.uint8)


def draw_rollouts(images: Images, maps: np.ndarray, names: Sequence[str] = (),
                  columns: int = 3) -> Figure:
  """Each image beside itself under its attention rollout (ViT paper, Fig. 6).

  Args:
    images: n images.
    maps: float `[n, rows, columns]` in [0, 1], see `attention.attention_rollout`.
    names: n lines of text below, or none.
    columns: pairs per row.
  """
  figure, cells = _cells(len(images), columns, 2 * SIDE + .05, 1 if names else 0)
  for index, (image, attention_map) in enumerate(zip(images, maps)):
    lit = overlay_rollout(image, attention_map)
    beside = SIDE * min(1., lit.shape[1] / lit.shape[0]) + .05
    style.picture(_axes(figure, cells(index), 0, SIDE), image)
    style.picture(_axes(figure, cells(index), beside, SIDE), lit)
    if names:
      _caption(figure, cells(index), 0, style.shorten(names[index], 44))
  return figure


def draw_mistakes(images: Images, labels: Sequence[int], probabilities: np.ndarray,
                  class_names: Sequence[str], columns: int = 5) -> Figure:
  """Wrongly classified images: the true class, and the predicted one with its probability.

  Args:
    images: n images, worst first, see `confusion.worst_mistakes`.
    labels: int `[n]`, the true classes.
    probabilities: float `[n, K]`.
    class_names: K names.
    columns: images per row.
  """
  figure, cells = _cells(len(images), columns, SIDE, 2)
  for index, (image, label) in enumerate(zip(images, labels)):
    style.picture(_axes(figure, cells(index), 0, SIDE), image)
    guess = int(np.argmax(probabilities[index]))
    text = f'→ {style.shorten(class_names[guess], 13)} {100 * probabilities[index][guess]:.0f} %'
    _caption(figure, cells(index), 0, style.shorten(class_names[label], 21))
    _caption(figure, cells(index), 1, text, style.ORANGE)
  return figure


def draw_batch(images: Images, captions: Sequence[Sequence[str]], columns: int = 8) -> Figure:
  """A contact sheet: images with up to two lines below each.

  Args:
    images: n images.
    captions: the lines of each.
    columns: images per row.
  """
  figure, cells = _cells(len(images), columns, SIDE, 2)
  for index, (image, lines) in enumerate(zip(images, captions)):
    style.picture(_axes(figure, cells(index), 0, SIDE), image)
    for number, line in enumerate(lines[:2]):
      _caption(figure, cells(index), number, style.shorten(line, 22),
               style.MUTED if number else style.INK)
  return figure


def draw_predictions(images: Images, probabilities: np.ndarray, class_names: Sequence[str],
                     top_k: int = 5, names: Sequence[str] = (), columns: int = 2) -> Figure:
  """Each image beside bars of its most probable classes.

  Args:
    images: n images.
    probabilities: float `[n, K]`.
    class_names: K names.
    top_k: how many classes to show; six fit beside an image, more are not drawn.
    names: n lines of text below, such as file names, or none.
    columns: images per row.
  """
  figure, cells = _cells(len(images), columns, 2 * SIDE + .65, 1 if names else 0)
  for index, (image, row) in enumerate(zip(images, probabilities)):
    style.picture(_axes(figure, cells(index), 0, SIDE), image)
    _bars(_axes(figure, cells(index), SIDE + .15, SIDE + .3), row, class_names, top_k)
    if names:
      _caption(figure, cells(index), 0, style.shorten(names[index], 46))
  return figure


def _bars(axes: Axes, row: np.ndarray, class_names: Sequence[str], top_k: int) -> None:
  """Name above, thin bar below, percentage at the right: long names need no margin."""
  best = np.argsort(-row, kind='stable')[:min(top_k, 6)]
  for place, index in enumerate(best):
    axes.barh(place, 1, .14, color=style.LINE)
    axes.barh(place, row[index], .14, color=style.MUTED if place else style.BLUE)
    text = dict(fontsize=style.SMALL, color=style.MUTED if place else style.INK, va='bottom')
    axes.text(0, place - .17, style.shorten(class_names[index], 20), parse_math=False, **text)
    axes.text(1, place - .17, f'{100 * row[index]:.1f} %', ha='right', **text)
  axes.set(xlim=(0, 1), ylim=(max(len(best), 4) - .8, -.8))
  axes.axis('off')


def _cells(count: int, columns: int, width: float, lines: int):
  """A figure for `count` cells of fixed size, and each one's upper left corner in inches."""
  if not count:
    raise UserError('there are no images to draw.')
  columns = min(columns, count)
  rows, step = -(-count // columns), SIDE + LINE * lines + GAP
  total = (columns * (width + GAP) + GAP, rows * step + GAP)
  figure = style.new_figure(*total, layout=None)

  def corner(index: int) -> tuple[float, float]:
    row, column = divmod(index, columns)
    return GAP + column * (width + GAP), total[1] - GAP - row * step

  return figure, corner


def _axes(figure: Figure, corner: tuple[float, float], right: float, width: float) -> Axes:
  """Axes of `width` x SIDE inches, `right` inches from the cell's upper left corner."""
  w, h = figure.get_size_inches()
  return figure.add_axes(((corner[0] + right) / w, (corner[1] - SIDE) / h, width / w, SIDE / h))


def _caption(figure: Figure, corner: tuple[float, float], line: int, text: str,
             color: str = style.INK) -> None:
  w, h = figure.get_size_inches()
  figure.text(corner[0] / w, (corner[1] - SIDE - .06 - LINE * line) / h, text, va='top',
              fontsize=style.SMALL, color=color, parse_math=False)
