"""Vision Transformer (An image is worth 16x16 words, arXiv:2010.11929).

Parameters carry the names of the published files, so that every tool that reads those reads ours:
`embedding`, `cls`, `Transformer/posembed_input/pos_embedding`, `Transformer/encoderblock_0/
{LayerNorm_0, MultiHeadDotProductAttention_0, LayerNorm_1, MlpBlock_0}`, `Transformer/encoder_norm`,
`pre_logits`, `head`; hybrids have the ResNet's too, `conv_root`, `gn_root`, `block1/unit1/...`.
With `scan=True` the layers are one stack `Transformer/encoderblock/...` with
a leading axis; `vit_jax.trees` converts either way.

Intermediates, read with `capture_intermediates=True` or `mutable=['intermediates']`:
`Transformer/encoderblock_0/MultiHeadDotProductAttention_0/attention` `[batch, heads, tokens,
tokens]` (scanned: `[depth, batch, ...]`) and `representation` `[batch, width]`,
what the head reads.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from vit_jax import sharding
from vit_jax.errors import UserError, unknown
from vit_jax.layers import padding
from vit_jax.layers.attention import Attention
from vit_jax.layers.drop_path import DropPath
from vit_jax.layers.mlp import MlpBlock
from vit_jax.layers.patches import grid_size
from vit_jax.layers.positions import LearnedPositions, sincos_2d
from vit_jax.models import resnet
from vit_jax.models.family import Depths, Family, Grid
from vit_jax.models.features import Features
from vit_jax.models.variant import Variant

PAPER = 'An image is worth 16x16 words, arXiv:2010.11929, table 1'
AUGREG = 'How to train your ViT, arXiv:2106.10270, table 2'
SCALING = 'Scaling vision transformers, arXiv:2106.04560, table 2'

POOLS = ('token', 'mean', 'attention', 'none')
POSITIONS = ('learned', 'sincos', 'none')
FUSIONS = ('logits', 'softmax', 'class', 'distillation', 'none')
# Kernels and biases of the layers, then tokens and head. DeiT's truncation, at 100 deviations, is none.
_zeros, _normal = nn.initializers.zeros, nn.initializers.normal(stddev=.02)
INITS = dict(
    xavier=(nn.initializers.xavier_uniform(), nn.initializers.normal(stddev=1e-6), _zeros),
    normal=(_normal, _zeros, _normal))
REMAT = dict(none=None, full=None, dots=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)


@dataclasses.dataclass(frozen=True)
class LayerOptions:
  """What all layers of an encoder share; see `ViT`."""
  num_heads: int = 12
  mlp_dim: int = 3072
  dropout_rate: float = 0.
  attention_dropout_rate: float = 0.
  layer_norm_eps: float = 1e-6
  gelu: str = 'tanh'
  qk_norm: bool = False
  layer_scale: float | None = None
  init_form: str = 'xavier'
  dtype: jnp.dtype = jnp.float32

  def norm(self, name: str | None = None) -> nn.LayerNorm:
    """Returns a LayerNorm."""
    return nn.LayerNorm(epsilon=self.layer_norm_eps, dtype=self.dtype, name=name)


class EncoderBlock(nn.Module):
  """One pre-norm layer: attention, then MLP, each behind a LayerNorm (ViT paper, eq. 2 and 3).

  With `layer_scale` the branches are scaled per channel by `gamma_1` and `gamma_2`, `[width]`
  (CaiT, arXiv:2103.17239, section 2.2).

  Attributes:
    options: of all layers.
    keep: whether the output is given twice, the second time for a scan to stack.
  """
  options: LayerOptions
  keep: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, drop_path_rate: jax.Array | None, train: bool,
               mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array | None]:
    """Maps `[batch, tokens, width]` to the same, and to what a scan stacks.

    `mask`, bool `[batch, 1, 1, tokens]`, tells which tokens are seen; None: all.
    """
    o = self.options
    kernels, biases, _ = INITS[o.init_form]
    y = o.norm('LayerNorm_0')(x)
    y = Attention(o.num_heads, o.attention_dropout_rate, o.qk_norm, o.dtype, kernels,
                  name='MultiHeadDotProductAttention_0')(y, y, train, mask=mask)
    y = nn.Dropout(o.dropout_rate, deterministic=not train)(y)
    x = self._residual(x, DropPath()(self._scaled(y, 'gamma_1'), drop_path_rate, train))
    mlp = MlpBlock(o.mlp_dim, o.gelu, o.dropout_rate, o.dtype, kernels, biases)
    y = mlp(o.norm('LayerNorm_1')(x), train)
    x = self._residual(x, DropPath()(self._scaled(y, 'gamma_2'), drop_path_rate, train))
    return x, x if self.keep else None

  def _scaled(self, branch, name):
    if self.options.layer_scale is None:
      return branch
    start = nn.initializers.constant(self.options.layer_scale)
    return branch * self.param(name, start, branch.shape[-1:]).astype(branch.dtype)

  def _residual(self, x, branch):
    # The barrier keeps each layer's gradient apart from the next one's: see vit_jax.compilation.
    return sharding.constrain(jax.lax.optimization_barrier(x + branch))


class Encoder(nn.Module):
  """Positions, `depth` layers and the last norm, if asked for (ViT paper, section 3.1).

  Attributes:
    depth: layers.
    options: of all of them.
    position, class_position, drop_path_rate, scan, remat: as `ViT`.
    last_norm: whether a norm follows the last layer.
    keep: whether the outputs of all layers are given too.
  """
  depth: int
  options: LayerOptions
  position: str = 'learned'
  class_position: bool = True
  drop_path_rate: float = 0.
  last_norm: bool = True
  scan: bool = False
  remat: str = 'none'
  keep: bool = False

  @nn.compact
  def __call__(self, patches: jax.Array, token: jax.Array | None, train: bool = False,
               valid: jax.Array | None = None) -> tuple[jax.Array, Sequence[jax.Array] | None]:
    """Maps patches `[batch, h, w, width]` and extra tokens `[batch, n, width]`, or None, to
    tokens `[batch, n + h * w, width]`, the extra tokens first, and those behind each layer.

    No token sees patches outside `valid`, bool `[batch, h, w]`.
    """
    batch, *grid, width = patches.shape
    x = patches.reshape(batch, -1, width)
    if self.position == 'sincos':
      x = x + sincos_2d(grid, width).astype(x.dtype)
    learned = LearnedPositions(name='posembed_input') if self.position == 'learned' else lambda x: x
    if token is None:
      x = learned(x)
    elif self.class_position:
      x = learned(jnp.concatenate([token, x], axis=1))
    else:
      x = jnp.concatenate([token, learned(x)], axis=1)
    x = nn.Dropout(self.options.dropout_rate, deterministic=not train)(sharding.constrain(x))
    mask = None
    if valid is not None:
      extra = jnp.ones((batch, 0 if token is None else token.shape[1]), bool)
      mask = jnp.concatenate([extra, valid.reshape(batch, -1)], axis=1)[:, None, None]
    x, layers = self._layers(x, train, mask)
    return (self.options.norm('encoder_norm')(x) if self.last_norm else x), layers

  def _layers(self, x, train, mask):
    block = EncoderBlock
    if self.remat != 'none':
      block = nn.remat(block, prevent_cse=not self.scan, static_argnums=(3,),
                       policy=REMAT[self.remat])
    rates = np.linspace(0., self.drop_path_rate, self.depth, dtype=np.float32)
    rates = rates if self.drop_path_rate and train else None
    if not self.scan:
      layers = []
      for i in range(self.depth):
        rate = None if rates is None else rates[i]
        x, kept = block(self.options, self.keep, name=f'encoderblock_{i}')(x, rate, train, mask)
        layers.append(kept)
      return x, layers
    stack = nn.scan(block, variable_axes={'params': 0, 'intermediates': 0},
                    split_rngs={'params': True, 'dropout': True},
                    in_axes=(0, nn.broadcast, nn.broadcast), length=self.depth)
    return stack(self.options, self.keep, name='encoderblock')(x, rates, train, mask)


class AttentionPool(nn.Module):
  """A learned probe attends to all tokens, then an MLP (Set Transformer, arXiv:1810.00825)."""
  options: LayerOptions

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[batch, tokens, width]` to `[batch, width]`."""
    o = self.options
    probe = self.param('probe', nn.initializers.xavier_uniform(), (1, 1, x.shape[-1]))
    probe = jnp.tile(probe.astype(x.dtype), (x.shape[0], 1, 1))
    x = Attention(o.num_heads, dtype=o.dtype, name='MultiHeadDotProductAttention_0')(probe, x)
    return (x + MlpBlock(o.mlp_dim, o.gelu, dtype=o.dtype)(o.norm('LayerNorm_0')(x)))[:, 0]


