"""What the heads for pixels share: their outputs, the backbone below them, and their blocks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jax.sharding import PartitionSpec as P

from vit_jax import models, sharding
from vit_jax.errors import UserError
from vit_jax.layers.convolution import Conv
from vit_jax.layers.norms import BatchNorm
from vit_jax.layers.resizing import bilinear
from vit_jax.models.family import Family, Grid
from vit_jax.models.features import Features


@flax.struct.dataclass
class Pixels:
  """What a segmenter gives.

  Attributes:
    logits: float32 `[batch, height, width, classes]`, of every pixel of the image.
    auxiliary: the same of heads that help to train.
  """
  logits: jax.Array
  auxiliary: tuple[jax.Array, ...] = ()


class Head(nn.Module):
  """What every segmenter has: a backbone of `vit_jax`, and classes.

  Attributes:
    num_classes: of pixels.
    backbone, backbone_fields: a model of `vit_jax`, and its fields.
    dtype: of the computation; logits are float32.
  """
  num_classes: int = 150
  backbone: str = 'resnet50'
  backbone_fields: Mapping[str, Any] = FrozenDict()
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.features = self._trunk()

  @property
  def num_heads(self) -> int | None:
    """Heads of the backbone's attention, where it has one number of them."""
    return getattr(self.trunk(), 'num_heads', None)

  @nn.nowrap
  def trunk(self) -> nn.Module:
    """Returns the backbone as a module of its own; UserError for an unknown name or field."""
    return models.create_model(self.backbone, **{
        'dtype': self.dtype, **self.backbone_fields, 'num_classes': None})

  @nn.nowrap
  def alone(self) -> 'Head':
    """Returns the model without the heads that only help to train."""
    return self

  def encode(self, image: jax.Array, train: bool = False) -> Features:
    """Returns the backbone's features."""
    return self.features(image, train)

  def _trunk(self) -> nn.Module:
    """Returns the backbone as a part of the segmenter; a field has its name."""
    return self.trunk().clone(parent=self, name='backbone')

  @property
  def _helps(self) -> bool:
    """Whether the heads that help to train are wanted where nothing is trained."""
    return self.is_initializing() or self.is_mutable_collection('intermediates')


class ConvBlock(nn.Module):
  """A convolution, a batch norm and ReLU."""
  width: int
  kernel_size: int = 1
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h, w, width]`."""
    x = Conv(self.width, self.kernel_size, dtype=self.dtype, name='conv')(x)
    return nn.relu(BatchNorm(dtype=self.dtype, name='bn')(x, train))


class Classify(nn.Module):
  """A linear layer for each entry of a map, behind dropout of whole channels.

  Parameters: `kernel` `[c, classes]`, `bias`.
  """
  num_classes: int
  dropout_rate: float = .1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, h, w, c]` to float32 logits `[batch, h, w, classes]`."""
    x = nn.Dropout(self.dropout_rate, broadcast_dims=(1, 2))(x, deterministic=not train)
    layer = nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(.01))
    nn.share_scope(self, layer)
    return layer(x.astype(jnp.float32))


class HelpedHead(Head):
  """A head with a second, plain one that helps to train, as FCN (arXiv:1411.4038).

  Attributes:
    auxiliary_width: channels of the head that helps to train, on the last map but one; 0: none.
    dropout_rate: of whole channels, in front of both classifiers.
    Others: see `Head`.
  """
  auxiliary_width: int = 256
  dropout_rate: float = .1

  def setup(self):
    super().setup()
    self.conv_seg = Classify(self.num_classes, self.dropout_rate)
    if self.auxiliary_width:
      self.auxiliary = ConvBlock(self.auxiliary_width, 3, self.dtype)
      self.auxiliary_seg = Classify(self.num_classes, self.dropout_rate)

  @nn.nowrap
  def alone(self) -> 'Head':
    """Returns the model without the head that only helps to train."""
    return self.clone(auxiliary_width=0)

  def answer(self, x: jax.Array, maps: tuple[jax.Array, ...], size: tuple[int, int], train: bool
             ) -> Pixels:
    """Returns the classes of pixels by what the head has made, `[batch, h, w, width]`.

    Args:
      x: see above.
      maps: of the backbone.
      size: (height, width) of the image.
      train: whether dropout and batch norms act as in training.
    """
    logits = bilinear(self.conv_seg(x, train), size)
    if not (self.auxiliary_width and (train or self._helps)):
      return Pixels(logits)
    helping = self.auxiliary_seg(self.auxiliary(maps[-2], train), train)
    return Pixels(logits, (bilinear(helping, size),))


def joined(maps: tuple[jax.Array, ...]) -> jax.Array:
  """Returns all maps in the size of the first, beside each other: `[batch, h, w, channels of all]`."""
  return jnp.concatenate([bilinear(x, maps[0].shape[1:3]) for x in maps], -1)


@dataclasses.dataclass(frozen=True)
class PixelFamily(Family):
  """A segmenter's architecture; its `attention` may have 'classes', of patches and then classes.

  Attributes:
    classes: path of an embedding for each class, `[classes, width]`; '' for none.
  """
  classes: str = ''


def padded(image: jax.Array, multiple: int) -> jax.Array:
  """Returns the image with zeros below and to the right, so that both sides are multiples."""
  return jnp.pad(image, ((0, 0), *((0, -n % multiple) for n in image.shape[1:3]), (0, 0)))


def patch(backbone: nn.Module) -> int:
  """Returns of what the sides of an image must be multiples."""
  own = getattr(backbone, 'patch', None)
  return max(own) if own else 1


def grid(model: Head, size: tuple[int, int]) -> Grid | None:
  """Returns how the backbone cuts an image that is padded to whole patches."""
  trunk = model.trunk()
  multiple = patch(trunk)
  return models.family(trunk).grid(trunk, tuple(-(-n // multiple) * multiple for n in size))


def pyramid(features: Features, name: str, count: int) -> tuple[jax.Array, ...]:
  """Returns the maps of a backbone; UserError where there are fewer than `count`."""
  if len(features.maps) < count:
    raise UserError(f'the backbone {name!r} gives {len(features.maps)} map(s), the head reads {count}; '
                    'choose a backbone with stages, such as swin_t, convnext_t, nat_mini or resnet50')
  return features.maps


RULES: sharding.Rules = (  # of the heads; what lies below `backbone/` is the backbone's own matter
    (r'.*/\w*_seg(_\d+)?/kernel', P('fsdp', 'model')),
    (r'.*/conv/kernel', P(None, None, None, 'fsdp')),
    (r'.*', P()))


def tiny_backbone(fields) -> dict:
  """Returns the fields of a small backbone of the family that a model's fields name."""
  own = {**models.variant(fields['backbone']).arguments, **fields['backbone_fields']}
  return models.family(fields['backbone']).tiny(own)


def tiny_pyramid(fields) -> dict:
  """Returns `backbone_fields` of a small backbone that keeps its four stages."""
  small = {**fields['backbone_fields'], **tiny_backbone(fields)}
  for name in ('depths', 'widths', 'num_heads'):
    if isinstance(small.get(name), tuple):
      last = small[name][-1]
      small[name] = (*small[name], *(last * 2 if name == 'widths' else last
                                     for _ in range(4 - len(small[name]))))
  return dict(backbone_fields=small)
