"""Colour jitter, and the three-augment of DeiT III, on float images in [0, 1]."""

import math
from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp

from vit_jax.data.augment.color import luma, require_rgb
from vit_jax.data.augment.geometry import product
from vit_jax.data.augment.options import Number, Probability

Strength = Annotated[float, Number(0., 10.)]


def shift_hue(image: jax.Array, turn: jax.Array) -> jax.Array:
  """Turns the hue of an image `[height, width, 3]` by a share of the full circle, by way of HSV."""
  high, low = image.max(axis=-1), image.min(axis=-1)
  spread = high - low
  red, green, blue = jnp.moveaxis(image, -1, 0)
  divisor = jnp.where(spread > 0., spread, 1.)
  sixth = jnp.where(high == red, (green - blue) / divisor, jnp.where(
      high == green, 2. + (blue - red) / divisor, 4. + (red - green) / divisor))
  hue = sixth + 6. * turn
  corner = jnp.mod(hue[..., None] + jnp.array([5., 3., 1.]), 6.)
  less = jnp.clip(jnp.minimum(corner, 4. - corner), 0., 1.)
  return high[..., None] - product(spread[..., None], less)


def color_jitter(image: jax.Array, key: jax.Array, brightness: Strength = .4, contrast: Strength = .4,
                 saturation: Strength = .4, hue: Annotated[float, Number(0., .5)] = 0.,
                 probability: Probability = 1., inside: jax.Array | None = None) -> jax.Array:
  """Changes brightness, contrast, saturation and hue in random order, as torchvision's ColorJitter.

  The first three blend with black, with the mean grey and with the grey image, by a factor drawn from
  max(0, 1 - s) to 1 + s. What leaves [0, 1] is cut after each.

  Args:
    image: float `[height, width, channels]` in [0, 1]; saturation and hue need 3 channels.
    key: of this image.
    brightness, contrast, saturation: the s above; 0 for none.
    hue: the hue turns by up to this share of the circle either way.
    probability: of any change.
    inside: bool `[height, width, 1]`: the pixels that the mean grey is of; None: all.
  """
  if saturation or hue:
    require_rgb(image, 'saturation or hue of color_jitter')
  on, order, *keys = jax.random.split(key, 6)
  strengths = jnp.array([brightness, contrast, saturation], jnp.float32)
  factors = jnp.stack([jax.random.uniform(k, minval=jnp.maximum(0., 1. - s), maxval=1. + s)
                       for k, s in zip(keys, strengths)])
  turn = jax.random.uniform(keys[3], minval=-hue, maxval=hue)
  out = image
  for step in jax.random.permutation(order, 4):
    gray = luma(out)
    degenerate = jnp.where(step == 0, 0., jnp.where(step == 1, gray.mean(where=inside), gray))
    factor = jnp.where(step < 3, factors[jnp.minimum(step, 2)], 1.)
    blended = jnp.clip(degenerate + product(factor, out - degenerate), 0., 1.)
    out = jnp.where(step == 3, shift_hue(out, turn), blended) if hue else blended
  return jnp.where(jax.random.bernoulli(on, probability), out, image)


def scale_saturation(image: jax.Array, factor: jax.Array) -> jax.Array:
  """Multiplies the saturation of an image `[height, width, 3]`, at most to 1, by way of HSV."""
  high, spread = image.max(-1, keepdims=True), jnp.ptp(image, axis=-1, keepdims=True)
  most = high / jnp.where(spread > 0., spread, 1.)  # of the factor, where saturation becomes 1
  return high - (high - image) * jnp.minimum(factor, jnp.maximum(most, 1.))