def fuse(own: jax.Array, distilled: jax.Array, how: str) -> jax.Array | tuple[jax.Array, jax.Array]:
  """Returns what the class head's and the distillation head's logits `[batch, classes]` agree on.

  Args:
    own, distilled: of the two heads.
    how: one of `FUSIONS`, see `ViT`.
  """
  if how == 'none':
    return own, distilled
  if how in ('class', 'distillation'):
    return own if how == 'class' else distilled
  if how == 'logits':
    return (own + distilled) / 2.
  return jnp.logaddexp(jax.nn.log_softmax(own), jax.nn.log_softmax(distilled)) - jnp.log(2.)


class ViT(nn.Module):
  """Vision Transformer: a classifier, or a backbone where `num_classes` is None.

  Attributes:
    num_classes: of the head; None returns `Features`, with one map of stride `patch`.
    patch_size: pixels, one number or (height, width); of a hybrid: of the ResNet's map.
    width, depth, num_heads, mlp_dim: of the encoder (ViT paper, table 1).
    pool: 'token' (the class token), 'mean' over patches, without the class token if there is one,
      'attention', or 'none' (every token).
    class_token: whether there is one; None: only where it is pooled.
    class_position: whether the learned table has an entry for the class token, as the ViT paper
      has it (eq. 1); big_vision and DeiT III have none.
    distillation_token: a second token and a second head, `head_dist` (DeiT, arXiv:2012.12877, section
      4): training gives (class logits, distillation logits).
    fusion: of the two heads otherwise: 'logits', their mean (DeiT's code), 'softmax', the logarithm of
      the mean of their probabilities (DeiT's section 5.3), one of them alone, 'class' or
      'distillation' (DeiT's table 3), or 'none', both as in training.
    position: 'learned', 'sincos' or 'none'.
    representation_size: width of the tanh layer before the head; None for no such layer.
    dropout_rate: behind every dense layer but query, key and value, and behind the positions.
    attention_dropout_rate: of the attention weights.
    drop_path_rate: of the last layer; rises from 0 in the first.
    layer_norm_eps: published ViTs have 1e-6, Segmenter 1e-5.
    gelu: 'tanh' (Google's) or 'erf' (timm's, DeiT's).
    qk_norm: normalise queries and keys.
    layer_scale: start of a learned scale per channel of each branch (DeiT III, arXiv:2204.07118,
      section 3); None for no such scale.
    map_layers: of a backbone: the layers whose outputs are its maps, counted from 0; there is no last
      norm then. (): one map, behind the last norm.
    norm_pooled: the last norm, then named `fc_norm`, follows the pooling (timm's mean-pooled models).
    stem_depths: units per stage of the ResNet in front of the patches (hybrids, ViT paper, section
      3.1); () is its root alone, None no ResNet.
    stem_width: channels of its root.
    head_bias: initial bias of the head (AugReg: -6.9 with the sigmoid loss).
    init_form: 'xavier' with a head of zeros (ViT), or 'normal', deviation .02, also for the tokens and
      the head (DeiT).
    scan: compile one layer and loop; the compilation does not grow with the depth.
    remat: what the backward pass computes again: 'none', 'full', or 'dots' (all but matrix
      products).
    dtype: of the computation; parameters are float32.
  """
  num_classes: int | None = 1000
  patch_size: int | tuple[int, int] = 16
  width: int = 768
  depth: int = 12
  num_heads: int = 12
  mlp_dim: int = 3072
  pool: str = 'token'
  class_token: bool | None = None
  class_position: bool = True
  position: str = 'learned'
  representation_size: int | None = None
  dropout_rate: float = 0.
  attention_dropout_rate: float = 0.
  drop_path_rate: float = 0.
  layer_norm_eps: float = 1e-6
  gelu: str = 'tanh'
  qk_norm: bool = False
  layer_scale: float | None = None
  map_layers: tuple[int, ...] = ()
  norm_pooled: bool = False
  distillation_token: bool = False
  fusion: str = 'logits'
  stem_depths: tuple[int, ...] | None = None
  stem_width: int = 64
  head_bias: float = 0.
  init_form: str = 'xavier'
  scan: bool = False
  remat: str = 'none'
  dtype: jnp.dtype = jnp.float32

  @property
  def options(self) -> LayerOptions:
    """What all layers share."""
    return LayerOptions(**{field.name: getattr(self, field.name)
                           for field in dataclasses.fields(LayerOptions)})

  @property
  def kernel(self) -> tuple[int, int]:
    """(height, width) of the patch embedding's kernel."""
    return (self.patch_size,) * 2 if isinstance(self.patch_size, int) else tuple(self.patch_size)

  @property
  def stem_stride(self) -> int:
    """Pixels per entry of the map that is cut into patches."""
    return 1 if self.stem_depths is None else 4 * 2 ** max(len(self.stem_depths) - 1, 0)

  @property
  def patch(self) -> tuple[int, int]:
    """(height, width) of a patch in pixels."""
    return self.kernel[0] * self.stem_stride, self.kernel[1] * self.stem_stride

  @property
  def _by_layers(self) -> bool:
    """Whether the outputs of single layers are the maps."""
    return bool(self.map_layers) and self.num_classes is None

  @property
  def num_prefix(self) -> int:
    """Number of tokens in front of the patches."""
    own = self.pool == 'token' if self.class_token is None else self.class_token
    return int(own) + self.distillation_token

  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) of an image in patches.

    Of a hybrid's map, rows and columns behind the last whole patch are dropped, as the authors do.

    Raises:
      UserError: when the patches do not divide the image, or a hybrid's map is smaller than one.
    """
    if self.stem_depths is None:
      return grid_size(image_size, self.patch)
    cells = tuple(-(-n // self.stem_stride) for n in image_size)  # a ResNet rounds up
    grid = cells[0] // self.kernel[0], cells[1] // self.kernel[1]
    if 0 in grid:
      raise UserError('image size {}x{} is smaller than a patch of {}x{} pixels'.format(
          *image_size, *self.patch))
    return grid

  def check(self) -> None:
    """Raises UserError for fields that do not fit together."""
    for kind, value, options in (('pool', self.pool, POOLS), ('remat', self.remat, REMAT),
                                 ('position', self.position, POSITIONS),
                                 ('fusion', self.fusion, FUSIONS),
                                 ('init_form', self.init_form, INITS)):
      if value not in options:
        raise unknown(kind, value, options)
    if self.width % self.num_heads:
      raise UserError(f'width {self.width} is not divisible by num_heads {self.num_heads}')
    if self.pool == 'token' and self.class_token is False:
      raise UserError("pool='token' needs class_token=True")
    if self.distillation_token and self.pool != 'token':
      raise UserError(f"distillation_token=True needs pool='token', not {self.pool!r}")
    if any(not 0 <= i < self.depth for i in self.map_layers):
      raise UserError(f'map_layers={self.map_layers} must lie between 0 and {self.depth - 1}')
    if self.norm_pooled and self.pool not in ('token', 'mean'):
      raise UserError(f"norm_pooled=True needs pool='token' or 'mean', not {self.pool!r}")

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` to logits `[batch, num_classes]`.

    With `valid`, see `vit_jax.models.features`, to features that do not depend on the padding; a patch
    belongs to the image if any of its pixels does.

    Raises:
      UserError: for a size that gives no grid (see `grid`), or fields that do not fit.
    """
    self.check()
    padding.check(self, valid)
    grid = self.grid(image.shape[1:3])
    if valid is not None and padding.strided(valid, self.patch).shape[1:] != grid:
      grid_size(image.shape[1:3], self.patch)  # what a hybrid drops here, another canvas would hold
    x = padding.clear(image.astype(self.dtype), valid)
    if self.stem_depths is not None:
      trunk = resnet.Trunk(self.stem_depths, self.stem_width, norm='group', dtype=self.dtype)
      nn.share_scope(self, trunk)  # published files have its parameters beside those of the ViT
      x = trunk.maps(x, train, valid)[-1]
    x = nn.Conv(self.width, self.kernel, strides=self.kernel, padding='VALID', dtype=self.dtype,
                name='embedding')(x)
    x, layers = self._encode(x, train, padding.strided(valid, self.patch))
    if self.num_classes is None:
      found = [layers[i] for i in self.map_layers] or [x]
      maps = tuple(y[:, self.num_prefix:].reshape(len(y), *grid, self.width) for y in found)
      tokens = x[:, :self.num_prefix] if self.num_prefix else None
      return Features(maps, tokens, (self.patch,) * len(maps))
    if self.distillation_token:
      return self._two_heads(x, train)
    x = self._pool(x)
    if self.norm_pooled:
      x = self.options.norm('fc_norm')(x)
    if self.representation_size:
      x = jnp.tanh(nn.Dense(self.representation_size, dtype=self.dtype, name='pre_logits')(x))
    self.sow('intermediates', 'representation', x)
    return self._head('head')(x)

  def _head(self, name):
    return nn.Dense(self.num_classes, kernel_init=INITS[self.init_form][2], dtype=jnp.float32,
                    bias_init=nn.initializers.constant(self.head_bias), name=name)

  def _two_heads(self, x, train):
    """Maps the encoded tokens to both heads' logits in training, and to what they agree on else."""
    self.sow('intermediates', 'representation', x[:, 0])
    own, distilled = self._head('head')(x[:, 0]), self._head('head_dist')(x[:, 1])
    return fuse(own, distilled, 'none' if train else self.fusion)

  def _encode(self, patches, train, valid):
    """Maps patches `[batch, h, w, width]` to encoded tokens `[batch, num_prefix + h * w, width]`, and
    those behind each layer."""
    names = ('cls', 'dist') if self.distillation_token else ('cls',) * self.num_prefix
    tokens = [self.param(name, INITS[self.init_form][2], (1, 1, self.width)) for name in names]
    token = None
    if tokens:
      token = jnp.concatenate(tokens, axis=1).astype(patches.dtype)
      token = jnp.tile(token, (patches.shape[0], 1, 1))
    encoder = Encoder(
        depth=self.depth, options=self.options, position=self.position,
        class_position=self.class_position, drop_path_rate=self.drop_path_rate,
        last_norm=not (self.norm_pooled or self._by_layers), scan=self.scan, remat=self.remat,
        keep=self._by_layers, name='Transformer')
    return encoder(patches, token, train, valid)

  def _pool(self, x):
    """Maps the encoded tokens `[batch, tokens, width]` to what the head reads."""
    if self.pool == 'token':
      return x[:, 0]
    if self.pool == 'mean':
      return x[:, self.num_prefix:].mean(axis=1)
    if self.pool == 'attention':
      return AttentionPool(self.options, name='MAPHead_0')(x)
    return x


