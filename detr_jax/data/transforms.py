"""What the host does to an image, its boxes and its masks together.

A transform maps (sample, generator) to a sample. It draws from the generator alone, which is keyed by
(seed, step, index in the global batch), and tells by `extent` how large it can make an image, so that a
canvas can be chosen before an image is read.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from detr_jax.ops.masks import nearest
from vit_jax import ranges
from vit_jax.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Sample:
  """An image with its objects.

  Attributes:
    image: RGB.
    boxes: float64 `[n, 4]`, (left, top, right, bottom) in pixels.
    labels: int32 `[n]`.
    masks: bool `[n, height, width]` or None.
  """
  image: Image.Image
  boxes: np.ndarray
  labels: np.ndarray
  masks: np.ndarray | None = None

  def keep(self, chosen: np.ndarray) -> 'Sample':
    """Returns the sample with the chosen objects alone; bool or int `[n]`."""
    return dataclasses.replace(self, boxes=self.boxes[chosen], labels=self.labels[chosen],
                               masks=None if self.masks is None else self.masks[chosen])


def areas(boxes: np.ndarray) -> np.ndarray:
  """Returns the areas `[n]` of boxes `[n, 4]`, 0 for those that are turned inside out."""
  return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.), -1)


def flip(sample: Sample, vertical: bool = False) -> Sample:
  """Returns the mirror image: left and right change places, or top and bottom."""
  axis, side = (1, sample.image.height) if vertical else (0, sample.image.width)
  how = Image.Transpose.FLIP_TOP_BOTTOM if vertical else Image.Transpose.FLIP_LEFT_RIGHT
  boxes = sample.boxes.copy()
  boxes[:, axis], boxes[:, axis + 2] = side - sample.boxes[:, axis + 2], side - sample.boxes[:, axis]
  masks = sample.masks if sample.masks is None else np.flip(sample.masks, 1 if vertical else 2)
  return Sample(sample.image.transpose(how), boxes, sample.labels, masks)


def crop(sample: Sample, left: int, top: int, width: int, height: int, visible: float = 0.) -> Sample:
  """Returns a window; boxes are cut at its edge, and left out where nothing remains.

  Args:
    sample: what to cut.
    left, top, width, height: of the window, within the image.
    visible: the least share of a box's area that must remain.
  """
  boxes = sample.boxes - [left, top, left, top]
  boxes = np.clip(boxes, 0., [width, height, width, height])
  image = sample.image.crop((left, top, left + width, top + height))
  masks = sample.masks
  masks = masks if masks is None else masks[:, top:top + height, left:left + width]
  kept = areas(boxes)
  keep = (kept > 0.) & (kept >= visible * areas(sample.boxes))
  return Sample(image, boxes, sample.labels, masks).keep(keep)


def resize(sample: Sample, height: int, width: int) -> Sample:
  """Returns the sample at another size: bilinear and antialiased, masks by `masks.nearest`."""
  if (width, height) == sample.image.size:
    return sample
  scale = np.asarray([width / sample.image.width, height / sample.image.height] * 2)
  masks = sample.masks
  if masks is not None:
    rows, columns = nearest(sample.image.height, height), nearest(sample.image.width, width)
    masks = masks[:, rows[:, None], columns]
  return Sample(sample.image.resize((width, height), Image.Resampling.BILINEAR), sample.boxes * scale,
                sample.labels, masks)


def resized(height: int, width: int, size: int, max_size: int = 0) -> tuple[int, int]:
  """Returns the (height, width) of an image whose short side becomes `size`, with DETR's rounding.

  The other side is cut off to whole pixels; where it would exceed `max_size` (0: no bound), the short
  side is rounded so that it does not.
  """
  short, long = min(height, width), max(height, width)
  if max_size and long / short * size > max_size:
    size = max(int(round(max_size * short / long)), 1)
  other = max(int(size * long / short), 1)
  return (size, other) if height <= width else (other, size)


class Transform(Protocol):
  """Changes a sample."""

  def __call__(self, sample: Sample, rng: np.random.Generator | None) -> Sample:
    """Returns the changed sample."""

  def extent(self, height: int, width: int) -> tuple[int, int]:
    """Returns the largest (height, width) that an uncut image of this size gets."""


@dataclasses.dataclass(frozen=True)
class Flip:
  """Mirrors an image left to right, and top to bottom, each with its probability."""
  horizontal: float = .5
  vertical: float = 0.

  def __call__(self, sample, rng):
    across, down = rng.random(2) < (self.horizontal, self.vertical)
    sample = flip(sample) if across else sample
    return flip(sample, vertical=True) if down else sample

  def extent(self, height, width):
    return height, width


@dataclasses.dataclass(frozen=True)
class Resize:
  """The short side becomes `size`, or one drawn from several; the long one at most `max_size`."""
  size: int | tuple[int, ...] = 800
  max_size: int = 0

  def __post_init__(self):
    sizes = (self.size,) if isinstance(self.size, int) else tuple(self.size)
    object.__setattr__(self, 'size', sizes)
    if not sizes or min(sizes) < 1 or self.max_size and self.max_size < max(sizes):
      raise UserError(f'transform resize: size={sizes} must be positive and max_size={self.max_size} at '
                      'least as large (0: no bound)')

  def __call__(self, sample, rng):
    size = self.size[0] if len(self.size) == 1 else self.size[rng.integers(len(self.size))]
    return resize(sample, *resized(sample.image.height, sample.image.width, size, self.max_size))

  def extent(self, height, width):
    return resized(height, width, max(self.size), self.max_size)


@dataclasses.dataclass(frozen=True)
class RandomCrop:
  """A window anywhere, each side at least `min_share` of the image's.

  Attributes:
    min_share: of each side, in (0, 1].
    probability: of cutting at all.
    keep_aspect: whether both sides lose the same share.
    visible: the least share of a box's area that must remain for it to count.
  """
  min_share: float = .6
  probability: float = .5
  keep_aspect: bool = False
  visible: float = 0.

  def __post_init__(self):
    if not 0. < self.min_share <= 1. or not 0. <= self.visible <= 1.:
      raise UserError(f'transform random_crop: min_share={self.min_share} must lie in (0, 1], '
                      f'visible={self.visible} in [0, 1]')

  def __call__(self, sample, rng):
    if rng.random() >= self.probability:
      return sample
    shares = rng.uniform(self.min_share, 1., 2)
    shares = shares[[0, 0]] if self.keep_aspect else shares
    width, height = (max(round(side * share), 1) for side, share in zip(sample.image.size, shares))
    return crop(sample, *place(sample.image, width, height, rng), width, height, self.visible)

  def extent(self, height, width):
    return height, width


def place(image: Image.Image, width: int, height: int, rng: np.random.Generator) -> tuple[int, int]:
  """Returns a random (left, top) of a window in an image."""
  return int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))


@dataclasses.dataclass(frozen=True)
class DETR:
  """DETR's training recipe (arXiv:2005.12872, section 4, and its code).

  A flip; then, in half of the images, the short side becomes one of `crop_scales` and a window is cut
  whose sides are drawn from `crop_min` to `crop_max` pixels (an image that is smaller gives all it has);
  then the short side becomes one of `scales`, the long one at most `max_size`.
  """
  scales: tuple[int, ...] = tuple(range(480, 801, 32))
  max_size: int = 1333
  crop_scales: tuple[int, ...] = (400, 500, 600)
  crop_min: int = 384
  crop_max: int = 600
  flip: float = .5

  def __call__(self, sample, rng):
    sample = Flip(self.flip)(sample, rng)
    if rng.random() < .5:
      sample = Resize(self.crop_scales)(sample, rng)
      width, height = (int(rng.integers(min(self.crop_min, side), min(self.crop_max, side) + 1))
                       for side in sample.image.size)
      sample = crop(sample, *place(sample.image, width, height, rng), width, height)
    return Resize(self.scales, self.max_size)(sample, rng)

  def extent(self, height, width):
    return Resize(self.scales, self.max_size).extent(height, width)

  def __post_init__(self):
    if not 1 <= self.crop_min <= self.crop_max:
      raise UserError(f'transform detr: crop_min={self.crop_min} must lie between 1 and '
                      f'crop_max={self.crop_max}')
    for size, limit in ((self.scales, self.max_size), (self.crop_scales, 0)):
      Resize(size, limit)


TRANSFORMS = dict(flip=Flip, resize=Resize, random_crop=RandomCrop, detr=DETR)


def make(specs: Sequence[Mapping]) -> tuple[Transform, ...]:
  """Returns the transforms that a config describes, first things first.

  Args:
    specs: `name`, one of `TRANSFORMS`, and its options, of each.

  Raises:
    UserError: for an unknown name or option, or values that cannot be.
  """
  out = []
  for spec in specs:
    options = dict(spec)
    name = options.pop('name', '')
    if name not in TRANSFORMS:
      raise unknown('transform', name, TRANSFORMS)
    known = list(inspect.signature(TRANSFORMS[name]).parameters)
    for option in options:
      if option not in known:
        raise unknown(f'option of transform {name!r}:', option, known)
    ranges.check(f'transform {name}: ', options, ranges.annotations(TRANSFORMS[name]),
                 {'horizontal|vertical|probability|flip': '[0, 1]'})
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    out.append(TRANSFORMS[name](**options))
  return tuple(out)


def check_fixed(transforms: Sequence[Transform]) -> None:
  """Raises UserError for a transform that draws: every test image is seen once, in one way."""
  for transform in transforms:
    if not isinstance(transform, Resize) or len(transform.size) > 1:
      raise UserError(f'data.test_transforms: {transform} is random; test images may only be resized, '
                      'to one size')


def extent(transforms: Sequence[Transform], height: int, width: int) -> tuple[int, int]:
  """Returns the largest (height, width) to which a chain brings an image of this size."""
  for transform in transforms:
    height, width = transform.extent(height, width)
  return height, width
