"""Neighborhood attention transformers: NAT (arXiv:2204.07143) and DiNAT (arXiv:2209.15001).

Two convolutions of stride 2, with no activation between them, make tokens; levels of transformer layers
follow, whose attention sees a neighborhood. Every level but the first begins with a convolution of
stride 2. In DiNAT, every other layer's neighborhood is dilated.

Parameters: `tokenizer/{conv_0, conv_1, norm}`, `level{i}/layer{j}/{norm1, attention/{query, key, value,
out, relative_bias}, norm2, mlp, gamma_1, gamma_2}`, `level{i}/downsample/{conv, norm}`, `norm`, `head`;
`norm0`, `norm1`, ... with `map_norms`.
Intermediates: `representation` `[batch, channels]`, what the head reads; those of the attention, see
`vit_jax.layers.neighborhood`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from vit_jax import sharding
from vit_jax.errors import UserError
from vit_jax.layers import padding
from vit_jax.layers.convolution import Conv
from vit_jax.layers.drop_path import DropPath
from vit_jax.layers.mlp import MlpBlock
from vit_jax.layers.neighborhood import NeighborhoodAttention
from vit_jax.models.family import Depths, Family
from vit_jax.models.features import Features
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

NAT_PAPER = 'Neighborhood attention transformer, arXiv:2204.07143, table 2'
DINAT_PAPER = 'Dilated neighborhood attention transformer, arXiv:2209.15001, table 2'

_normal, _zeros = nn.initializers.normal(stddev=.02), nn.initializers.zeros
# PyTorch's default for convolutions: uniform up to 1 / sqrt(inputs).
_uniform = nn.initializers.variance_scaling(1. / 3., 'fan_in', 'uniform')


def _norm(dtype, name: str | None = None) -> nn.LayerNorm:
  return nn.LayerNorm(epsilon=1e-5, dtype=dtype, name=name)


class Layer(nn.Module):
  """A pre-norm transformer layer of `[batch, h, w, width]`; see `NAT` for the attributes."""
  num_heads: int
  mlp_ratio: float
  kernel_size: int
  dilation: int
  layer_scale: float | None = None
  dropout_rate: float = 0.
  qkv_bias: bool = True
  qk_scale: float | None = None
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, drop_path_rate: float, train: bool = False,
               valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, width]` to the same."""
    width = x.shape[-1]
    attention = NeighborhoodAttention(self.num_heads, self.kernel_size, self.dilation, self.qkv_bias,
                                      self.qk_scale, dtype=self.dtype, name='attention')
    y = attention(_norm(self.dtype, 'norm1')(x), valid)
    y = nn.Dropout(self.dropout_rate, deterministic=not train)(y)
    x = self._residual(x, y, 'gamma_1', drop_path_rate, train)
    mlp = MlpBlock(int(width * self.mlp_ratio), 'erf', self.dropout_rate, self.dtype, _normal, _zeros,
                   name='mlp')
    return self._residual(x, mlp(_norm(self.dtype, 'norm2')(x), train), 'gamma_2', drop_path_rate, train)

  def _residual(self, x, branch, name, drop_path_rate, train):
    if self.layer_scale is not None:
      start = nn.initializers.constant(self.layer_scale)
      branch *= self.param(name, start, branch.shape[-1:]).astype(branch.dtype)
    branch = DropPath()(branch, drop_path_rate or None, train)
    # The barrier keeps each layer's gradient apart from the next one's: see vit_jax.compilation.
    return sharding.constrain(jax.lax.optimization_barrier(x + branch))


