"""Colour operations for images on a canvas, on the device, keyed by (seed, step, global index)."""

from collections.abc import Mapping, Sequence

import jax

from vit_jax.data import augment
from vit_jax.data.augment import options
from vit_jax.errors import UserError, unknown

OPS = dict(color_jitter=augment.color_jitter,
           photometric_distortion=augment.photometric_distortion)


def check(ops: Sequence[Mapping]) -> None:
  """Raises UserError for an operation of `config.data.augment` that detectors cannot have.

  What moves pixels would have to move boxes: the host does that (`config.data.transforms`).
  """
  for op in ops:
    name = op.get('name', '')
    if name in {**augment.IMAGE_OPS, **augment.BATCH_OPS} and name not in OPS:
      raise UserError(f'augmentation {name!r} is not for detectors, whose boxes it would not follow; '
                      f'data.augment takes {", ".join(OPS)}, and data.transforms moves pixels and boxes')
    if name not in OPS:
      raise unknown('augmentation of a detector:', name, OPS)
    options.check(name, OPS[name], {k: v for k, v in op.items() if k != 'name'})


def apply(images: jax.Array, inside: jax.Array, key: jax.Array, ops: Sequence[Mapping]) -> jax.Array:
  """Returns the images after the operations in their order; what is around them counts nowhere.

  Args:
    images: float `[batch, height, width, 3]` in [0, 1]: the whole global batch.
    inside: bool `[batch, height, width, 1]`: the pixels of the images.
    key: of (seed, step).
    ops: dicts with `name` and options.
  """
  for i, op in enumerate(ops):
    operation = OPS[op['name']]
    settings = options.typed(operation, {k: v for k, v in op.items() if k != 'name'})
    keys = augment.keys(jax.random.fold_in(key, i), len(images))
    images = jax.vmap(lambda x, k, within: operation(x, k, **settings, inside=within))(  # noqa: B023
        images, keys, inside)
  return images
