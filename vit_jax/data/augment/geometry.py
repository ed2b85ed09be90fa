"""Where pixels come from: flips, shifts and affine maps."""

from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp

from vit_jax.data.augment.options import Number, Probability


def flip(image: jax.Array, key: jax.Array, probability: Probability = .5) -> jax.Array:
  """Mirrors an image `[height, width, channels]` left to right with that probability."""
  return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def translate(image: jax.Array, key: jax.Array, pixels: Annotated[int, Number(0, 4096, whole=True)] = 4
              ) -> jax.Array:
  """Shifts by up to `pixels` whole pixels along each axis; what comes in is black."""
  height, width, channels = image.shape
  padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
  y, x = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
  return jax.lax.dynamic_slice(padded, (y, x, 0), (height, width, channels))


def affine(image: jax.Array, key: jax.Array, degrees: Annotated[float, Number(0., 180.)] = 10.,
           translate: Annotated[float, Number(0., 1.)] = .1,
           scale: Annotated[float, Number(0., .99)] = .1,
           shear: Annotated[float, Number(0., 2.)] = 0.) -> jax.Array:
  """A random affine map about the centre, sampled bilinearly; what comes in is black.

  Args:
    image: `[height, width, channels]`.
    key: of this image.
    degrees: rotation up to this angle either way.
    translate: shift along each axis up to this share of its length.
    scale: size between 1 - scale and 1 + scale.
    shear: shift of a row per row of distance from the centre, up to this share.
  """
  height, width, _ = image.shape
  angle, dy, dx, zoom, slant = jax.random.uniform(key, (5,), minval=-1., maxval=1.)
  angle, slant = jnp.deg2rad(degrees * angle), shear * slant
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  inverse = jnp.array([[cos, -sin], [sin + slant * cos, cos - slant * sin]]) / (1. + scale * zoom)
  middle = jnp.array([height - 1., width - 1.]) / 2.
  shift = jnp.array([dy * height, dx * width]) * translate
  pixels = jnp.stack(jnp.mgrid[:height, :width].astype(jnp.float32), -1) - middle - shift
  return _sample(image, jnp.einsum('ij,hwj->hwi', inverse, pixels) + middle)


def _sample(image: jax.Array, at: jax.Array) -> jax.Array:
  """Reads an image bilinearly at `[h, w, (y, x)]` coordinates; outside it is black."""
  height, width, _ = image.shape
  low = jnp.floor(at).astype(jnp.int32)
  share = at - low
  out = jnp.zeros((), image.dtype)
  for dy in (0, 1):
    for dx in (0, 1):
      y, x = low[..., 0] + dy, low[..., 1] + dx
      inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
      weight = jnp.abs(1 - dy - share[..., 0]) * jnp.abs(1 - dx - share[..., 1]) * inside
      value = image[jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)]
      out += weight[..., None] * value
  return out


def product(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns a * b, rounded before anything is added to it.

  Compilers like to round a product and a sum together, once; the published operations round twice,
  and where the result is then cut to a whole number the difference is a whole grey level. A clip in
  between, wider than any value that occurs here, keeps the two apart.
  """
  return jnp.clip(a * b, -1e9, 1e9)


def coordinates(rows: Sequence, shape: Sequence[int], offset: float) -> tuple[jax.Array, jax.Array]:
  """Returns where (x, y) in the old image each pixel of the new one lies, `[height, width]` each.

  Args:
    rows: ((a, b, c), (d, e, f)) of the inverse map: x_old = a x + b y + c, y_old = d x + e y + f.
    shape: of the image, `[height, width, channels]`.
    offset: of the centre of the first pixel: 0. for TensorFlow, .5 for Pillow.
  """
  y, x = jnp.mgrid[:shape[0], :shape[1]].astype(jnp.float32) + offset
  return tuple(product(a, x) + product(b, y) + c for a, b, c in rows)


def read_nearest(image: jax.Array, x: jax.Array, y: jax.Array, fill: jax.Array) -> jax.Array:
  """Reads the nearest pixels, ties away from zero, as TensorFlow's ImageProjectiveTransformV3.

  Args:
    image: uint8 `[height, width, channels]`.
    x, y: coordinates `[height, width]`; whole numbers are the centres of pixels.
    fill: level of what lies outside, uint8 `[channels]`.
  """
  height, width, _ = image.shape
  x, y = (jax.lax.round(v, jax.lax.RoundingMethod.AWAY_FROM_ZERO).astype(jnp.int32) for v in (x, y))
  inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
  value = image[jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)]
  return jnp.where(inside[..., None], value, fill)


def _weights(share: jax.Array, bicubic: bool | jax.Array) -> tuple[jax.Array, ...]:
  """Returns the weights of four neighbours, bilinear or bicubic (Pillow's, a = -1)."""
  d, d2, d3 = share, share ** 2, share ** 3
  cubic = (-d + 2. * d2 - d3, 1. - 2. * d2 + d3, d + d2 - d3, d3 - d2)
  linear = (0., 1. - d, d, 0.)
  return tuple(jnp.where(bicubic, c, b) for c, b in zip(cubic, linear))


def read_smooth(image: jax.Array, x: jax.Array, y: jax.Array, fill: jax.Array,
                bicubic: bool | jax.Array) -> jax.Array:
  """Reads an image between its pixels, as Pillow's `Image.transform` does.

  Pillow repeats the border for neighbours outside, fills where the coordinate itself is outside, and
  cuts the result to a whole level.

  Args:
    image: uint8 `[height, width, channels]`.
    x, y: coordinates `[height, width]`; halves are the centres of pixels.
    fill: level of what lies outside, uint8 `[channels]`.
    bicubic: or else bilinear; may differ by image.
  """
  height, width, _ = image.shape
  inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
  x, y = x - .5, y - .5
  left, top = jnp.floor(x), jnp.floor(y)
  across, down = _weights(x - left, bicubic), _weights(y - top, bicubic)
  left, top = left.astype(jnp.int32) - 1, top.astype(jnp.int32) - 1
  # Without interpolation known beforehand all 16 neighbours are read; bilinear alone needs 4.
  taps = (1, 2) if bicubic is False else range(4)
  total = 0.
  for i in taps:
    row = 0.
    for j in taps:
      value = image[jnp.clip(top + i, 0, height - 1), jnp.clip(left + j, 0, width - 1)]
      row += across[j][..., None] * value
    total += down[i][..., None] * row
  # Sums of weights are 1 but for rounding, which must not cut a whole number to the one below.
  total = jnp.clip(total + 1e-3, 0., 255.).astype(jnp.uint8)
  return jnp.where(inside[..., None], total, fill)
