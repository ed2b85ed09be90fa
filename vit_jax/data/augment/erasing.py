"""Random erasing (arXiv:1708.04896), as timm does it."""

from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp

from vit_jax.data.augment.options import Choice, Number, Probability

ATTEMPTS = 10  # draws of a rectangle before one that does not fit is given up (timm)


def rectangle(key: jax.Array, height: int, width: int, area: Sequence[float], aspect: Sequence[float],
              count: jax.Array) -> jax.Array:
  """Draws one of `count` rectangles that lies within the image.

  Args:
    key: of this rectangle.
    height, width: of the image.
    area: least and most share of the image that all rectangles together take.
    aspect: least and most height over width, drawn evenly on a logarithmic scale.
    count: rectangles in this image.

  Returns:
    (top, bottom, left, right), int32 `[4]`, the ends not included; empty if no draw fitted.
  """
  keys = jax.random.split(key, 4)
  low, high = jnp.log(jnp.asarray(aspect, jnp.float32))
  ratio = jnp.exp(jax.random.uniform(keys[0], (ATTEMPTS,), minval=low, maxval=high))
  share = jax.random.uniform(keys[1], (ATTEMPTS,), minval=area[0], maxval=area[1])
  pixels = share * height * width / count
  tall = jnp.round(jnp.sqrt(pixels * ratio)).astype(jnp.int32)
  wide = jnp.round(jnp.sqrt(pixels / ratio)).astype(jnp.int32)
  fits = (tall < height) & (wide < width)
  first = jnp.argmax(fits)
  tall, wide = (jnp.where(fits[first], side[first], 0) for side in (tall, wide))
  top = jax.random.randint(keys[2], (), 0, height - tall + 1)
  left = jax.random.randint(keys[3], (), 0, width - wide + 1)
  return jnp.stack([top, top + tall, left, left + wide])


def random_erasing(image: jax.Array, key: jax.Array, mean: Sequence[float], std: Sequence[float],
                   probability: Probability = .25,
                   mode: Annotated[str, Choice(('pixel', 'rand', 'const'))] = 'pixel',
                   area: Annotated[Sequence[float], Number(0., 1., pair=True)] = (.02, 1 / 3),
                   aspect: Annotated[Sequence[float], Number(.01, 100., pair=True)] = (.3, 1 / .3),
                   count: Annotated[int, Number(1, 16, whole=True)] = 1) -> jax.Array:
  """Overwrites up to `count` rectangles.

  timm erases after normalisation, with normal noise, or with 0. Here images are normalised last of all,
  so what is written is mean + std * noise, which normalisation turns into that very noise (and which
  may leave [0, 1]): put this after whatever changes colours, and before mixing, as timm has it.

  Args:
    image: float `[height, width, channels]` in [0, 1].
    key: of this image.
    mean, std: of the data's normalisation.
    probability: of erasing anything.
    mode: 'pixel' writes noise, 'rand' one random colour per rectangle, 'const' the mean.
    area: share of the image, over all rectangles.
    aspect: height over width.
    count: most rectangles; their number is drawn from 1 to this.
  """
  height, width, channels = image.shape
  mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
  on, number, noise, *keys = jax.random.split(key, 3 + count)
  number = jax.random.randint(number, (), 1, count + 1) * jax.random.bernoulli(on, probability)
  y, x = jnp.mgrid[:height, :width]
  shape = dict(pixel=(height, width, channels), rand=(count, channels), const=())[mode]
  noise = jnp.zeros(()) if mode == 'const' else jax.random.normal(noise, shape)
  for i, one in enumerate(keys):
    top, bottom, left, right = rectangle(one, height, width, area, aspect, jnp.maximum(number, 1))
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right) & (i < number)
    value = mean + std * (noise[i] if mode == 'rand' else noise)
    image = jnp.where(inside[..., None], value, image)
  return image
