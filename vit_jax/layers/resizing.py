"""Bilinear resizing of maps `[batch, height, width, channels]`, between the centres of pixels.

There is no low-pass filter, as in `torch.nn.functional.interpolate(mode='bilinear')` without
`align_corners`, and in OpenCV.
"""

import jax
import jax.numpy as jnp

from vit_jax.compilation import counted


def bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Returns `[batch, *size, channels]`."""
  if x.shape[1:3] == tuple(size):
    return x
  resize = lambda x: jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), 'linear', antialias=False)
  return counted(resize, 0)(x)  # its matrix products count nowhere as the network's


def rescaled(x: jax.Array, sizes: jax.Array, wanted: jax.Array, canvas: tuple[int, int],
             mirrored: bool = False) -> jax.Array:
  """Resizes images that lie at the upper left of a canvas, each from its own size to its own.

  Args:
    x: `[batch, h, w, channels]`.
    sizes: int `[batch, 2]`, (height, width) of the images in it.
    wanted: int `[batch, 2]`, those of the results, which the canvas must hold.
    canvas: (height, width) of the arrays of the results; what lies outside an image repeats its border.
    mirrored: whether left and right change places.
  """
  def one(image, old, new):
    rows, columns = (_places(n, old[axis], new[axis]) for axis, n in enumerate(canvas))
    if mirrored:
      columns = tuple(_flipped(index, old[1]) for index in columns[:2]) + columns[2:]
    low, high, share = rows
    image = image[low] * (1. - share)[:, None, None] + image[high] * share[:, None, None]
    low, high, share = columns
    return image[:, low] * (1. - share)[:, None] + image[:, high] * share[:, None]

  return jax.vmap(one)(x, sizes, wanted)


def _flipped(index, length):
  return length - 1 - index


def _places(count: int, old: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns for each of `count` pixels the two that it lies between, and the share of the second."""
  centre = (jnp.arange(count) + .5) * (old.astype(jnp.float32) / new.astype(jnp.float32)) - .5
  centre = jnp.clip(centre, 0., (old - 1).astype(jnp.float32))
  low = centre.astype(jnp.int32)
  return low, jnp.minimum(low + 1, old - 1), centre - low
