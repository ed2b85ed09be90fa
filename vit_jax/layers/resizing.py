"""Bilinear resizing of maps `[batch, height, width, channels]`, between the centres of pixels.

There is no low-pass filter, as in `torch.nn.functional.interpolate(mode='bilinear')` without
`align_corners`, and in OpenCV.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.compilation import counted


def bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Returns `[batch, *size, channels]`.

  On a CPU each entry is a mean of neighbours, which takes a seventh of the time of the matrix products
  that `jax.image.resize` makes of it (32x32 to 512x512, 150 channels); elsewhere, and in the gradient,
  it is those products. There is no second derivative.
  """
  if x.shape[1:3] == tuple(size):
    return x
  return counted(functools.partial(_bilinear, tuple(size)), 0)(x)  # resizing counts nowhere


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _bilinear(size, x):
  return jax.lax.platform_dependent(x, cpu=functools.partial(_of_neighbours, size),
                                    default=functools.partial(_by_products, size))


def _of_neighbours(size, x):
  out = x.astype(jnp.float32)
  for axis, (old, new) in enumerate(zip(x.shape[1:3], size), 1):
    centre = np.clip((np.arange(new) + .5) * old / new - .5, 0., old - 1.)
    low = centre.astype(int)
    share = (centre - low).astype(np.float32).reshape([new if n == axis else 1 for n in range(4)])
    first, second = (jnp.take(out, at, axis) for at in (low, np.minimum(low + 1, old - 1)))
    out = first + (second - first) * share
  return out.astype(x.dtype)


def _by_products(size, x):
  return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), 'linear', antialias=False)


def _backward(size, x, gradient):
  return jax.vjp(functools.partial(_by_products, size), x)[1](gradient)


_bilinear.defvjp(lambda size, x: (_bilinear(size, x), x), _backward)


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
