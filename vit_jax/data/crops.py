"""What the host does to an image: cut a window and resize it, with antialiasing.

A crop maps an image, Pillow's or `images.Quick`, to uint8 of the model's size; those that draw a
random window get a generator keyed by (seed, step, index in the global batch).
"""

import inspect
from collections.abc import Callable, Mapping
import functools
import math

import numpy as np
from PIL import Image

from vit_jax import ranges
from vit_jax.data import images
from vit_jax.errors import unknown

Crop = Callable[[Image.Image, np.random.Generator | None], np.ndarray]


def squash(image, size, rng, resample):
  """The whole image, whatever its shape."""
  del rng
  return image.resize(size, resample)


def center(image, size, rng, resample, ratio: float = .875, squash: bool = False):
  """The middle: `ratio` of the largest window of the wanted shape, or of the image if `squash`."""
  del rng
  width, height = image.size if squash else _largest(image.size, size)
  width, height = width * ratio, height * ratio
  left, top = (image.width - width) / 2., (image.height - height) / 2.
  return image.resize(size, resample, (left, top, left + width, top + height))


def random(image, size, rng, resample, ratio: float = .875, squash: bool = False):
  """A window anywhere: `ratio` of the largest one of the wanted shape, or of the image if `squash`.

  The image's small side resized to 448, then a window of 384 (ViT) is `ratio=384/448`; the whole
  resized to 160x160, then a window of 128 (BiT, arXiv:1912.11370) is `ratio=.8, squash=True`.
  """
  width, height = (n * ratio for n in (image.size if squash else _largest(image.size, size)))
  left, top = rng.uniform(0., image.width - width), rng.uniform(0., image.height - height)
  return image.resize(size, resample, (left, top, left + width, top + height))


def inception(image, size, rng, resample, min_area: float = .05, max_aspect: float = 4. / 3.,
              any_filter: bool = False):
  """A random window of random area and aspect (Inception, arXiv:1409.4842, section 6).

  Args:
    image: Pillow image.
    size: (width, height).
    rng: of this image.
    resample: Pillow's filter.
    min_area: the least share of the image's area.
    max_aspect: width / height between 1 / max_aspect and max_aspect, relative to `size`.
    any_filter: draw a bilinear or bicubic filter for each image, as timm's `random` interpolation.
  """
  if any_filter:
    resample = images.RESAMPLE[('bilinear', 'bicubic')[rng.integers(2)]]
  for _ in range(10):
    area = rng.uniform(min_area, 1.) * image.width * image.height
    aspect = math.exp(rng.uniform(-1., 1.) * math.log(max_aspect)) * size[0] / size[1]
    width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < width <= image.width and 0 < height <= image.height:  # whole pixels, as published
      left = int(rng.integers(image.width - width + 1))
      top = int(rng.integers(image.height - height + 1))
      return image.resize(size, resample, (left, top, left + width, top + height))
  return center(image, size, rng, resample, ratio=1.)


def _largest(image_size, size):
  """Returns the largest (width, height) of the shape of `size` within an image."""
  scale = min(image_size[0] / size[0], image_size[1] / size[1])
  # min: the product may exceed the image by a rounding error, which Pillow refuses.
  return min(size[0] * scale, image_size[0]), min(size[1] * scale, image_size[1])


CROPS = dict(squash=squash, center=center, random=random, inception=inception)
RANGES = {'ratio|min_area': '(0, 1]', 'max_aspect': '[1, inf)'}
RANDOM = ('random', 'inception')


def make(spec: Mapping, size: tuple[int, int], interpolation: str = 'bilinear') -> Crop:
  """Returns the crop that a config describes.

  Args:
    spec: `name` (one of `CROPS`) and its options.
    size: (height, width) of the result.
    interpolation: one of `images.RESAMPLE`.

  Returns:
    crop(image, rng) -> uint8 `[height, width, channels]`.

  Raises:
    UserError: for an unknown name or option, or a share that is none.
  """
  options = dict(spec)
  name = options.pop('name', '')
  if name not in CROPS:
    raise unknown('crop', name, CROPS)
  if interpolation not in images.RESAMPLE:
    raise unknown('interpolation', interpolation, images.RESAMPLE)
  allowed = list(inspect.signature(CROPS[name]).parameters)[4:]
  for option in options:
    if option not in allowed:
      raise unknown(f'option of crop {name!r}:', option, allowed)
  ranges.check(f'crop {name!r}: ', options, ranges.annotations(CROPS[name]), RANGES)
  cut = functools.partial(CROPS[name], **options)
  height, width = size
  resample = images.RESAMPLE[interpolation]
  return lambda image, rng=None: images.to_array(cut(image, (width, height), rng, resample))
