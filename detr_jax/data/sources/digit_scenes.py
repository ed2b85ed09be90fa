"""Handwritten digits in composed scenes: detection data that needs no file and no network."""

import functools

import numpy as np
from PIL import Image

from detr_jax.data.sources.base import Categories, DetectionExample, DetectionSplit, coco_annotations
from vit_jax.data.sources.base import chosen, parse_split
from vit_jax.data.sources.memory import digits
from vit_jax.errors import unknown

SIDE = 64  # pixels
DIGITS = 1, 5  # in a scene
SIZE = 12, 24  # pixels of a digit
NOISE = .05  # standard deviation, of values in [0, 1]
INK = .25  # of the darkest ink: what belongs to a digit
SCENES = dict(train=4096, test=300)


class DigitScenes:
  """Grey scenes of 64 x 64 pixels with one to five digits that do not overlap.

  Digits of scikit-learn, 8 x 8 pixels, are enlarged to 12 to 24 pixels; a box holds the ink of one.
  Test scenes are made of digits that no training scene has. Scene i is a function of i alone.
  """
  name = 'digit_scenes'
  categories = Categories(tuple('0123456789'), tuple(range(10)))

  def split(self, name: str) -> DetectionSplit:
    """Returns 'train' (4,096 scenes), 'test' (300), or parts of them; UserError for another name."""
    parts = parse_split(name)
    for part in parts:
      if part.name not in SCENES:
        raise unknown(f'split of {self.name!r}:', part.name, SCENES)
    scenes = [scene for part in parts for scene in _scenes(part.name)]
    index = chosen([(SCENES[part.name], part) for part in parts])
    names = [f'{part.name}/{i}' for part in parts for i in range(SCENES[part.name])]
    number = np.arange(1, len(index) + 1)

    def read(i: int) -> DetectionExample:
      pixels, boxes, labels = scenes[index[i]]
      return DetectionExample(pixels, names[index[i]], i, int(number[i]), boxes, labels,
                              np.zeros(len(labels), bool), pixels.shape[:2])

    def annotations() -> dict:
      objects = []
      for at, i in zip(index, number):
        for (left, top, right, bottom), label in zip(*scenes[at][1:]):
          width, height = float(right - left), float(bottom - top)
          objects.append(dict(image_id=int(i), category_id=int(label), iscrowd=0, area=width * height,
                              bbox=[float(left), float(top), width, height]))
      return coco_annotations(self.categories, sizes, number, [names[at] for at in index], objects)

    sizes = np.full((len(index), 2), SIDE)
    return DetectionSplit(read, sizes, [len(scenes[at][2]) for at in index], number, annotations)


@functools.cache
def _scenes(split: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Returns (pixels uint8 `[64, 64, 1]`, boxes `[n, 4]`, labels `[n]`) of each scene of a split."""
  source = digits().split(split)
  tiles = [source.read(i) for i in range(len(source))]
  tiles = [(Image.fromarray(tile.content[..., 0]), tile.labels[0]) for tile in tiles]
  return [_scene(tiles, np.random.default_rng((list(SCENES).index(split), i)))
          for i in range(SCENES[split])]


def _scene(tiles, rng: np.random.Generator):
  canvas, taken = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), bool)
  boxes, labels = [], []
  for _ in range(rng.integers(DIGITS[0], DIGITS[1] + 1)):
    size = int(rng.integers(SIZE[0], SIZE[1] + 1))
    image, label = tiles[rng.integers(len(tiles))]
    for top, left in rng.integers(SIDE - size + 1, size=(20, 2)):
      place = np.s_[top:top + size, left:left + size]
      if not taken[place].any():
        ink = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255.
        canvas[place], taken[place] = ink, True
        rows, columns = (np.flatnonzero((ink > INK * ink.max()).any(axis)) for axis in (1, 0))
        boxes.append([left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1])
        labels.append(label)
        break
  canvas += NOISE * rng.standard_normal(canvas.shape, np.float32)
  pixels = np.uint8(np.clip(canvas, 0., 1.) * 255. + .5)[..., None]
  return pixels, np.asarray(boxes, np.float64), np.asarray(labels, np.int32)
