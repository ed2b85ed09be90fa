"""Handwritten digits in composed scenes, with the digit under each pixel: needs no file, no network."""

import numpy as np

from detr_jax.data.sources.digit_scenes import INK, SIDE, DigitScenes
from detr_jax.data.sources.label_maps import LabelExample, LabelSplit

BACKGROUND = 10
GROWN = 2  # pixels by which the ink of a digit is widened


class DigitMaps:
  """The scenes of `digit_scenes`; a pixel has the class of the digit whose widened ink covers it.

  The ink of a digit is what is darker than a quarter of its darkest, inside its box, widened by two
  pixels. Test scenes are made of digits that no training scene has.
  """
  name = 'digit_maps'
  classes = (*map(str, range(10)), 'background')

  def split(self, name: str) -> LabelSplit:
    """Returns 'train' (4,096 scenes), 'test' (300), or parts of them; UserError for another name."""
    scenes = DigitScenes().split(name)

    def read(i: int) -> LabelExample:
      scene = scenes.read(i)
      return LabelExample(scene.content, scene.name, i, labels(scene.content, scene.boxes, scene.labels))

    return LabelSplit(read, np.full((len(scenes), 2), SIDE))


def labels(pixels: np.ndarray, boxes: np.ndarray, digits: np.ndarray) -> np.ndarray:
  """Returns the class of each pixel, uint8 `[height, width]`, of a scene uint8 `[height, width, 1]`."""
  out = np.full(pixels.shape[:2], BACKGROUND, np.uint8)
  for (left, top, right, bottom), digit in zip(boxes.astype(int), digits):
    ink, part = np.zeros(out.shape, bool), pixels[top:bottom, left:right, 0]
    ink[top:bottom, left:right] = part > INK * part.max()
    for _ in range(GROWN):
      ink = grown(ink)
    out[ink] = digit
  return out


def grown(mask: np.ndarray) -> np.ndarray:
  """Returns a mask with the four neighbours of its pixels."""
  around = np.pad(mask, 1)
  return (mask | around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:])
