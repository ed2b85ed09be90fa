"""OCRNet: object-contextual representations (arXiv:1909.11065).

Parameters: `backbone/...` (as the backbone has them); `coarse`, `coarse_seg` of the first head;
`pixels`, `query_{0, 1}`, `key_{0, 1}`, `value`, `out`, `fuse`, `context_seg` of the second. A block is
`{conv, bn}`. Running statistics in `batch_stats`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from detr_jax.models.pixels import base
from detr_jax.models.pixels.base import Classify, ConvBlock, Head, Pixels, joined
from vit_jax.errors import unknown
from vit_jax.layers.resizing import bilinear
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'OCRNet, arXiv:1909.11065; Swin transformer, arXiv:2103.14030, table 3'
INPUTS = ('last', 'joined')


class OCRNet(Head):
  """OCRNet, on any backbone with two maps or more.

  Attributes:
    inputs: 'last' (the first head reads the last map but one, the second the last) or 'joined' (both
      read all maps, resized to the finest; HRNet's).
    width: channels of the representations of pixels and objects.
    context_width: channels of the attention of pixels to objects.
    coarse_width: channels of the first head, whose loss helps to train; None: as many as it reads.
    dropout_rate: of whole channels, in front of both classifiers.
    Others: see `base.Head`.
  """
  backbone: str = 'resnet101_c'
  inputs: str = 'last'
  width: int = 512
  context_width: int = 256
  coarse_width: int | None = 256
  dropout_rate: float = .1

  def check(self) -> None:
    """Raises UserError for fields that are not known."""
    if self.inputs not in INPUTS:
      raise unknown('inputs', self.inputs, INPUTS)

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False) -> Pixels:
    """Maps float `[batch, height, width, channels]`, normalised, to the classes of its pixels."""
    self.check()
    maps, size = base.pyramid(self.encode(image, train), self.backbone, 2), image.shape[1:3]
    first, second = (joined(maps),) * 2 if self.inputs == 'joined' else maps[-2:]
    coarse = self._block('coarse', 1 if self.inputs == 'joined' else 3,
                         self.coarse_width or first.shape[-1])(first, train)
    coarse = Classify(self.num_classes, self.dropout_rate, name='coarse_seg')(coarse, train)
    pixels = self._block('pixels', 3, self.width)(second, train)
    x = self.context(pixels, bilinear(coarse, pixels.shape[1:3]), train)
    logits = Classify(self.num_classes, self.dropout_rate, name='context_seg')(x, train)
    return Pixels(bilinear(logits, size), (bilinear(coarse, size),))

  def _block(self, name, size, width):
    return ConvBlock(width, size, self.dtype, name=name)

  def context(self, pixels: jax.Array, coarse: jax.Array, train: bool) -> jax.Array:
    """Returns `[batch, h, w, width]`: each pixel with what it draws from the classes' objects.

    Args:
      pixels: `[batch, h, w, width]`.
      coarse: `[batch, h, w, classes]`, logits of the first head: a class's object is the mean of the
        pixels, weighed by the softmax over their places (equation 2).
      train: whether batch norms read the batch.
    """
    batch, height, width, channels = pixels.shape
    shares = jax.nn.softmax(coarse.reshape(batch, height * width, -1), axis=1).astype(pixels.dtype)
    objects = jnp.einsum('bpk,bpc->bkc', shares, pixels.reshape(batch, -1, channels))[:, :, None]

    def project(name, x, count):
      for i in range(count):
        x = self._block(f'{name}_{i}' if count > 1 else name, 1, self.context_width)(x, train)
      return x.reshape(batch, -1, self.context_width)

    query, key, value = project('query', pixels, 2), project('key', objects, 2), project(
        'value', objects, 1)
    weights = jnp.einsum('bpc,bkc->bpk', query, key).astype(jnp.float32) * self.context_width ** -.5
    seen = jax.nn.softmax(weights).astype(pixels.dtype) @ value
    seen = self._block('out', 1, self.width)(seen.reshape(batch, height, width, -1), train)
    return self._block('fuse', 1, self.width)(jnp.concatenate([seen, pixels], -1), train)


def _variant(backbone: str, parameters: int, fields, **own) -> Variant:
  return Variant(OCRNet, dict(backbone=backbone, backbone_fields=FrozenDict(fields), **own), parameters,
                 PAPER, (512, 512), Preprocessing(IMAGENET_MEAN, IMAGENET_STD))


VARIANTS: dict[str, Variant] = dict(
    ocrnet_r101=_variant('resnet101_c', 55_617_164, dict(output_stride=8)),
    ocrnet_hrnet_w48=_variant('hrnet_w48', 70_533_100, dict(resizing='bilinear'), inputs='joined',
                              coarse_width=None, dropout_rate=0.))

FAMILY = base.PixelFamily(
    OCRNet, VARIANTS, base.RULES,
    tiny=lambda fields: dict(base.tiny_pyramid(fields), width=16, context_width=8))
