"""What the host does to an image, its boxes, masks and maps together.

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

from detr_jax.data.sample import Sample, crop, flip, pad, resize
from vit_jax import ranges
from vit_jax.errors import UserError, unknown


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


@dataclasses.dataclass(frozen=True)
class ScaleJitter:
  """Large-scale jitter (Ghiasi et al., Simple Copy-Paste, arXiv:2012.07177, section 3).

  The image is brought to a size that fits `size` times a factor drawn from `low` to `high`, its aspect
  kept. A random window of `size` is cut from what is larger; what is smaller lies at the top left and is
  padded. `low`=.8, `high`=1.25 is the paper's standard jitter.

  Attributes:
    size: (height, width) of every result, that of the canvas.
    low, high: least and largest factor.
  """
  size: tuple[int, int] = (1024, 1024)
  low: float = .1
  high: float = 2.

  def __post_init__(self):
    if not 0. < self.low <= self.high or min(self.size) < 1:
      raise UserError(f'transform scale_jitter: low={self.low} must be positive and at most '
                      f'high={self.high}, and size={self.size} at least 1x1')

  def __call__(self, sample, rng):
    height, width = sample.image.height, sample.image.width
    scale = rng.uniform(self.low, self.high) * min(self.size[0] / height, self.size[1] / width)
    sample = resize(sample, max(round(height * scale), 1), max(round(width * scale), 1))
    height, width = min(sample.image.height, self.size[0]), min(sample.image.width, self.size[1])
    return pad(crop(sample, *place(sample.image, width, height, rng), width, height), *self.size)

  def extent(self, height, width):
    return self.size


@dataclasses.dataclass(frozen=True)
class RandomScale:
  """Resizes to fit `size` within `max_size`, times a factor drawn from `low` to `high`.

  That is the ratio range of mmsegmentation, and so of Segmenter and of Swin's UperNet.

  Attributes:
    size: to which the short side would be brought by a factor of 1; 0: the image's own.
    max_size: a bound of the long side, likewise; 0: none.
    low, high: least and largest factor.
  """
  size: int = 0
  max_size: int = 0
  low: float = .5
  high: float = 2.

  def __post_init__(self):
    if not 0. < self.low <= self.high or self.size < 0:
      raise UserError(f'transform random_scale: low={self.low} must be positive and at most '
                      f'high={self.high}, and size={self.size} 0 or more')

  def _scaled(self, height, width, factor):
    short, long = min(height, width), max(height, width)
    scale = factor * (self.size / short if self.size else 1.)
    if self.size and self.max_size:
      scale = min(scale, factor * self.max_size / long)
    return max(int(height * scale + .5), 1), max(int(width * scale + .5), 1)

  def __call__(self, sample, rng):
    factor = rng.uniform(self.low, self.high)
    return resize(sample, *self._scaled(sample.image.height, sample.image.width, factor))

  def extent(self, height, width):
    return self._scaled(height, width, self.high)


@dataclasses.dataclass(frozen=True)
class Window:
  """Cuts a window of a fixed size, or what there is of one, anywhere in the image.

  Attributes:
    size: (height, width).
    most: a window in which one class has more than this share of the labelled pixels is drawn anew, up
      to 10 times; 1: any will do.
  """
  size: tuple[int, int] = (512, 512)
  most: float = .75

  def __call__(self, sample, rng):
    height, width = min(sample.image.height, self.size[0]), min(sample.image.width, self.size[1])
    labels = sample.maps.get('labels')
    for _ in range(10):
      left, top = place(sample.image, width, height, rng)
      if labels is None or self.most >= 1.:
        break
      part = labels.crop(left, top, width, height).array
      counts = np.bincount(part[part != labels.fill].reshape(-1))
      if (counts > 0).sum() > 1 and counts.max() < self.most * counts.sum():
        break
    return crop(sample, left, top, width, height)

  def extent(self, height, width):
    return min(height, self.size[0]), min(width, self.size[1])


TRANSFORMS = dict(flip=Flip, resize=Resize, random_crop=RandomCrop, detr=DETR, scale_jitter=ScaleJitter,
                  random_scale=RandomScale, window=Window)


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
