"""What the heads for pixels share: their outputs, and the backbone below them."""

from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models.features import Features


@flax.struct.dataclass
class Pixels:
  """What a segmenter gives.

  Attributes:
    logits: float32 `[batch, height, width, classes]`, of every pixel of the image.
    auxiliary: the same of a head that only helps to train, or None.
  """
  logits: jax.Array
  auxiliary: jax.Array | None = None


def backbone(name: str, fields: Mapping, dtype: jnp.dtype) -> nn.Module:
  """Returns the backbone of a segmenter; UserError for an unknown name or field."""
  return models.create_model(name, **{'dtype': dtype, **fields, 'num_classes': None})


def padded(image: jax.Array, multiple: int) -> jax.Array:
  """Returns the image with zeros below and to the right, so that both sides are multiples."""
  return jnp.pad(image, ((0, 0), *((0, -n % multiple) for n in image.shape[1:3]), (0, 0)))


def pyramid(features: Features, name: str, count: int = 4) -> tuple[jax.Array, ...]:
  """Returns the maps of a backbone; UserError where there are fewer than `count`."""
  if len(features.maps) < count:
    raise UserError(f'the backbone {name!r} gives {len(features.maps)} map(s), the head reads {count}; '
                    'choose a backbone with stages, such as swin_t, convnext_t, nat_mini or resnet50')
  return features.maps[-count:]
