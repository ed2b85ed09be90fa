"""Colours as whole grey levels, rounded as TensorFlow or Pillow round them.

The two libraries agree on what equalising or solarising is, and differ in how sums are cut to whole
levels; an `Arithmetic` says how. Images are uint8 `[height, width, channels]`.
"""

import contextlib
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.data.augment.geometry import product
from vit_jax.errors import UserError

WEIGHTS = (.299, .587, .114)  # of red, green and blue in the luma of ITU-R BT.601


def to_levels(image: jax.Array) -> jax.Array:
  """Returns an image in [0, 1] as uint8 levels."""
  return jnp.round(jnp.clip(image, 0., 1.) * 255.).astype(jnp.uint8)


def to_unit(image: jax.Array) -> jax.Array:
  """Returns uint8 levels as float32 in [0, 1]."""
  return image.astype(jnp.float32) / 255.


def require_rgb(image: jax.Array, what: str) -> None:
  """Raises UserError when the image has no colours."""
  if image.shape[-1] != 3:
    raise UserError(f'{what} needs images of 3 channels, not {image.shape[-1]}; leave it out of '
                    'data.augment or set data.channels=3')


def luma(image: jax.Array) -> jax.Array:
  """Returns the grey `[height, width, 1]` of a float image `[height, width, 1 or 3]`."""
  if image.shape[-1] == 1:
    return image
  require_rgb(image, 'a mean of colours')
  return sum(product(w, image[..., i:i + 1]) for i, w in enumerate(WEIGHTS))


def _gray_tf(image: jax.Array) -> jax.Array:
  """`tf.image.rgb_to_grayscale` of levels, as levels; one channel is itself."""
  if image.shape[-1] == 1:
    return image
  shares = product(image.astype(jnp.float32), 1. / 255.)
  red, green, blue = (product(shares[..., i:i + 1], w) for i, w in enumerate((.2989, .587, .114)))
  return product(red + green + blue, 255.5).astype(jnp.uint8)


def _gray_pil(image: jax.Array) -> jax.Array:
  """Pillow's `convert('L')`: weights in 2^-16, rounded; one channel is itself."""
  if image.shape[-1] == 1:
    return image
  red, green, blue = jnp.split(image.astype(jnp.int32), 3, axis=-1)
  return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(jnp.uint8)


