"""Segmenter: transformer for semantic segmentation (arXiv:2105.05633).

Parameters: `backbone/...` (as the backbone has them) and, of the linear decoder, `head`; of the mask
transformer `proj_dec`, `cls_emb` `[classes, width]`, `encoderblock_{i}/...` as a ViT's, `decoder_norm`,
`proj_patch` and `proj_classes` `[width, width]`, `mask_norm`.
Intermediates: `backbone/...` and `decoder/encoderblock_{i}/MultiHeadDotProductAttention_0/attention`
`[batch, heads, patches + classes, patches + classes]`, the patches first.
"""

import re
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jax.sharding import PartitionSpec as P

from detr_jax.models.pixels import base
from detr_jax.models.pixels.base import Head, PixelFamily, Pixels
from vit_jax import sharding
from vit_jax.errors import UserError, unknown
from vit_jax.layers.resizing import bilinear
from vit_jax.models import vit
from vit_jax.models.features import Features
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant
from vit_jax.models.vit import EncoderBlock, LayerOptions

PAPER = 'Segmenter, arXiv:2105.05633, table 1'
DECODERS = ('linear', 'mask')
HEAD_WIDTH = 64  # channels of a head of attention
EPSILON = 1e-5  # of every norm, PyTorch's default
_normal = nn.initializers.truncated_normal(.02)


class LinearDecoder(nn.Module):
  """A linear layer for each patch (section 3.2)."""
  num_classes: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, h, w, width]` to float32 logits `[batch, h, w, classes]`."""
    return nn.Dense(self.num_classes, kernel_init=_normal, name='head')(x.astype(jnp.float32))


class MaskTransformer(nn.Module):
  """Layers over patches and one embedding for each class; masks are their products (section 3.2).

  Attributes:
    num_classes: of the masks.
    depth: layers.
    num_heads: of the attention; None: one for each 64 channels.
    dropout_rate, drop_path_rate: of the layers.
    dtype: of the layers; products and the last norm are float32.
  """
  num_classes: int
  depth: int = 2
  num_heads: int | None = None
  dropout_rate: float = .1
  drop_path_rate: float = 0.
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, h, w, width]` to float32 logits `[batch, h, w, classes]`."""
    batch, height, rows, width = x.shape
    heads = self.num_heads or max(width // HEAD_WIDTH, 1)
    if width % heads:
      raise UserError(f'decoder_heads={heads} does not divide the width {width} of the backbone')
    options = LayerOptions(heads, 4 * width, self.dropout_rate, layer_norm_eps=EPSILON, gelu='erf',
                           init_form='normal', dtype=self.dtype)
    dense = nn.Dense(width, kernel_init=_normal, dtype=self.dtype, name='proj_dec')
    classes = self.param('cls_emb', _normal, (self.num_classes, width)).astype(self.dtype)
    x = dense(x.reshape(batch, -1, width))
    x = jnp.concatenate([x, jnp.broadcast_to(classes, (batch, *classes.shape))], 1)
    rates = jnp.linspace(0., self.drop_path_rate, self.depth) if self.drop_path_rate else None
    for i in range(self.depth):
      rate = None if rates is None else rates[i]
      x, _ = EncoderBlock(options, name=f'encoderblock_{i}')(x, rate, train)
    x = options.norm('decoder_norm')(x).astype(jnp.float32)
    scaled = nn.initializers.normal(width ** -.5)
    patches = x[:, :height * rows] @ self.param('proj_patch', scaled, (width, width))
    classes = x[:, height * rows:] @ self.param('proj_classes', scaled, (width, width))
    unit = lambda v: v / jnp.linalg.norm(v, axis=-1, keepdims=True)
    masks = jnp.einsum('bpd,bkd->bpk', unit(patches), unit(classes))
    masks = nn.LayerNorm(epsilon=EPSILON, name='mask_norm')(masks)
    return masks.reshape(batch, height, rows, self.num_classes)


class Segmenter(Head):
  """Segmenter, on any backbone.

  Attributes:
    level: which of the backbone's maps is read; the last one of a ViT is its only one.
    decoder: 'linear' or 'mask'.
    decoder_depth, decoder_dropout_rate: of the mask transformer.
    decoder_heads: of its attention; None: one for each 64 channels.
    Others: see `base.Head`.
  """
  backbone: str = 'vit_s16'
  level: int = -1
  decoder: str = 'mask'
  decoder_depth: int = 2
  decoder_dropout_rate: float = .1
  decoder_heads: int | None = None

  def check(self) -> None:
    """Raises UserError for fields that do not fit together."""
    if self.decoder not in DECODERS:
      raise unknown('decoder', self.decoder, DECODERS)

  def setup(self):
    self.check()
    super().setup()
    own = LinearDecoder(self.num_classes) if self.decoder == 'linear' else MaskTransformer(
        self.num_classes, self.decoder_depth, self.decoder_heads, self.decoder_dropout_rate,
        dtype=self.dtype)
    self.decode = own.clone(parent=self, name='decoder')

  @property
  def num_heads(self) -> int | None:
    """Heads of the decoder's attention, where they are said."""
    return self.decoder_heads or super().num_heads

  def encode(self, image: jax.Array, train: bool = False) -> Features:
    """Returns the backbone's features of an image that is padded to whole patches."""
    return self.features(base.padded(image, base.patch(self.features)), train)

  def __call__(self, image: jax.Array, train: bool = False) -> Pixels:
    """Maps float `[batch, height, width, channels]`, normalised, to the classes of its pixels."""
    features = self.encode(image, train)
    try:
      x, stride = features.maps[self.level], features.strides[self.level]
    except IndexError:
      raise UserError(f'level={self.level}: the backbone {self.backbone!r} gives '
                      f'{len(features.maps)} map(s)') from None
    logits = self.decode(x, train)
    height, width = image.shape[1:3]
    whole = tuple(n * s for n, s in zip(x.shape[1:3], stride))
    return Pixels(bilinear(logits, whole)[:, :height, :width])


