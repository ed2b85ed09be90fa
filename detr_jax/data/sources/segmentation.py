"""Masks of COCO's segmentations: polygons, run lengths, panoptic PNGs."""

from collections.abc import Sequence

import numpy as np

from vit_jax.data import images
from vit_jax.errors import UserError


def mask(segmentation, size: tuple[int, int], name: str) -> np.ndarray:
  """Returns bool `[height, width]` of a segmentation of COCO's JSON.

  Args:
    segmentation: polygons, or run lengths, compressed or not.
    size: (height, width) of the image.
    name: of the annotation, for messages.

  Raises:
    UserError: when it cannot be read.
  """
  from pycocotools import mask as coco  # here: detecting boxes needs no masks
  try:
    if isinstance(segmentation, dict):
      runs = segmentation
      if isinstance(runs['counts'], list):
        runs = coco.frPyObjects(runs, *runs['size'])
    else:
      runs = coco.merge(coco.frPyObjects(segmentation, *size))
    out = coco.decode(runs).astype(bool)
  except Exception as error:  # pycocotools raises bare exceptions of every kind
    raise UserError(f'{name} has a segmentation that cannot be read: {error}') from None
  if out.shape != size:
    raise UserError(f'{name} has a mask of (height, width) {out.shape}, but its image {size}')
  return out


def panoptic_ids(content: bytes, size: tuple[int, int], name: str) -> np.ndarray:
  """Returns int32 `[height, width]`, the segment of each pixel (0: none), of a panoptic PNG.

  Args:
    content: of the PNG.
    size: (height, width) of its image.
    name: for messages.

  Raises:
    UserError: when it is damaged or of another size than its image.
  """
  pixels = images.to_array(images.decode(content, 3, name)).astype(np.int32)
  if pixels.shape[:2] != tuple(size):
    raise UserError(f'the panoptic picture {name} has (height, width) {pixels.shape[:2]}, but its image '
                    f'{tuple(size)}')
  return pixels @ np.asarray([1, 256, 65536], np.int32)


def panoptic_pixels(ids: np.ndarray) -> np.ndarray:
  """Returns what `panoptic_ids` reads, uint8 `[height, width, 3]`: id = red + 256 green + 65536 blue."""
  return (ids[..., None] >> np.array([0, 8, 16]) & 255).astype(np.uint8)


def panoptic_masks(ids: np.ndarray, segments: Sequence[int], path: str) -> np.ndarray:
  """Returns bool `[n, height, width]` of segments; UserError names one that no pixel has."""
  out = ids[None] == np.asarray(segments, np.int32)[:, None, None]
  empty = np.flatnonzero(~out.any((1, 2)))
  if len(empty):
    raise UserError(f'no pixel of {path} belongs to segment {segments[empty[0]]} of segments_info')
  return out
