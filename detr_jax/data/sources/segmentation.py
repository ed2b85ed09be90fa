"""Masks of COCO's segmentations: polygons, run lengths, panoptic PNGs."""

from collections.abc import Sequence

import numpy as np

from detr_jax.data.sources import values
from detr_jax.data.sources.base import decode
from vit_jax.data import images
from vit_jax.errors import UserError


NONE_SUCH = 'that is neither run lengths nor polygons of three points [x, y, x, y, x, y] or more'
FARTHEST = 10  # times the longer side: pycocotools crashes on points that are farther away


def readable(entry, size: list[int]) -> dict | list | None:
  """Returns a segmentation of COCO's JSON that pycocotools is sure to read; None where there is none.

  pycocotools crashes, hangs or reads foreign memory where points are not numbers or far away, and where
  run lengths do not cover the image exactly.

  Args:
    entry: polygons, or run lengths, compressed or not, or whatever stands in their place.
    size: [height, width] of the image.

  Raises:
    ValueError: what is wrong, as the end of a sentence about it.
  """
  if not entry and not isinstance(entry, (bool, int, float)) or entry == [[]]:
    return None
  if isinstance(entry, dict) and isinstance(entry.get('counts'), (str, list)):
    if entry.get('size') != size:
      raise ValueError(f'of (height, width) {values.shown(entry.get("size"))}, but its image has {size}')
    counts = _run_lengths(entry['counts'])
    if counts is None or sum(counts) != size[0] * size[1]:
      raise ValueError(f'whose run lengths do not cover the {size[0] * size[1]} pixels of its image')
    return dict(size=size, counts=entry['counts'])
  if not isinstance(entry, list) or not all(map(_is_polygon, entry)):
    raise ValueError(NONE_SUCH)
  far = FARTHEST * max(size)
  for polygon in entry:
    if not (-far <= min(polygon) and max(polygon) <= far) or any(n != n for n in polygon):
      raise ValueError('with a point that is no number, or far out of its image')
  return entry


def _is_polygon(points) -> bool:
  return isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0 and all(
      type(n) in (int, float) for n in points)


def _run_lengths(counts: str | list) -> list[int] | None:
  """Returns the lengths of runs, of pycocotools' text (base 32, differences) too; None for nonsense."""
  if isinstance(counts, list):
    return counts if all(type(n) is int and n >= 0 for n in counts) else None
  digits = np.asarray([*map(ord, counts)], np.int64) - 48
  if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
    return None
  ends = np.flatnonzero(digits & 32 == 0)
  starts = np.concatenate([[0], ends[:-1] + 1])
  if (ends - starts).max() > 7:
    return None
  place = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
  out = np.add.reduceat((digits & 31) << 5 * place, starts)
  out -= np.where(digits[ends] & 16, 1 << 5 * (ends - starts + 1), 0)  # negative
  out[1::2], out[2::2] = np.cumsum(out[1::2]), np.cumsum(out[2::2])
  return out.tolist() if out.min() >= 0 and out.max() < 2 ** 32 else None


def mask(segmentation: dict | list, size: tuple[int, int]) -> np.ndarray:
  """Returns bool `[height, width]` of what `readable` gave for an image of this size."""
  from pycocotools import mask as coco  # here: detecting boxes needs no masks
  if isinstance(segmentation, list):
    runs = coco.merge(coco.frPyObjects(segmentation, *size))
  elif isinstance(segmentation['counts'], list):
    runs = coco.frPyObjects(segmentation, *size)
  else:
    runs = segmentation
  return coco.decode(runs).astype(bool)


def panoptic_ids(content: bytes, size: tuple[int, int], name: str, stored: bool = False) -> np.ndarray:
  """Returns int32 `[height, width]`, the segment of each pixel (0: none), of a panoptic PNG.

  Args:
    content: of the PNG.
    size: (height, width) of its image.
    name: for messages.
    stored: see `base.decode`.

  Raises:
    UserError: when it is damaged or of another size than its image.
  """
  pixels = images.to_array(decode(content, name, tuple(size), stored)).astype(np.int32)
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
