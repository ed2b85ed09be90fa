"""Pictures of label maps: over their images, with a legend."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from detr_jax.data.sources.label_maps import IGNORED
from detr_jax.visual.boxes import colour

Colours = Sequence[tuple[int, int, int]]
NAMED = 40  # classes that a legend names at most


def colours_of(info) -> Colours:
  """Returns the colour of each class of a `SegmentationInfo`: that of the data's legend, or our own."""
  return info.colours or tuple(colour(i) for i in range(info.num_classes))


def coloured(labels: np.ndarray, colours: Colours) -> np.ndarray:
  """Returns uint8 `[height, width, 3]` of labels `[height, width]`; black where none counts."""
  table = np.zeros((IGNORED + 1, 3), np.uint8)
  table[:len(colours)] = colours
  return table[labels]


def overlaid(image: np.ndarray, labels: np.ndarray, colours: Colours) -> np.ndarray:
  """Returns an image uint8 `[height, width, 3]` with half of each pixel in the colour of its class."""
  counts = (labels != IGNORED)[..., None]
  return np.where(counts, image // 2 + coloured(labels, colours) // 2, image)


def draw(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], shown: Sequence[int],
         classes: Sequence[str], colours: Colours) -> Figure:
  """Returns a figure with a row of pictures for each image, and a legend of the classes in them.

  Args:
    rows: pictures uint8 `[height, width, 3]`.
    titles: of the columns.
    shown: labels that the legend names.
    classes, colours: of all labels.
  """
  shown = [k for k in shown if k < len(classes)][:NAMED]
  columns = len(rows[0])
  height, width = rows[0][0].shape[:2]
  side = 3.2
  figure = Figure((side * columns, side * height / width * len(rows) + .3 + .22 * -(-len(shown) // 4)),
                  layout='constrained')
  axes = figure.subplots(len(rows), columns, squeeze=False)
  for n, (line, pictures) in enumerate(zip(axes, rows)):
    for k, axis in enumerate(line):
      axis.axis('off')
      if k < len(pictures):
        axis.imshow(pictures[k], interpolation='nearest')
      if n == 0 and k < len(titles):
        axis.set_title(titles[k], fontsize=9)
  handles = [Patch(color=np.asarray(colours[k]) / 255., label=classes[k]) for k in shown]
  figure.legend(handles=handles, loc='outside lower center', ncols=4, fontsize=8, frameon=False)
  return figure


def bars(values: np.ndarray, classes: Sequence[str], colours: Colours) -> Figure:
  """Returns a bar for the IoU of each class, best first; classes without one are left out."""
  order = [k for k in np.argsort(-np.nan_to_num(values, nan=-1.)) if np.isfinite(values[k])]
  figure = Figure((6., 1. + .22 * len(order)), layout='constrained')
  axis = figure.subplots()
  axis.barh(range(len(order)), [values[k] for k in order], color=[np.asarray(colours[k]) / 255.
                                                                 for k in order])
  axis.set_yticks(range(len(order)), [f'{classes[k]} {values[k]:.1%}' for k in order], fontsize=8)
  axis.invert_yaxis()
  axis.set_xlim(0., 1.)
  axis.spines[['top', 'right']].set_visible(False)
  return figure
