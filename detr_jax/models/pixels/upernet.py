"""UperNet: pyramid pooling and a feature pyramid (arXiv:1807.10221), as Swin's authors train it.

Parameters: `backbone/...` (as the backbone has them); `psp_{i}`, `bottleneck`, `lateral_{i}`, `fpn_{i}`,
`fpn_bottleneck`, each `{conv, bn}`, and `conv_seg`; `auxiliary/{conv, bn}`, `auxiliary_seg`. Running
statistics in `batch_stats`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from detr_jax.models.pixels import base
from detr_jax.models.pixels.base import ConvBlock, HelpedHead, Pixels, joined
from vit_jax.layers.resizing import bilinear
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'Swin transformer, arXiv:2103.14030, table 3'
BINS = 1, 2, 3, 6  # cells per side of the pooled maps (arXiv:1612.01105, section 3.2)


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


class UperNet(HelpedHead):
  """UperNet, on any backbone with four maps.

  Attributes:
    width: channels of the head.
    Others: see `base.HelpedHead`.
  """
  backbone: str = 'swin_t'
  width: int = 512

  def setup(self):
    super().setup()
    block = lambda name, size: ConvBlock(self.width, size, self.dtype, name=name)
    self.psp = [block(f'psp_{i}', 1) for i in range(len(BINS))]
    self.bottleneck, self.fpn_bottleneck = block('bottleneck', 3), block('fpn_bottleneck', 3)
    self.laterals = [block(f'lateral_{i}', 1) for i in range(3)]
    self.fpn = [block(f'fpn_{i}', 3) for i in range(3)]

  def fuse(self, maps: tuple[jax.Array, ...], train: bool) -> jax.Array:
    """Returns `[batch, h, w, width]` of the finest map's size, of four maps (figure 4)."""
    top = maps[-1]
    pooled = [bilinear(block(adaptive_mean(top, cells), train), top.shape[1:3])
              for block, cells in zip(self.psp, BINS)]
    levels = [lateral(x, train) for lateral, x in zip(self.laterals, maps)]
    levels.append(self.bottleneck(jnp.concatenate([top, *pooled], -1), train))
    for i in (2, 1, 0):
      levels[i] += bilinear(levels[i + 1], levels[i].shape[1:3])
    levels[:3] = [block(x, train) for block, x in zip(self.fpn, levels)]
    return self.fpn_bottleneck(joined(tuple(levels)), train)

  def __call__(self, image: jax.Array, train: bool = False) -> Pixels:
    """Maps float `[batch, height, width, channels]`, normalised, to the classes of its pixels."""
    maps, size = base.pyramid(self.encode(image, train), self.backbone, 4)[-4:], image.shape[1:3]
    return self.answer(self.fuse(maps, train), maps, size, train)


def _variant(backbone: str, parameters: int, **fields) -> Variant:
  return Variant(UperNet, dict(backbone=backbone, backbone_fields=FrozenDict(fields)), parameters, PAPER,
                 (512, 512), Preprocessing(IMAGENET_MEAN, IMAGENET_STD))


SWIN = dict(windows='pad', map_norms=True, drop_path_rate=.3)


VARIANTS: dict[str, Variant] = dict(
    upernet_swin_t=_variant('swin_t', 59_941_862, **SWIN),
    upernet_swin_s=_variant('swin_s', 81_259_766, **SWIN),
    upernet_swin_b=_variant('swin_b', 121_279_716, **SWIN),
    upernet_swin_l=_variant('swin_l', 233_759_936, **SWIN),
    upernet_r101=_variant('resnet101_c', 85_508_236))


FAMILY = base.PixelFamily(
    UperNet, VARIANTS, base.RULES,
    tiny=lambda fields: dict(base.tiny_pyramid(fields), width=16, auxiliary_width=8))
