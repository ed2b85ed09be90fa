"""Intersection over union of classes, of all pixels of a split together.

By size of objects (Segmenter's table 4, whose definition is not published): the same, of the pixels in
regions of the ground truth that are small, medium or large alone, see `data.regions`.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from detr_jax.data.regions import SIZES
from detr_jax.data.sources.label_maps import IGNORED
from vit_jax import sharding


def confusion(labels: jax.Array, found: jax.Array, num_classes: int) -> jax.Array:
  """Returns how many pixels of each class (rows) were given each class (columns).

  Args:
    labels: int `[...]`; 255 counts nowhere.
    found: int `[...]`, 0 to num_classes - 1.
    num_classes: of both.

  Returns:
    int32 `[classes, classes]`.
  """
  counts = labels != IGNORED
  at = jnp.where(counts, labels.astype(jnp.int32) * num_classes + found, num_classes ** 2)
  return jnp.bincount(at.reshape(-1), length=num_classes ** 2 + 1)[:-1].reshape((num_classes,) * 2)


def measures(counts: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
  """Returns (mean IoU, pixel accuracy, mean accuracy; IoU of each class) of a confusion matrix.

  A class that neither occurs nor was found has no IoU, and a class that does not occur no accuracy:
  the means are over the others.
  """
  right, there, found = np.diag(counts).astype(float), counts.sum(1), counts.sum(0)
  with np.errstate(invalid='ignore', divide='ignore'):
    iou, accuracy = right / (there + found - right), right / there
  mean = lambda x: float(np.nanmean(x)) if np.isfinite(x).any() else 0.
  return dict(miou=mean(iou), pixel_accuracy=float(right.sum() / max(there.sum(), 1)),
              mean_accuracy=mean(accuracy)), iou


class MeanIoU:
  """Mean IoU over a split, and by size; confusions are counted on the devices, every image once."""

  def __init__(self, segment: Callable, classes: Sequence[str]):
    """Takes what gives int classes `[batch, height, width]` of (params, state, batch), and names."""
    self._segment, self._classes = segment, classes

  def step(self, params, model_state, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the confusions of a batch, for each size of regions: `[sizes, classes, classes]`."""
    found = sharding.constrain(self._segment(params, model_state, batch))
    labels = jnp.where(batch['mask'][:, None, None] > 0., batch['labels'], IGNORED)
    return jnp.stack([confusion(jnp.where(batch['areas'] == size, labels, IGNORED), found,
                                len(self._classes)) for size in range(len(SIZES))])

  def update(self, total, outputs):
    """Adds the confusions of a batch, on the host."""
    return np.asarray(outputs, np.int64) + (0 if total is None else total)

  def finish(self, total) -> dict[str, float]:
    """Returns `miou`, `pixel_accuracy` and `mean_accuracy`, and `miou_small`, `miou_medium` and
    `miou_large` of the sizes that there are."""
    by_size = {f'miou_{size}': measures(counts)[0]['miou'] for size, counts in zip(SIZES, total)
               if counts.any()}
    return measures(total.sum(0))[0] | by_size

  def tables(self, total) -> dict[str, list[dict]]:
    """Returns the IoU and the pixels of each class."""
    total = total.sum(0)
    iou = measures(total)[1]
    return dict(classes=[
        {'class': name, 'iou': None if np.isnan(value) else round(float(value), 6),
         'pixels': int(n)} for name, value, n in zip(self._classes, iou, total.sum(1))])
