"""SETR: segmentation transformers (arXiv:2012.15840).

A ViT without its last norm gives the outputs of four layers. Decoders (section 3.3): 'naive', two linear
layers and bilinear enlargement; 'pup', convolutions that enlarge by two each; 'mla', which adds the
layers up from the deepest on.

Parameters: `backbone/...` (as the backbone has them); `decode` `{norm, conv_{i}/{conv, bn}, conv_seg}`
and the same in `auxiliary_{i}`; of 'mla' `decode` `{norm_{i}, project_{i}, extract_{i}, enlarge_{i}_{0,
1}, conv_seg}`, where all but the norms are `{conv, bn}`, and `auxiliary_seg_{i}`. Running statistics in
`batch_stats`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from detr_jax.models.pixels import base
from detr_jax.models.pixels.base import Classify, ConvBlock, Head, Pixels
from vit_jax.errors import unknown
from vit_jax.layers.resizing import bilinear
from vit_jax.models.features import Features
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'SETR, arXiv:2012.15840'
DECODERS = ('naive', 'pup', 'mla')
EPSILON = 1e-6  # of every norm


class UpHead(nn.Module):
  """A norm, convolutions each followed by bilinear enlargement, and the classes.

  Attributes:
    depth, factor: convolutions, and by how much each enlarges.
    kernel_size, width: of the convolutions.
    num_classes, dropout_rate, dtype: as `SETR`.
  """
  num_classes: int
  depth: int
  factor: int
  kernel_size: int
  width: int
  dropout_rate: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, h, w, c]` to float32 logits of `factor ** depth` times the size."""
    x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name='norm')(x)
    for i in range(self.depth):
      x = ConvBlock(self.width, self.kernel_size, self.dtype, name=f'conv_{i}')(x, train)
      x = bilinear(x, tuple(n * self.factor for n in x.shape[1:3]))
    return Classify(self.num_classes, self.dropout_rate, name='conv_seg')(x, train)


class MultiLevelHead(nn.Module):
  """Layers added up from the deepest on, each convolved and enlarged by four, and the classes.

  Attributes:
    width: channels of the sums.
    level_width: channels to which each is brought.
    num_classes, dropout_rate, dtype: as `SETR`.
  """
  num_classes: int
  width: int
  level_width: int
  dropout_rate: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, maps: tuple[jax.Array, ...], train: bool = False
               ) -> tuple[jax.Array, list[jax.Array]]:
    """Maps `[batch, h, w, c]` to float32 logits `[batch, 4 h, 4 w, classes]`, and to the sums behind a
    convolution, the deepest first, `[batch, h, w, width]` each."""
    block = lambda name, size, width: ConvBlock(width, size, self.dtype, name=name)
    sums = []
    for i in reversed(range(len(maps))):
      x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=f'norm_{i}')(maps[i])
      x = block(f'project_{i}', 1, self.width)(x, train)
      sums.append(x + bilinear(sums[-1], x.shape[1:3]) if sums else x)
    levels = [block(f'extract_{i}', 3, self.width)(x, train) for i, x in enumerate(sums)]
    size, enlarged = tuple(4 * n for n in levels[-1].shape[1:3]), []
    for i, x in enumerate(levels):
      for n in range(2):
        x = block(f'enlarge_{i}_{n}', 3, self.level_width)(x, train)
      enlarged.append(bilinear(x, size))
    classify = Classify(self.num_classes, self.dropout_rate, name='conv_seg')
    return classify(jnp.concatenate(enlarged, -1), train), levels


