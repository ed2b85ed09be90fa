"""Regions of label maps: connected pixels of one class, by their area."""

import numpy as np
from scipy import ndimage

from detr_jax.data.sources.label_maps import IGNORED

AREAS = 32 ** 2, 96 ** 2  # pixels where small ends and large begins, as COCO's objects
SIZES = 'small', 'medium', 'large'


def area_classes(labels: np.ndarray) -> np.ndarray:
  """Returns for each pixel how large its region is: 0 small, 1 medium, 2 large.

  A region is a set of pixels of one class that touch by their sides.

  Args:
    labels: int `[height, width]`; 255 belongs to no region, and gives 0.

  Returns:
    uint8 `[height, width]`.
  """
  out = np.zeros(labels.shape, np.uint8)
  for label in np.unique(labels):
    if label != IGNORED:
      regions, _ = ndimage.label(labels == label)
      sizes = np.digitize(np.bincount(regions.reshape(-1)), AREAS).astype(np.uint8)
      inside = regions > 0
      out[inside] = sizes[regions[inside]]
  return out