def _variant(size: str, patch: int, decoder: str, parameters: int, deit: bool = False) -> Variant:
  name = f'deit_b{patch}_distilled' if deit else f'vit_{size}{patch}'
  fields = dict(layer_norm_eps=EPSILON, gelu='erf', drop_path_rate=.1)
  rule = Preprocessing(IMAGENET_MEAN, IMAGENET_STD) if deit else Preprocessing()
  return Variant(Segmenter, dict(backbone=name, backbone_fields=FrozenDict(fields), decoder=decoder),
                 parameters, PAPER, (512, 512), rule)


RULES: sharding.Rules = ((r'.*/(proj_dec|proj_patch|proj_classes)(/kernel)?', P('fsdp', 'model')),
                         *vit.RULES)


def _table(decoder: str, counts: dict[str, int]) -> dict[str, Variant]:
  found = {}
  for name, parameters in counts.items():
    deit = name.endswith('_deit')
    size, patch = re.fullmatch(r'([a-z]+)(\d+)(?:_deit)?', name).groups()
    found[f'segmenter_{name}_{decoder}'] = _variant(size, int(patch), decoder, parameters, deit)
  return found


VARIANTS: dict[str, Variant] = {
    **_table('linear', dict(
        ti16=5_712_342, s32=22_631_190, s16=22_041_366, b32=87_729_558, b16=86_549_910, b8=88_466_838,
        b16_deit=86_551_446, l16=304_303_254)),
    **_table('mask', dict(
        ti16=6_713_388, s16=26_033_964, b32=103_677_228, b16=102_497_580, b16_deit=102_499_116,
        l16=332_644_652))}


def _tiny(fields) -> dict:
  """Returns the fields of a small model on a small backbone of the same family."""
  return dict(backbone_fields={**fields['backbone_fields'], **base.tiny_backbone(fields)},
              decoder_depth=1)


FAMILY = PixelFamily(
    Segmenter, VARIANTS, RULES, tiny=_tiny, grid=base.grid, classes='decoder/cls_emb',
    attention=dict(classes='decoder/encoderblock_{i}/MultiHeadDotProductAttention_0/attention'))