def _variant(size: str, patch: int, parameters: int, source: str = PAPER) -> Variant:
  width, depth, mlp_dim, num_heads = SIZES[size]
  return Variant(ViT, dict(patch_size=patch, width=width, depth=depth, mlp_dim=mlp_dim,
                           num_heads=num_heads), parameters, source)


# width, depth, mlp_dim, num_heads
SIZES = dict(
    ti=(192, 12, 768, 3),
    s=(384, 12, 1536, 6),
    m=(512, 12, 2048, 8),
    b=(768, 12, 3072, 12),
    l=(1024, 24, 4096, 16),
    h=(1280, 32, 5120, 16),
    g=(1408, 40, 6144, 16),
    G=(1664, 48, 8192, 16),
)

# Parameters with the class token, a learned table for 224 px and a head of 1000 classes.
VARIANTS: dict[str, Variant] = dict(
    vit_ti16=_variant('ti', 16, 5_717_416, AUGREG),
    vit_s32=_variant('s', 32, 22_878_952, AUGREG),
    vit_s16=_variant('s', 16, 22_050_664, AUGREG),
    vit_m32=_variant('m', 32, 39_942_120, SCALING),
    vit_m16=_variant('m', 16, 38_837_736, SCALING),
    vit_b32=_variant('b', 32, 88_224_232),
    vit_b16=_variant('b', 16, 86_567_656),
    vit_b8=_variant('b', 8, 86_576_872, AUGREG),
    vit_l32=_variant('l', 32, 306_535_400),
    vit_l16=_variant('l', 16, 304_326_632),
    vit_h14=_variant('h', 14, 632_045_800),
    vit_g14=_variant('g', 14, 1_012_611_432, SCALING),
    vit_G14=_variant('G', 14, 1_844_440_680, SCALING),
)