class Downsample(nn.Module):
  """A 3x3 convolution of stride 2 to twice the channels, and a norm (NAT, section 3.3)."""
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / 2, w / 2, 2 c]`, sizes rounded up."""
    conv = Conv(2 * x.shape[-1], 3, 2, kernel_init=_uniform, dtype=self.dtype, name='conv')
    return _norm(self.dtype, 'norm')(conv(padding.clear(x, valid), valid))


class Level(nn.Module):
  """Layers of one resolution, behind a downsampler if asked for.

  Attributes:
    dilations, drop_path_rates: of the layers, one entry for each.
    layer: with what they share.
    downsample: whether the map is cut to half its size first.
  """
  dilations: tuple[int, ...]
  drop_path_rates: tuple[float, ...]
  layer: Layer
  downsample: bool

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> tuple[jax.Array, jax.Array | None]:
    """Maps `[batch, h, w, c]`, and `valid` of it, to the map behind the layers and `valid` of that."""
    if self.downsample:
      x = Downsample(self.layer.dtype, name='downsample')(x, valid)
      valid = padding.strided(valid, 2)
    for i, (dilation, rate) in enumerate(zip(self.dilations, self.drop_path_rates)):
      layer = self.layer.clone(dilation=dilation, name=f'layer{i}', parent=self)
      x = layer(x, rate, train, valid)
    return x, valid


class Tokenizer(nn.Module):
  """Two 3x3 convolutions of stride 2 and a norm (NAT, section 3.3)."""
  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, height, width, channels]` to `[batch, height / 4, width / 4, width]`."""
    x = image
    for i, features in enumerate((self.width // 2, self.width)):
      conv = Conv(features, 3, 2, use_bias=True, kernel_init=_uniform, dtype=self.dtype,
                  name=f'conv_{i}')
      x = conv(padding.clear(x, valid), valid)
      valid = padding.strided(valid, 2)
    return _norm(self.dtype, 'norm')(x)


class NAT(nn.Module):
  """A neighborhood attention transformer: a classifier, or a backbone where `num_classes` is None.

  Attributes:
    num_classes: of the head; None returns `Features` with a map per level, of strides 4, 8, 16, 32.
    width: channels of the first level; doubles with each.
    depths: layers per level.
    num_heads: per level.
    mlp_ratio: width of the MLP's hidden layer over that of the level.
    kernel_size: of the neighborhood, odd.
    dilations: per layer of each level; (): 1 for all.
    layer_scale: initial scale per channel of every branch (CaiT, arXiv:2103.17239); None: no scale.
    dropout_rate: of tokens, and behind each attention and dense layer of an MLP.
    drop_path_rate: of the last layer; rises linearly from 0 at the first.
    qkv_bias, qk_scale: of the attention, see `NeighborhoodAttention`.
    map_norms: with `num_classes=None`, a norm for each map, as the detectors and segmenters have.
    dtype: of the computation; parameters, softmax and norms' statistics are float32.
  """
  num_classes: int | None = 1000
  width: int = 64
  depths: tuple[int, ...] = (3, 4, 6, 5)
  num_heads: tuple[int, ...] = (2, 4, 8, 16)
  mlp_ratio: float = 3.
  kernel_size: int = 7
  dilations: tuple[tuple[int, ...], ...] = ()
  layer_scale: float | None = None
  dropout_rate: float = 0.
  drop_path_rate: float = 0.
  qkv_bias: bool = True
  qk_scale: float | None = None
  map_norms: bool = False
  dtype: jnp.dtype = jnp.float32

  def check(self) -> None:
    """Raises UserError for fields that do not fit together."""
    if len(self.num_heads) != len(self.depths):
      raise UserError(f'num_heads {self.num_heads} and depths {self.depths} must have one number for '
                      'each level')
    if self.dilations and tuple(map(len, self.dilations)) != tuple(self.depths):
      raise UserError(f'dilations {self.dilations} must have one number for each layer: {self.depths} '
                      'in the levels; () makes all of them 1')

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` of any size to logits `[batch, num_classes]`.

    With `valid`, see `vit_jax.models.features`, to features that do not depend on the padding.
    """
    self.check()
    padding.check(self, valid)
    x = Tokenizer(self.width, self.dtype, name='tokenizer')(image, valid)
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    maps = self._levels(x, train, padding.strided(valid, 4))
    if self.num_classes is None:
      if self.map_norms:
        maps = [(_norm(self.dtype, f'norm{i}')(x), valid) for i, (x, valid) in enumerate(maps)]
      return Features(tuple(padding.clear(x, valid) for x, valid in maps), None,
                      tuple((4 * 2 ** i,) * 2 for i in range(len(maps))))
    x = _norm(self.dtype, 'norm')(maps[-1][0]).astype(jnp.float32).mean((1, 2))
    self.sow('intermediates', 'representation', x)
    return nn.Dense(self.num_classes, kernel_init=_normal, name='head')(x)

  def _levels(self, x, train, valid) -> list[tuple[jax.Array, jax.Array | None]]:
    """Returns the map of each level, and `valid` of it."""
    rates = np.linspace(0., self.drop_path_rate, sum(self.depths)).tolist()
    dilations = self.dilations or tuple((1,) * depth for depth in self.depths)
    maps, first = [], 0
    for i, (depth, heads) in enumerate(zip(self.depths, self.num_heads)):
      layer = Layer(heads, self.mlp_ratio, self.kernel_size, 1, self.layer_scale, self.dropout_rate,
                    self.qkv_bias, self.qk_scale, self.dtype, parent=None)
      level = Level(dilations[i], tuple(rates[first:first + depth]), layer, i > 0, name=f'level{i}')
      maps.append(level(x, train, valid))
      (x, valid), first = maps[-1], first + depth
    return maps


