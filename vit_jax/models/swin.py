"""Swin transformer (arXiv:2103.14030): windowed attention on maps of four resolutions.

Parameters: `patch_embed/{conv, norm}`, `stage{s}/downsample/{norm, reduction}` (of every stage but the
first), `stage{s}/block{b}/{norm1, attention/{query, key, value, out, relative_position_bias_table},
norm2, mlp/{Dense_0, Dense_1}}`, `norm`, `head`; `norm0`, `norm1`, ... with `map_norms`.
Intermediates: `representation` `[batch, channels]`, what the head reads; those of the attention, see
`vit_jax.layers.windows`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from vit_jax import sharding
from vit_jax.errors import UserError, unknown
from vit_jax.layers import padding
from vit_jax.layers.drop_path import DropPath
from vit_jax.layers.mlp import MlpBlock
from vit_jax.layers.windows import WindowAttention
from vit_jax.models.family import Depths, Family
from vit_jax.models.features import Features
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'Swin transformer, arXiv:2103.14030, section 3.3'

WINDOWS = ('shrink', 'pad')
# The authors truncate at 100 deviations, which is no truncation.
_normal, _zeros = nn.initializers.normal(stddev=.02), nn.initializers.zeros


def _norm(dtype, name: str) -> nn.LayerNorm:
  return nn.LayerNorm(epsilon=1e-5, dtype=dtype, name=name)


def _to_multiple(x: jax.Array, size: int) -> jax.Array:
  """Returns `[batch, h, w, c]` with zeros below and to the right, up to multiples of `size`."""
  return jnp.pad(x, ((0, 0), *((0, -n % size) for n in x.shape[1:3]), (0, 0)))


class Block(nn.Module):
  """Attention within windows, then an MLP, each behind a norm (equation 3); see `Swin`."""
  num_heads: int
  window_size: int
  shift: int = 0
  mlp_ratio: float = 4.
  qkv_bias: bool = True
  dropout_rate: float = 0.
  attention_dropout_rate: float = 0.
  drop_path_rate: float = 0.
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, width]` to the same; `valid`: see `Swin`."""
    rate = self.drop_path_rate or None
    attention = WindowAttention(self.window_size, self.num_heads, self.qkv_bias,
                                self.attention_dropout_rate, self.dtype, name='attention')
    # What surrounds an image takes part in attention as zeros, set behind the norm.
    y = padding.clear(_norm(self.dtype, 'norm1')(x), valid)
    y = attention(y, self.shift, train, valid)
    y = nn.Dropout(self.dropout_rate, deterministic=not train)(y)
    x = self._residual(x, DropPath()(y, rate, train))
    mlp = MlpBlock(int(x.shape[-1] * self.mlp_ratio), 'erf', self.dropout_rate, self.dtype, _normal,
                   _zeros, name='mlp')
    return self._residual(x, DropPath()(mlp(_norm(self.dtype, 'norm2')(x), train), rate, train))

  def _residual(self, x, branch):
    # The barrier keeps each block's gradient apart from the next one's: see vit_jax.compilation.
    return sharding.constrain(jax.lax.optimization_barrier(x + branch))


