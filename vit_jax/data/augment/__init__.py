"""Augmentation on the device, inside the jitted step, keyed by (seed, step, global index).

Images are float `[batch, height, width, channels]` in [0, 1], targets `[batch, classes]`. The result
does not depend on the number of devices or processes: an image's key is folded from its index in
the global batch. See docs/augmentation.md.
"""

import inspect
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from vit_jax.data.augment import options
from vit_jax.data.augment.auto import autoaugment, randaugment
from vit_jax.data.augment.erasing import random_erasing
from vit_jax.data.augment.geometry import affine, flip, translate
from vit_jax.data.augment.jitter import color_jitter, photometric_distortion, three_augment
from vit_jax.data.augment.mixing import mixup, mixup_cutmix
from vit_jax.errors import UserError, unknown

IMAGE_OPS = dict(flip=flip, translate=translate, affine=affine, randaugment=randaugment,
                 autoaugment=autoaugment, three_augment=three_augment, color_jitter=color_jitter,
                 photometric_distortion=photometric_distortion,
                 random_erasing=random_erasing)
BATCH_OPS = dict(mixup=mixup, mixup_cutmix=mixup_cutmix)


def check(ops: Sequence[Mapping], channels: int = 3) -> None:
  """Raises UserError for what is wrong with `config.data.augment`, before any training.

  Args:
    ops: dicts with `name` and options: names, options and values are checked.
    channels: of the images: what has no meaning for them is an error.
  """
  known = {**IMAGE_OPS, **BATCH_OPS}
  for op in ops:
    if op.get('name', '') not in known:
      raise unknown('augmentation', op.get('name', ''), known)
    options.check(op['name'], known[op['name']], {k: v for k, v in op.items() if k != 'name'})
  # What hangs on several options or on the images comes to light when shapes alone run through.
  jax.eval_shape(lambda: apply(jnp.zeros((2, 32, 32, channels)), jnp.zeros((2, 1)),
                               jax.random.key(0), ops))


def keys(key: jax.Array, count: int) -> jax.Array:
  """Returns a key for each image of a global batch."""
  return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))


def apply(images: jax.Array, targets: jax.Array, key: jax.Array, ops: Sequence[Mapping],
          mean: Sequence[float] = (.5,), std: Sequence[float] = (.5,)) -> tuple[jax.Array, jax.Array]:
  """Applies the operations of `config.data.augment` in their order.

  Args:
    images: float `[batch, height, width, channels]` in [0, 1]: the whole global batch.
    targets: float `[batch, classes]`.
    key: of (seed, step).
    ops: dicts with `name` and options.
    mean, std: of the normalisation that follows, for operations that write the data's mean or noise.
  """
  facts = dict(mean=tuple(mean), std=tuple(std))
  for i, op in enumerate(ops):
    operation = BATCH_OPS.get(op['name']) or IMAGE_OPS[op['name']]
    settings = options.typed(operation, {k: v for k, v in op.items() if k != 'name'})
    stage = jax.random.fold_in(key, i)
    if op['name'] in BATCH_OPS:
      images = jax.lax.optimization_barrier(images)  # or each partner would be computed twice
      images, targets = operation(images, targets, stage, **settings)
    else:
      settings |= {k: v for k, v in facts.items() if k in inspect.signature(operation).parameters}
      images = jax.vmap(lambda x, k: operation(x, k, **settings))(  # noqa: B023
          images, keys(stage, images.shape[0]))
  return images, targets


def check_channels(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
  """Raises UserError unless mean and std are one number each, or one per channel."""
  for name, values in (('mean', mean), ('std', std)):
    if len(values) not in (1, channels):
      raise UserError(f'data.{name} has {len(values)} numbers, the images {channels} channels; give one '
                      'number or one per channel')


def normalize(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
  """Returns (images - mean) / std; mean and std per channel, or one number for all.

  Raises:
    UserError: when their number is neither 1 nor that of the channels.
  """
  check_channels(mean, std, images.shape[-1])
  return (images - jnp.asarray(mean, images.dtype)) / jnp.asarray(std, images.dtype)
