"""Images at the upper left of a canvas, whose features do not depend on what is around them.

`valid`, bool `[batch, h, w]`, tells which entries of a map belong to the image; None: all do. Layers
keep the other entries zero: what a convolution sees beyond the border of an image that is alone.
"""

import jax
import jax.numpy as jnp

from vit_jax.errors import UserError


def check(model, valid: jax.Array | None) -> None:
  """Raises UserError where a classifier is told of padding: its pooling would count what is around."""
  if valid is not None and model.num_classes is not None:
    raise UserError(f'{type(model).__name__} reads `valid` as a backbone alone; set num_classes=None, '
                    'or give the classifier images without padding')


def clear(x: jax.Array, valid: jax.Array | None, value: float = 0.) -> jax.Array:
  """Returns a map `[batch, h, w, c]` with one value in every entry outside the image."""
  return x if valid is None else jnp.where(valid[..., None], x, jnp.asarray(value, x.dtype))


def strided(valid: jax.Array | None, stride: int | tuple[int, int]) -> jax.Array | None:
  """Returns `valid` of the map behind a layer with a stride, whose sizes are rounded up."""
  rows, columns = (stride, stride) if isinstance(stride, int) else stride
  return None if valid is None else valid[:, ::rows, ::columns]


def mean(x: jax.Array, valid: jax.Array | None, axes: tuple[int, ...]) -> jax.Array:
  """Returns the mean of `[batch, h, w, c]` over axes, among them height and width, inside the images."""
  if valid is None:
    return x.mean(axes)
  return clear(x, valid).sum(axes) / count(x, valid, axes)


def count(x: jax.Array, valid: jax.Array | None, axes: tuple[int, ...]) -> jax.Array | float:
  """Returns how many entries `mean` counts, 1 or more: one number, or `[batch, 1]`."""
  if valid is None:
    return float(x.size // x.shape[-1]) if 0 in axes else float(x.shape[1] * x.shape[2])
  found = jnp.maximum(valid.sum(axes).astype(jnp.float32), 1.)
  return found if 0 in axes else found[:, None]


def around(length: int, size: int, stride: int) -> tuple[int, int]:
  """Returns TensorFlow's 'same' padding of a side: entries before and behind."""
  total = max((-(-length // stride) - 1) * stride + size - length, 0)
  return total // 2, total - total // 2


def same(x: jax.Array, valid: jax.Array, size: int, stride: int) -> jax.Array:
  """Returns `[batch, h, w, c]` with zeros around, so that windows without padding see each image as
  they see it alone under TensorFlow's 'same' padding.

  That padding depends on the size: it would give an image of odd height on a canvas of even height
  other windows than the image alone.

  Args:
    x: zero outside the images.
    valid: bool `[batch, h, w]`.
    size, stride: of the windows; an odd number, and at most as large.
  """
  for axis, other in ((1, 2), (2, 1)):
    own = valid.any(other).sum(1)  # the height or width of each image
    before = jnp.maximum((-(-own // stride) - 1) * stride + size - own, 0) // 2
    most, least = size // 2, (size - stride) // 2
    length = (-(-x.shape[axis] // stride) - 1) * stride + size
    sides = [(0, 0)] * 4
    sides[axis] = (most, max(length - x.shape[axis], 0))
    x = jnp.pad(x, sides)
    start = (most - before).reshape(-1, 1, 1, 1)
    out = jax.lax.slice_in_dim(x, 0, length, axis=axis)
    for shift in range(1, most - least + 1):
      out = jnp.where(start == shift, jax.lax.slice_in_dim(x, shift, shift + length, axis=axis), out)
    x = out
  return x