def photometric_distortion(image: jax.Array, key: jax.Array, brightness: Strength = 32 / 255,
                           contrast: Strength = .5, saturation: Strength = .5,
                           hue: Annotated[float, Number(0., .5)] = .1,
                           inside: jax.Array | None = None) -> jax.Array:
  """Changes brightness, contrast, saturation and hue, each in half of the images (SSD,
  arXiv:1512.02325, as mmsegmentation and Segmenter have it, but for their rounding to whole levels).

  Brightness is added first, then contrast multiplies, or after saturation and hue, by a coin. What
  leaves [0, 1] is cut after each.

  Args:
    image: float `[height, width, 3]` in [0, 1].
    key: of this image.
    brightness: added, from minus this to plus this.
    contrast, saturation: factors from 1 - s to 1 + s.
    hue: the hue turns by up to this share of the circle either way.
    inside: the pixels of the image on a canvas; those around change alike, and are cut later.
  """
  require_rgb(image, 'photometric_distortion')
  del inside
  strengths = jnp.array([brightness, contrast, saturation, hue], jnp.float32)
  coins, amounts = jax.random.split(key)
  *drawn, early = jax.random.bernoulli(coins, .5, (5,))
  added, *factors, turn = jax.random.uniform(amounts, (4,), minval=-strengths, maxval=strengths)
  multiplied, saturated = (1. + f for f in factors)

  def contrasted(x, wanted):
    return jnp.where(drawn[1] & wanted, jnp.clip(x * multiplied, 0., 1.), x)

  out = jnp.where(drawn[0], jnp.clip(image + added, 0., 1.), image)
  out = contrasted(out, early)
  out = jnp.where(drawn[2], scale_saturation(out, saturated), out)
  out = jnp.where(drawn[3], shift_hue(out, turn), out)
  return contrasted(jnp.clip(out, 0., 1.), ~early)


def _blur_matrix(size: int, sigma: jax.Array, reach: int) -> jax.Array:
  """Returns what blurs one axis, `[size, size]`: three box filters, the border repeated.

  Pillow's GaussianBlur: boxes with fractional ends (Gwosdek et al., SSVM 2011, equations 7 to 14).
  """
  variance, whole = sigma ** 2 / 3., jnp.floor((jnp.sqrt(4. * sigma ** 2 + 1.) - 1.) / 2.)
  part = (2. * whole + 1.) * (whole * (whole + 1.) - 3. * variance)
  radius = whole + part / (6. * (variance - (whole + 1.) ** 2))
  index, box = jnp.arange(size), 0.
  for step in range(-reach, reach + 1):
    weight = jnp.clip(radius + 1. - abs(step), 0., 1.) / (2. * radius + 1.)
    box += weight * (jnp.clip(index + step, 0, size - 1)[:, None] == index)
  return box @ box @ box


def gaussian_blur(image: jax.Array, sigma: jax.Array, most: float) -> jax.Array:
  """Blurs an image as Pillow does, but for its rounding after each pass.

  Args:
    image: float `[height, width, channels]`.
    sigma: standard deviation in pixels.
    most: the largest sigma that can come.
  """
  reach = int((math.sqrt(4. * most ** 2 + 1.) - 1.) / 2.) + 1
  with jax.default_matmul_precision('highest'):
    rows, columns = (_blur_matrix(size, sigma, reach) for size in image.shape[:2])
    return jnp.einsum('yh,hwc,xw->yxc', rows, image, columns)


def three_augment(image: jax.Array, key: jax.Array,
                  radius: Annotated[Sequence[float], Number(0., 100., pair=True)] = (.1, 2.)
                  ) -> jax.Array:
  """Greys, solarises or blurs an image, one of the three (DeiT III, arXiv:2204.07118, section 3.2).

  The recipe follows it by color_jitter of .3 (brightness, contrast, saturation).

  Args:
    image: float `[height, width, 3]` in [0, 1].
    key: of this image.
    radius: least and most standard deviation of the blur, in pixels.
  """
  require_rgb(image, 'three_augment')
  choose, blur = jax.random.split(key)
  choice = jax.random.randint(choose, (), 0, 3)
  sigma = jax.random.uniform(blur, minval=radius[0], maxval=radius[1])
  solarized = jnp.where(image < .5, image, 1. - image)
  blurred = gaussian_blur(image, sigma, radius[1])
  return jnp.where(choice == 0, luma(image), jnp.where(choice == 1, solarized, blurred))