class PatchMerging(nn.Module):
  """Joins 2x2 entries, a norm, and a linear layer to twice the channels (section 3.1)."""
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[batch, h, w, c]`, zero outside the images, to `[batch, h / 2, w / 2, 2 c]`, rounded up."""
    width, x = x.shape[-1], _to_multiple(x, 2)
    x = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
    return nn.Dense(2 * width, use_bias=False, kernel_init=_normal, dtype=self.dtype,
                    name='reduction')(_norm(self.dtype, 'norm')(x))


class PatchEmbed(nn.Module):
  """Cuts the image into patches; see `Swin` for the attributes."""
  width: int
  patch_size: int
  patch_norm: bool
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    """Maps `[batch, height, width, channels]` to `[batch, h, w, width]`, sizes rounded up."""
    patch = (self.patch_size,) * 2
    x = nn.Conv(self.width, patch, strides=patch, padding='VALID', dtype=self.dtype, name='conv')(
        _to_multiple(image, self.patch_size))
    return _norm(self.dtype, 'norm')(x) if self.patch_norm else x


class Stage(nn.Module):
  """Blocks of one resolution, behind a patch merging if asked for.

  Attributes:
    drop_path_rates: of the blocks, one for each.
    block: with what they share, its `window_size` the largest.
    shrink: whether windows are as small as the map, see `Swin.windows`.
    downsample: whether patches are merged first.
  """
  drop_path_rates: tuple[float, ...]
  block: Block
  shrink: bool
  downsample: bool

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> tuple[jax.Array, jax.Array | None]:
    """Maps `[batch, h, w, c]`, and `valid` of it, to the map behind the blocks and `valid` of that."""
    if self.downsample:
      x = PatchMerging(self.block.dtype, name='downsample')(padding.clear(x, valid))
      valid = padding.strided(valid, 2)
    size, shift, least = self.block.window_size, self.block.window_size // 2, min(x.shape[1:3])
    if self.shrink and least <= size:
      size, shift = least, 0
    for i, rate in enumerate(self.drop_path_rates):
      block = self.block.clone(window_size=size, shift=shift * (i % 2), drop_path_rate=rate,
                               name=f'block{i}', parent=self)
      x = block(x, train, valid)
    return x, valid


class Swin(nn.Module):
  """A Swin transformer: a classifier, or a backbone where `num_classes` is None.

  Attributes:
    num_classes: of the head; None returns `Features` with a map per stage, of strides 4, 8, 16, 32.
    width: channels of the first stage; doubles with each.
    depths, num_heads: blocks and attention heads of each stage.
    window_size: tokens of a side of a window.
    windows: 'shrink', as the authors' classifier: where a side of the map is at most `window_size`,
      windows are that small and not shifted; or 'pad', as their detectors and segmenters: windows keep
      their size, always shift, and zeros complete the map. At 224 pixels the two differ in the last
      stage, of 7x7 tokens. None: 'shrink' for a classifier, 'pad' for a backbone.
    patch_size: pixels.
    mlp_ratio: width of the MLP's hidden layer over that of the stage.
    qkv_bias: whether query, key and value have a bias.
    patch_norm: whether a norm follows the patch embedding.
    absolute_positions: whether a learned table is added to the patches (table 4 of the paper).
    dropout_rate: of patches, and behind each attention and dense layer of an MLP.
    attention_dropout_rate: of the attention weights.
    drop_path_rate: of the last block; rises linearly from 0 at the first.
    map_norms: with `num_classes=None`, a norm for each map, as the detectors and segmenters have.
    dtype: compute dtype; parameters, softmax and norms' statistics are float32.
  """
  num_classes: int | None = 1000
  width: int = 96
  depths: tuple[int, ...] = (2, 2, 6, 2)
  num_heads: tuple[int, ...] = (3, 6, 12, 24)
  window_size: int = 7
  windows: str | None = None
  patch_size: int = 4
  mlp_ratio: float = 4.
  qkv_bias: bool = True
  patch_norm: bool = True
  absolute_positions: bool = False
  dropout_rate: float = 0.
  attention_dropout_rate: float = 0.
  drop_path_rate: float = 0.
  map_norms: bool = False
  dtype: jnp.dtype = jnp.float32

  def check(self, windows: str, padded: bool) -> None:
    """Raises UserError for fields that do not fit together."""
    if len(self.num_heads) != len(self.depths):
      raise UserError(f'num_heads {self.num_heads} and depths {self.depths} must have one number for '
                      'each stage')
    for i, heads in enumerate(self.num_heads):
      if self.width * 2 ** i % heads:
        raise UserError(f'num_heads {self.num_heads}: {heads} does not divide the width '
                        f'{self.width * 2 ** i} of stage {i}')
    if windows not in WINDOWS:
      raise unknown('windows', windows, WINDOWS)
    if windows == 'shrink' and padded:
      raise UserError("Swin reads `valid` with windows='pad' alone: the size of a window would depend "
                      'on the padding; leave model.windows out')
    if self.absolute_positions and padded:
      raise UserError('Swin with absolute_positions takes images without padding alone; set '
                      'model.absolute_positions=false')

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` of any size to logits `[batch, num_classes]`.

    With `valid`, see `vit_jax.models.features`, to features that do not depend on the padding.
    """
    padding.check(self, valid)
    windows = self.windows or ('pad' if self.num_classes is None else 'shrink')
    self.check(windows, valid is not None)
    x = PatchEmbed(self.width, self.patch_size, self.patch_norm, self.dtype, name='patch_embed')(
        padding.clear(image, valid))
    if self.absolute_positions:
      table = self.param('absolute_pos_embed', _normal, (1, x.shape[1] * x.shape[2], self.width))
      x += table.reshape(1, *x.shape[1:]).astype(x.dtype)
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    maps = self._stages(x, train, padding.strided(valid, self.patch_size), windows == 'shrink')
    if self.num_classes is None:
      if self.map_norms:
        maps = [(_norm(self.dtype, f'norm{i}')(x), valid) for i, (x, valid) in enumerate(maps)]
      return Features(tuple(padding.clear(*one) for one in maps), None,
                      tuple((self.patch_size * 2 ** i,) * 2 for i in range(len(maps))))
    x = _norm(self.dtype, 'norm')(maps[-1][0]).astype(jnp.float32).mean((1, 2))
    self.sow('intermediates', 'representation', x)
    return nn.Dense(self.num_classes, kernel_init=_normal, name='head')(x)

  def _stages(self, x, train, valid, shrink) -> list[tuple[jax.Array, jax.Array | None]]:
    """Returns the map of each stage, and `valid` of it."""
    rates = np.linspace(0., self.drop_path_rate, sum(self.depths)).tolist()
    maps = []
    for i, (depth, heads) in enumerate(zip(self.depths, self.num_heads)):
      block = Block(heads, self.window_size, 0, self.mlp_ratio, self.qkv_bias, self.dropout_rate,
                    self.attention_dropout_rate, dtype=self.dtype, parent=None)
      own, rates = tuple(rates[:depth]), rates[depth:]
      x, valid = Stage(own, block, shrink, i > 0, name=f'stage{i}')(x, train, valid)
      maps.append((x, valid))
    return maps


def _variant(width: int, depths: tuple[int, ...], heads: int, parameters: int, size: int = 224,
             window: int = 7) -> Variant:
  # At 384 the whole image is seen.
  rule = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 'squash' if size > 224 else 'center',
                       interpolation='bicubic')
  heads = tuple(heads * 2 ** i for i in range(4))
  return Variant(Swin, dict(width=width, depths=depths, num_heads=heads, window_size=window), parameters,
                 PAPER, (size, size), rule)


_DEEP = (2, 2, 18, 2)

VARIANTS: dict[str, Variant] = dict(
    swin_t=_variant(96, (2, 2, 6, 2), 3, 28_288_354),
    swin_s=_variant(96, _DEEP, 3, 49_606_258),
    swin_b=_variant(128, _DEEP, 4, 87_768_224),
    swin_b_384=_variant(128, _DEEP, 4, 87_903_584, 384, 12),
    swin_l=_variant(192, _DEEP, 6, 196_532_476),
    swin_l_384=_variant(192, _DEEP, 6, 196_735_516, 384, 12),
)

RULES: sharding.Rules = (
    (r'.*/(query|key|value|Dense_0|reduction)/kernel', P('fsdp', 'model')),
    (r'.*/(attention/out|Dense_1)/kernel', P('model', 'fsdp')),
    (r'.*/conv/kernel', P(None, None, None, 'fsdp')),
    (r'.*/head/kernel', P('fsdp', 'model')),
    (r'.*', P()),
)

DEPTHS: Depths = (
    (r'patch_embed/.*|absolute_pos_embed', 0),
    (r'stage(\d+)/downsample/.*', None),  # a group before the first block of its stage
    (r'stage(\d+)/block(\d+)/.*', None),
    (r'.*', -1))

FAMILY = Family(Swin, VARIANTS, RULES, DEPTHS,
                lambda fields: dict(width=16, depths=(2, 2), num_heads=(2, 4), window_size=2),
                blocks=r'stage\d/block\d+', kernels=('patch_embed/conv/kernel',))