def _mean_tf(gray: jax.Array) -> jax.Array:
  """What big_vision takes for the mean level: the number of pixels over 256, at most 255.

  It means to average but sums the histogram's counts, not counts times levels; every RandAugment
  derived from the EfficientNet code does, and the published results are with it.
  """
  return jnp.float32(min(gray.size // 256, 255))


def _mean_pil(gray: jax.Array) -> jax.Array:
  """The mean level, rounded half up."""
  count = gray.size
  return ((2 * gray.astype(jnp.int32).sum() + count) // (2 * count)).astype(jnp.float32)


def _neighbours(image: jax.Array) -> list[jax.Array]:
  """Returns the nine images shifted by -1, 0, 1 along both axes, row by row."""
  height, width, _ = image.shape
  padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
  return [padded[i:i + height, j:j + width] for i in range(3) for j in range(3)]


def _fused(whole: jax.Array, weight: np.float32, total: jax.Array) -> jax.Array:
  """Returns whole * weight + total rounded once, for whole numbers up to 255.

  Two halves of the weight give products without error; what rounding takes from the sum is added to
  the smaller product (Knuth's two-sum), so no wider numbers are needed and no compiler is trusted.
  """
  coarse = np.float32(np.round(weight * 2. ** 15) / 2. ** 15)
  large, small = whole * coarse, whole * (weight - coarse)
  rough = total + large
  back = rough - total
  lost = (total - (rough - back)) + (large - back)
  return rough + (lost + small)


def _smooth_tf(image: jax.Array) -> jax.Array:
  """The mean of 3x3 pixels, the middle one five times, cut; sums are fused as in TensorFlow's oneDNN."""
  total = jnp.zeros(image.shape, jnp.float32)
  for i, part in enumerate(_neighbours(image)):
    weight = np.float32(5. if i == 4 else 1.) / np.float32(13.)
    total = _fused(part.astype(jnp.float32), weight, total)
  return jnp.clip(total, 0., 255.).astype(jnp.uint8)


def _smooth_pil(image: jax.Array) -> jax.Array:
  """The mean of 3x3 pixels, the middle one five times, rounded."""
  total = sum(_neighbours(image.astype(jnp.int32))) + 4 * image.astype(jnp.int32)
  return ((2 * total + 13) // 26).astype(jnp.uint8)


@dataclasses.dataclass(frozen=True)
class Arithmetic:
  """How a library rounds.

  Attributes:
    gray: `[height, width, 1 or 3]` levels to `[height, width, 1]`.
    mean: of grey levels.
    smooth: blurs a little, the border included, which `smooth` below puts back.
    double: whether the stretching of contrast is computed in float64.
  """
  gray: Callable[[jax.Array], jax.Array]
  mean: Callable[[jax.Array], jax.Array]
  smooth: Callable[[jax.Array], jax.Array]
  double: bool


TF = Arithmetic(_gray_tf, _mean_tf, _smooth_tf, double=False)
PIL = Arithmetic(_gray_pil, _mean_pil, _smooth_pil, double=True)


def smooth(image: jax.Array, arithmetic: Arithmetic) -> jax.Array:
  """Returns the image that sharpness starts from: smoothed, but for its border."""
  height, width, _ = image.shape
  y, x = jnp.arange(height)[:, None, None], jnp.arange(width)[None, :, None]
  inner = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
  return jnp.where(inner, arithmetic.smooth(image), image)


def blend(degenerate: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
  """Returns degenerate + factor * (image - degenerate), cut to uint8 levels; factor 1: the image."""
  degenerate = degenerate.astype(jnp.float32)
  mixed = degenerate + product(factor, image.astype(jnp.float32) - degenerate)
  return jnp.clip(mixed, 0., 255.).astype(jnp.uint8)


def stretch_table(low: jax.Array, high: jax.Array, arithmetic: Arithmetic) -> jax.Array:
  """Returns the table `[256, channels]` that maps low..high to 0..255, for auto-contrast."""
  # Pillow computes in float64 and cuts: whether 254.99999999999997 or 255. comes out hangs on it.
  # Only this table, of a few hundred numbers, is computed so.
  with jax.enable_x64(True) if arithmetic.double else contextlib.nullcontext():
    real = jnp.float64 if arithmetic.double else jnp.float32
    scale = 255. / jnp.maximum(high - low, 1).astype(real)
    offset = -product(low.astype(real), scale)
    levels = jnp.arange(256, dtype=real)[:, None]
    table = jnp.clip(product(levels, scale) + offset, 0., 255.).astype(jnp.int32)
  return jnp.where(high > low, table, jnp.arange(256, dtype=jnp.int32)[:, None])


def equalize_table(image: jax.Array, high: jax.Array) -> jax.Array:
  """Returns the table `[256, channels]` that evens out the histogram of each channel.

  Counts come from one scatter-add of the pixels: no one-hot of pixels by levels is ever formed.
  """
  channels = image.shape[-1]
  bins = image.astype(jnp.int32) * channels + jnp.arange(channels)
  counts = jnp.zeros(256 * channels, jnp.int32).at[bins.reshape(-1)].add(1).reshape(256, channels)
  last = counts[high, jnp.arange(channels)]
  step = (image[..., 0].size - last) // 255
  before = jnp.cumsum(counts, axis=0) - counts
  table = jnp.minimum((before + step // 2) // jnp.maximum(step, 1), 255)
  return jnp.where(step > 0, table, jnp.arange(256, dtype=jnp.int32)[:, None])
