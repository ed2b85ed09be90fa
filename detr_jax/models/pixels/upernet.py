"""UperNet: pyramid pooling and a feature pyramid (arXiv:1807.10221), as Swin's authors train it.

Parameters: `backbone/...` (as the backbone has them); `psp_{i}`, `bottleneck`, `lateral_{i}`, `fpn_{i}`,
`fpn_bottleneck`, each `{conv, bn}`, and `conv_seg`; `auxiliary/{conv, bn}`, `auxiliary_seg`. Running
statistics in `batch_stats`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jax.sharding import PartitionSpec as P

from detr_jax.models.pixels import base
from detr_jax.models.pixels.base import Pixels
from detr_jax.models.pixels.segmenter import tiny_backbone
from detr_jax.ops.resizing import bilinear
from vit_jax import sharding
from vit_jax.layers.convolution import Conv
from vit_jax.layers.norms import BatchNorm
from vit_jax.models import swin
from vit_jax.models.family import Family
from vit_jax.models.features import Features
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'Swin transformer, arXiv:2103.14030, table 3'
BINS = 1, 2, 3, 6  # cells per side of the pooled maps (arXiv:1612.01105, section 3.2)
_normal = nn.initializers.normal(.01)


def adaptive_mean(x: jax.Array, cells: int) -> jax.Array:
  """Returns `[batch, cells, cells, c]`, means of `[batch, h, w, c]` over cells that may overlap.

  Cell i reaches from floor(i n / cells) to ceil((i + 1) n / cells), as PyTorch's adaptive pooling.
  """
  def weights(length):
    out = np.zeros((cells, length), np.float32)
    for i in range(cells):
      first, last = i * length // cells, -(-(i + 1) * length // cells)
      out[i, first:last] = 1. / (last - first)
    return out
  rows, columns = map(weights, x.shape[1:3])
  return jnp.einsum('ih,jw,bhwc->bijc', rows, columns, x.astype(jnp.float32)).astype(x.dtype)


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


class UperNet(nn.Module):
  """UperNet, on any backbone with four maps.

  Attributes:
    num_classes: of pixels.
    backbone, backbone_fields: a model of `vit_jax`, and its fields.
    width: channels of the head.
    auxiliary_width: channels of the head that helps to train, on the last map but one; 0: none.
    dropout_rate: of whole channels, in front of both classifiers.
    dtype: of the computation; logits are float32.
  """
  num_classes: int = 150
  backbone: str = 'swin_t'
  backbone_fields: Mapping[str, Any] = FrozenDict()
  width: int = 512
  auxiliary_width: int = 256
  dropout_rate: float = .1
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.features = self.trunk().clone(parent=self, name='backbone')  # a field has the name
    block = lambda name, size: ConvBlock(self.width, size, self.dtype, name=name)
    self.psp = [block(f'psp_{i}', 1) for i in range(len(BINS))]
    self.bottleneck, self.fpn_bottleneck = block('bottleneck', 3), block('fpn_bottleneck', 3)
    self.laterals = [block(f'lateral_{i}', 1) for i in range(3)]
    self.fpn = [block(f'fpn_{i}', 3) for i in range(3)]
    self.conv_seg = nn.Dense(self.num_classes, kernel_init=_normal)
    self.dropout = nn.Dropout(self.dropout_rate, broadcast_dims=(1, 2))
    if self.auxiliary_width:
      self.auxiliary = ConvBlock(self.auxiliary_width, 3, self.dtype)
      self.auxiliary_seg = nn.Dense(self.num_classes, kernel_init=_normal)

  @property
  def num_heads(self) -> int | None:
    """Heads of the backbone's attention, where it has one number of them."""
    return getattr(self.trunk(), 'num_heads', None)

  @nn.nowrap
  def trunk(self) -> nn.Module:
    """Returns the backbone as a module of its own."""
    return base.backbone(self.backbone, self.backbone_fields, self.dtype)

  def encode(self, image: jax.Array, train: bool = False) -> Features:
    """Returns the backbone's features."""
    return self.features(image, train)

  def fuse(self, maps: tuple[jax.Array, ...], train: bool) -> jax.Array:
    """Returns `[batch, h, w, width]` of the finest map's size, of four maps (figure 4)."""
    size, top = maps[0].shape[1:3], maps[-1]
    pooled = [bilinear(block(adaptive_mean(top, cells), train), top.shape[1:3])
              for block, cells in zip(self.psp, BINS)]
    levels = [lateral(x, train) for lateral, x in zip(self.laterals, maps)]
    levels.append(self.bottleneck(jnp.concatenate([top, *pooled], -1), train))
    for i in (2, 1, 0):
      levels[i] += bilinear(levels[i + 1], levels[i].shape[1:3])
    levels[:3] = [block(x, train) for block, x in zip(self.fpn, levels)]
    return self.fpn_bottleneck(jnp.concatenate([bilinear(x, size) for x in levels], -1), train)

  def __call__(self, image: jax.Array, train: bool = False) -> Pixels:
    """Maps float `[batch, height, width, channels]`, normalised, to the classes of its pixels."""
    maps, size = base.pyramid(self.encode(image, train), self.backbone), image.shape[1:3]
    classify = lambda x, layer: bilinear(
        layer(self.dropout(x, deterministic=not train).astype(jnp.float32)), size)
    logits = classify(self.fuse(maps, train), self.conv_seg)
    wanted = train or self.is_initializing() or self.is_mutable_collection('intermediates')
    if not (self.auxiliary_width and wanted):
      return Pixels(logits)
    return Pixels(logits, classify(self.auxiliary(maps[-2], train), self.auxiliary_seg))


def _variant(backbone: str, parameters: int, size: int = 512) -> Variant:
  fields = FrozenDict(windows='pad', map_norms=True, drop_path_rate=.3)
  return Variant(UperNet, dict(backbone=backbone, backbone_fields=fields), parameters, PAPER,
                 (size, size), Preprocessing(IMAGENET_MEAN, IMAGENET_STD))


RULES: sharding.Rules = ((r'.*/conv_seg/kernel', P('fsdp', 'model')),
                         (r'.*/(psp|lateral|fpn)_\w+/conv/kernel', P(None, None, None, 'fsdp')),
                         *swin.FAMILY.rules)


VARIANTS: dict[str, Variant] = dict(
    upernet_swin_t=_variant('swin_t', 59_941_862), upernet_swin_s=_variant('swin_s', 81_259_766),
    upernet_swin_b=_variant('swin_b', 121_279_716), upernet_swin_l=_variant('swin_l', 233_759_936))


def _tiny(fields) -> dict:
  """Returns the fields of a narrow head on a small backbone that keeps its four stages."""
  small = {**fields['backbone_fields'], **tiny_backbone(fields)}
  for name in ('depths', 'widths', 'num_heads'):
    if name in small:
      last = small[name][-1]
      small[name] = (*small[name], *(last * 2 if name == 'widths' else last
                                     for _ in range(4 - len(small[name]))))
  return dict(backbone_fields=small, width=16, auxiliary_width=8)


FAMILY = Family(UperNet, VARIANTS, RULES, tiny=_tiny)