SIZES = dict(  # width, depths, heads, MLP ratio
    mini=(64, (3, 4, 6, 5), (2, 4, 8, 16), 3.), tiny=(64, (3, 4, 18, 5), (2, 4, 8, 16), 3.),
    small=(96, (3, 4, 18, 5), (3, 6, 12, 24), 2.), base=(128, (3, 4, 18, 5), (4, 8, 16, 32), 2.),
    large=(192, (3, 4, 18, 5), (6, 12, 24, 48), 2.))


def _variant(size: str, parameters: int, source: str = NAT_PAPER, image_size: int = 224,
             steps: tuple[int, ...] = (), **fields) -> Variant:
  """Returns a model; `steps`: dilation of every other layer of each level."""
  width, depths, num_heads, mlp_ratio = SIZES[size]
  fields |= dict(width=width, depths=depths, num_heads=num_heads, mlp_ratio=mlp_ratio)
  if steps:
    fields['dilations'] = tuple(
        tuple(step if i % 2 else 1 for i in range(depth)) for step, depth in zip(steps, depths))
  # At 384 the whole image is seen.
  rule = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, crop_ratio=1. if image_size > 224 else .875,
                       interpolation='bicubic')
  return Variant(NAT, fields, parameters, source, (image_size, image_size), rule)


def _dilated(size: str, parameters: int, image_size: int = 224, steps=(8, 4, 2, 1), **fields) -> Variant:
  return _variant(size, parameters, DINAT_PAPER, image_size, steps, **fields)


VARIANTS: dict[str, Variant] = dict(
    nat_mini=_variant('mini', 19_984_174),
    nat_tiny=_variant('tiny', 27_901_582),
    nat_small=_variant('small', 50_743_297, layer_scale=1e-5),
    nat_base=_variant('base', 89_769_652, layer_scale=1e-5),
    dinat_mini=_dilated('mini', 19_984_174),
    dinat_tiny=_dilated('tiny', 27_901_582),
    dinat_small=_dilated('small', 50_719_681),
    dinat_base=_dilated('base', 89_769_652, layer_scale=1e-5),
    dinat_large=_dilated('large', 200_943_514),
    dinat_large_384=_dilated('large', 200_943_514, 384, (13, 6, 3, 1)),
    dinat_large_384_11x11=_dilated('large', 201_144_250, 384, kernel_size=11),
)

RULES: sharding.Rules = (
    (r'.*/(query|key|value|Dense_0)/kernel', P('fsdp', 'model')),
    (r'.*/(attention/out|Dense_1)/kernel', P('model', 'fsdp')),
    (r'.*/relative_bias', P('model', None, None)),
    (r'.*/conv(_\d)?/kernel', P(None, None, None, 'fsdp')),
    (r'.*/head/kernel', P('fsdp', 'model')),
    (r'.*', P()),
)

DEPTHS: Depths = (
    (r'tokenizer/.*', 0),
    (r'level(\d+)/downsample/.*', None),  # a group before the first layer of its level
    (r'level(\d+)/layer(\d+)/.*', None),
    (r'.*', -1))


def _tiny(fields) -> dict:
  """Returns the fields of a network of two levels, whose first map has 4x4 entries at 16x16 pixels."""
  tiny = dict(width=16, depths=(2, 1), num_heads=(2, 4), kernel_size=3)
  return tiny | (dict(dilations=((1, 2), (1,))) if fields.get('dilations') else {})


FAMILY = Family(NAT, VARIANTS, RULES, DEPTHS, _tiny, blocks=r'level\d/layer\d+',
                kernels=('tokenizer/conv_0/kernel',))