# Attention heads and the hidden layer of the MLP are split over `model` (Megatron-LM,
# arXiv:1909.08053, section 3); the other large axis over `fsdp` (ZeRO-3, arXiv:1910.02054).
# Convolutions are split over their output channels.
RULES: sharding.Rules = (
    (r'.*/(query|key|value)/kernel', P('fsdp', 'model', None)),
    (r'.*/(query|key|value)/bias', P('model', None)),
    (r'.*/out/kernel', P('model', None, 'fsdp')),
    (r'.*/Dense_0/kernel', P('fsdp', 'model')),
    (r'.*/Dense_0/bias', P('model')),
    (r'.*/Dense_1/kernel', P('model', 'fsdp')),
    (r'.*/(embedding|conv\w+)/kernel', P(None, None, None, 'fsdp')),
    (r'.*/(pre_logits|head|head_dist)/kernel', P('fsdp', 'model')),
    (r'.*', P()),
)

DEPTHS: Depths = (
    (r'cls|dist|(.*/)?pos_embedding|(embedding|conv_root|gn_root|block\d+)/.*', 0),  # also of hybrids
    (r'.*\bencoderblock(?:_(\d+))?/.*', None),
    (r'.*\bencoder_norm/.*', -2),  # learns with the last layer
    (r'.*', -1))


def tiny(fields) -> dict:
  """Returns the fields of a small ViT; a layer before the head is as wide as the model."""
  small = dict(patch_size=4, width=64, depth=2, num_heads=2, mlp_dim=128)
  return {**small, **(dict(representation_size=64) if fields.get('representation_size') else {})}


FAMILY = Family(
    ViT, VARIANTS, RULES, DEPTHS, tiny,
    grid=lambda model, image_size: Grid(model.grid(image_size), model.num_prefix,
                                        model.num_prefix * model.class_position),
    attention={'attention': 'Transformer/encoderblock_{i}/MultiHeadDotProductAttention_0/attention'},
    positions='Transformer/posembed_input/pos_embedding',
    kernels=('conv_root/kernel', 'embedding/kernel'),
    facts=lambda model: dict(layers=model.depth, hidden=model.width, mlp=model.mlp_dim,
                             heads=model.num_heads))
