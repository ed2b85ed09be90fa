"""Draws a panoptic picture over its image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from detr_jax.visual import boxes as drawing
from vit_jax.visual import style

if TYPE_CHECKING:
  from PIL.Image import Image


def colour_segments(image: np.ndarray, ids: np.ndarray, segments: Sequence[dict]) -> np.ndarray:
  """Returns the image in grey under the colours of its segments, with white borders between them.

  Args:
    image: uint8 `[height, width, 1|3]`.
    ids: int `[height, width]`, the segment of each pixel; 0 for none, which stays grey.
    segments: [dict(id, ...)], see `ops.postprocess.panoptic`.

  Returns:
    uint8 `[height, width, 3]`.
  """
  grey = style.rgb(image).mean(axis=-1, keepdims=True).repeat(3, axis=-1)
  out = grey.copy()
  for number, segment in enumerate(segments):
    inside = ids == segment['id']
    out[inside] = .45 * grey[inside] + .55 * np.array(drawing.colour(number))
  border = np.zeros(ids.shape, bool)
  border[1:] |= ids[1:] != ids[:-1]
  border[:, 1:] |= ids[:, 1:] != ids[:, :-1]
  out[border] = 255
  return out.clip(0, 255).astype(np.uint8)


def colour_masks(image: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the image in grey under objects in the colours of their classes, see `colour_segments`.

  Args:
    image: uint8 `[height, width, 1|3]`.
    masks: bool `[n, height, width]`; where two overlap, the first is seen.
    labels: `[n]`.
  """
  ids = np.zeros(image.shape[:2], np.int32)
  for mask, label in zip(masks[::-1], labels[::-1]):
    ids[mask] = label + 1
  classes = range(labels.max(initial=-1) + 1)  # segment and colour n are of class n
  return colour_segments(image, ids, [dict(id=label + 1) for label in classes])


def draw_segments(image: np.ndarray, ids: np.ndarray, segments: Sequence[dict],
                  classes: Sequence[str]) -> Image:
  """Returns the image as `colour_segments` does, with the names of the segments."""
  from PIL import Image, ImageDraw
  out = Image.fromarray(colour_segments(image, ids, segments))
  pen = ImageDraw.Draw(out)
  for number, segment in enumerate(segments):
    rows, columns = np.nonzero(ids == segment['id'])
    if len(rows):
      # A pixel of the segment, which its centre of gravity need not be.
      middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
      drawing.write(pen, (columns[middle], rows[middle]), style.shorten(
          classes[segment['label']], 20), drawing.colour(number), drawing.font(out))
  return out
