"""Augmentation on the device, inside the jitted step, keyed by (seed, step, global index).

Images are float `[batch, height, width, channels]` in [0, 1], targets `[batch, classes]`. The result
does not depend on the number of devices or processes: an image's key is folded from its index in
the global batch.
"""

import inspect
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from vit_jax.errors import UserError, unknown


def flip(image: jax.Array, key: jax.Array, probability: float = .5) -> jax.Array:
  """Mirrors an image `[height, width, channels]` left to right with that probability."""
  return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def translate(image: jax.Array, key: jax.Array, pixels: int = 4) -> jax.Array:
  """Shifts by up to `pixels` whole pixels along each axis; what comes in is black."""
  height, width, channels = image.shape
  padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
  y, x = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
  return jax.lax.dynamic_slice(padded, (y, x, 0), (height, width, channels))


def affine(image: jax.Array, key: jax.Array, degrees: float = 10., translate: float = .1,
           scale: float = .1, shear: float = 0.) -> jax.Array:
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


def mixup(images: jax.Array, targets: jax.Array, key: jax.Array, p: float = .2
          ) -> tuple[jax.Array, jax.Array]:
  """Blends each example with the one before it (mixup, arXiv:1710.09412, as big_vision does it).

  Args:
    images: `[batch, height, width, channels]`.
    targets: `[batch, classes]`.
    key: of the step: the whole batch shares one share.
    p: of the Beta(p, p) distribution; the larger of the share and its rest goes to the example.
  """
  share = jax.random.beta(key, p, p)
  share = jnp.maximum(share, 1. - share)
  blend = lambda x: share * x + (1. - share) * jnp.roll(x, 1, axis=0)
  return blend(images), blend(targets)


IMAGE_OPS = dict(flip=flip, translate=translate, affine=affine)
BATCH_OPS = dict(mixup=mixup)


def check(ops: Sequence[Mapping]) -> None:
  """Raises UserError for an unknown operation or option in `config.data.augment`."""
  known = {**IMAGE_OPS, **BATCH_OPS}
  for op in ops:
    name = op.get('name', '')
    if name not in known:
      raise unknown('augmentation', name, known)
    allowed = set(inspect.signature(known[name]).parameters) - {'image', 'images', 'targets', 'key'}
    for option in set(op) - {'name'}:
      if option not in allowed:
        raise unknown(f'option of augmentation {name!r}:', option, allowed)


def apply(images: jax.Array, targets: jax.Array, key: jax.Array, ops: Sequence[Mapping]
          ) -> tuple[jax.Array, jax.Array]:
  """Applies the operations of `config.data.augment` in their order.

  Args:
    images: float `[batch, height, width, channels]` in [0, 1]: the whole global batch.
    targets: float `[batch, classes]`.
    key: of (seed, step).
    ops: dicts with `name` and options.
  """
  for i, op in enumerate(ops):
    options = {k: v for k, v in op.items() if k != 'name'}
    stage = jax.random.fold_in(key, i)
    if op['name'] in BATCH_OPS:
      images, targets = BATCH_OPS[op['name']](images, targets, stage, **options)
    else:
      keys = jax.vmap(jax.random.fold_in, (None, 0))(stage, jnp.arange(images.shape[0]))
      operation = IMAGE_OPS[op['name']]
      images = jax.vmap(lambda x, k: operation(x, k, **options))(images, keys)  # noqa: B023
  return images, targets


def normalize(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
  """Returns (images - mean) / std; mean and std per channel, or one number for all.

  Raises:
    UserError: when their number is neither 1 nor that of the channels.
  """
  for name, values in (('mean', mean), ('std', std)):
    if len(values) not in (1, images.shape[-1]):
      raise UserError(f'data.{name} has {len(values)} numbers, the images {images.shape[-1]} '
                      f'channels; give one number or one per channel')
  return (images - jnp.asarray(mean, images.dtype)) / jnp.asarray(std, images.dtype)
