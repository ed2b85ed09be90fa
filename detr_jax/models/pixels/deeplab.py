"""DeepLabv3+: atrous spatial pyramid pooling, and a decoder that reads a fine map (arXiv:1802.02611).

Parameters: `backbone/...` (as the backbone has them); `image_pool`, `aspp_0` and, separable,
`aspp_{1..3}`; `bottleneck`, `fine`, separable `refine_{0, 1}`, `conv_seg`; `auxiliary`, `auxiliary_seg`.
A block is `{conv, bn}`, a separable one `depthwise/{conv, bn}` and `pointwise/{conv, bn}`. Running
statistics in `batch_stats`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from detr_jax.models.pixels import base
from detr_jax.models.pixels.base import ConvBlock, HelpedHead, Pixels
from vit_jax.layers.depthwise import DepthwiseConv
from vit_jax.layers.norms import BatchNorm
from vit_jax.layers.resizing import bilinear
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'DeepLabv3+, arXiv:1802.02611; Swin transformer, arXiv:2103.14030, table 3'


class Depthwise(nn.Module):
  """A dilated convolution of each channel with its own 3x3 kernel, a batch norm and ReLU."""
  dilation: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, train):
    x = DepthwiseConv(3, nn.initializers.variance_scaling(2., 'fan_out', 'normal'),
                      use_bias=False, dtype=self.dtype, dilation=self.dilation, name='conv')(x)
    return nn.relu(BatchNorm(dtype=self.dtype, name='bn')(x, train))


class SeparableBlock(nn.Module):
  """A depthwise 3x3 convolution and a 1x1 one, a batch norm and ReLU behind each (section 3.1)."""
  width: int
  dilation: int = 1
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h, w, width]`."""
    x = Depthwise(self.dilation, self.dtype, name='depthwise')(x, train)
    return ConvBlock(self.width, 1, self.dtype, name='pointwise')(x, train)


class DeepLabV3Plus(HelpedHead):
  """DeepLabv3+, on any backbone with two maps or more; the published ones have stride 8 at the last.

  Attributes:
    width: channels of the head.
    dilations: of the separable convolutions of the pyramid (section 3.1).
    fine_level, fine_width: which map the decoder reads beside, and the channels that it is reduced to.
    Others: see `base.HelpedHead`.
  """
  backbone: str = 'resnet101_c'
  width: int = 512
  dilations: tuple[int, ...] = (12, 24, 36)
  fine_level: int = 0
  fine_width: int = 48

  def setup(self):
    super().setup()
    block = lambda name, size=1: ConvBlock(self.width, size, self.dtype, name=name)
    self.image_pool, self.aspp_0, self.bottleneck = block('image_pool'), block('aspp_0'), block(
        'bottleneck', 3)
    self.aspp = [SeparableBlock(self.width, d, self.dtype, name=f'aspp_{i + 1}')
                 for i, d in enumerate(self.dilations)]
    self.fine = ConvBlock(self.fine_width, 1, self.dtype)
    self.refine = [SeparableBlock(self.width, 1, self.dtype, name=f'refine_{i}') for i in range(2)]

  def pool(self, x: jax.Array, train: bool) -> jax.Array:
    """Returns `[batch, h, w, width]`: what convolutions of several dilations and the whole map see."""
    whole = self.image_pool(x.mean((1, 2), keepdims=True), train)
    seen = [jnp.broadcast_to(whole, (*x.shape[:3], self.width)), self.aspp_0(x, train)]
    seen += [block(x, train) for block in self.aspp]
    return self.bottleneck(jnp.concatenate(seen, -1), train)

  def __call__(self, image: jax.Array, train: bool = False) -> Pixels:
    """Maps float `[batch, height, width, channels]`, normalised, to the classes of its pixels."""
    maps, size = base.pyramid(self.encode(image, train), self.backbone, 2), image.shape[1:3]
    fine = self.fine(maps[self.fine_level], train)
    x = bilinear(self.pool(maps[-1], train), fine.shape[1:3])
    x = jnp.concatenate([x, fine], -1)
    for block in self.refine:
      x = block(x, train)
    return self.answer(x, maps, size, train)


VARIANTS: dict[str, Variant] = dict(
    deeplabv3plus_r101=Variant(
        DeepLabV3Plus, dict(backbone='resnet101_c', backbone_fields=FrozenDict(output_stride=8)),
        62_682_876, PAPER, (512, 512), Preprocessing(IMAGENET_MEAN, IMAGENET_STD)))

FAMILY = base.PixelFamily(
    DeepLabV3Plus, VARIANTS, base.RULES, tiny=lambda fields: dict(
        base.tiny_pyramid(fields), width=16, fine_width=8, auxiliary_width=8, dilations=(1, 2)))