class SETR(Head):
  """SETR, on any backbone; on a ViT it reads the layers `map_layers` of it.

  Attributes:
    decoder: 'naive', 'pup' or 'mla'.
    width: channels of the decoder.
    depth: convolutions of 'naive' (1), each of which enlarges by four, and 'pup' (4), by two; None: as
      published. The heads that help to train have two, which enlarge by two.
    auxiliary: whether there are heads that help to train: of each layer but the last, of 'mla' of each.
    level_width: channels to which 'mla' brings each level.
    dropout_rate: of whole channels, in front of the classifiers.
    Others: see `base.Head`.
  """
  backbone: str = 'vit_l16'
  decoder: str = 'pup'
  width: int = 256
  depth: int | None = None
  auxiliary: bool = True
  level_width: int = 128
  dropout_rate: float = 0.

  def check(self) -> None:
    """Raises UserError for fields that are not known."""
    if self.decoder not in DECODERS:
      raise unknown('decoder', self.decoder, DECODERS)

  @nn.nowrap
  def alone(self) -> Head:
    """Returns the model without the heads that only help to train."""
    return self.clone(auxiliary=False)

  def encode(self, image: jax.Array, train: bool = False) -> Features:
    """Returns the backbone's features of an image that is padded to whole patches."""
    return self.features(base.padded(image, base.patch(self.features)), train)

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False) -> Pixels:
    """Maps float `[batch, height, width, channels]`, normalised, to the classes of its pixels."""
    self.check()
    features, helps = self.encode(image, train), self.auxiliary and (train or self._helps)
    whole = tuple(n * s for n, s in zip(features.maps[0].shape[1:3], features.strides[0]))
    resized = lambda x: bilinear(x, whole)[:, :image.shape[1], :image.shape[2]]
    decode = self._mla if self.decoder == 'mla' else self._up
    logits, *others = decode(features.maps, train, helps)
    return Pixels(resized(logits), tuple(map(resized, others)))

  def _up(self, maps, train, helps):
    kernel = 1 if self.decoder == 'naive' else 3
    depth, factor = (self.depth or 1, 4) if self.decoder == 'naive' else (self.depth or 4, 2)
    head = lambda name, *own: UpHead(self.num_classes, *own, kernel, self.width, self.dropout_rate,
                                     self.dtype, name=name)
    found = [head('decode', depth, factor)(maps[-1], train)]
    if helps:
      found += [head(f'auxiliary_{i}', 2, 2)(x, train) for i, x in enumerate(maps[:-1])]
    return found

  def _mla(self, maps, train, helps):
    head = MultiLevelHead(self.num_classes, self.width, self.level_width, self.dropout_rate, self.dtype,
                          name='decode')
    logits, levels = head(maps, train)
    return logits, *(Classify(self.num_classes, self.dropout_rate, name=f'auxiliary_seg_{i}')(x, train)
                     for i, x in enumerate(levels if helps else ()))


def _variant(decoder: str, parameters: int, layers: tuple[int, ...], **fields) -> Variant:
  fields = FrozenDict(map_layers=layers, gelu='erf', dropout_rate=.1, **fields)
  return Variant(SETR, dict(backbone='vit_l16', backbone_fields=fields, decoder=decoder), parameters,
                 PAPER, (512, 512), Preprocessing(IMAGENET_MEAN, IMAGENET_STD))


UP_LAYERS, MLA_LAYERS = (9, 14, 19, 23), (5, 11, 17, 23)

# 'mla' has no class token: in the published files it and its position, 2,048 numbers, change nothing.
VARIANTS: dict[str, Variant] = dict(
    setr_l16_naive=_variant('naive', 305_558_616, UP_LAYERS),
    setr_l16_pup=_variant('pup', 317_291_096, UP_LAYERS),
    setr_l16_mla=_variant('mla', 309_568_238, MLA_LAYERS, pool='none'))


def _tiny(fields) -> dict:
  """Returns the fields of a small model of the same decoder."""
  own = {**fields['backbone_fields'], **base.tiny_backbone(fields)}
  if 'map_layers' in own:
    own['map_layers'] = tuple(range(own['depth']))
  return dict(backbone_fields=own, width=16, level_width=8)


FAMILY = base.PixelFamily(SETR, VARIANTS, base.RULES, tiny=_tiny, grid=base.grid)
