"""EfficientNet (Rethinking model scaling for convolutional neural networks, arXiv:1905.11946).

Parameters: `stem/{conv, bn}`, `stage{s}/block{b}/{expand/{conv, bn}, dwconv, bn, se/{reduce, expand},
project/{conv, bn}}` (no `expand` where nothing expands), `last/{conv, bn}`, `head`; running statistics
in `batch_stats`. Intermediates: `representation` `[batch, channels]`, what the head reads.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from vit_jax import sharding
from vit_jax.errors import UserError, unknown
from vit_jax.layers import padding
from vit_jax.layers.convolution import PADDING, Conv
from vit_jax.layers.depthwise import DepthwiseConv
from vit_jax.layers.drop_path import DropPath
from vit_jax.layers.norms import BatchNorm
from vit_jax.layers.squeeze_excite import SqueezeExcite
from vit_jax.models.family import Depths, Family
from vit_jax.models.features import Features
from vit_jax.models.regnet import NORMS, rounded
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'EfficientNet, arXiv:1905.11946, table 1 and section 4'
NOISY_STUDENT = 'Self-training with Noisy Student, arXiv:1911.04252, table 7'

# Stages of B0 (table 1).
EXPANSIONS, KERNEL_SIZES, STRIDES = (1, 6, 6, 6, 6, 6, 6), (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1)
WIDTHS, DEPTHS_OF_B0 = (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)


def scaled(width: float, depth: float) -> dict:
  """Returns the fields of B0 scaled by two factors (equation 3)."""
  wider = lambda channels: rounded(channels * width, 8)
  return dict(stem_width=wider(32), widths=tuple(map(wider, WIDTHS)),
              depths=tuple(math.ceil(d * depth) for d in DEPTHS_OF_B0), last_width=wider(1280))


class ConvNorm(nn.Module):
  """A convolution and a batch norm, with SiLU or without.

  Attributes:
    width: channels.
    norm: (frozen, momentum, epsilon) of the batch norm.
    kernel_size, stride, padding: as `layers.convolution.Conv`.
    active: whether SiLU follows.
    dtype: of the computation.
  """
  width: int
  norm: tuple[bool, float, float]
  kernel_size: int = 1
  stride: int = 1
  padding: str = 'same'
  active: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / stride, w / stride, width]`; `valid` of what comes in."""
    x = Conv(self.width, self.kernel_size, self.stride, padding=self.padding, dtype=self.dtype,
             name='conv')(x, valid)
    frozen, momentum, epsilon = self.norm
    x = BatchNorm(frozen, momentum=momentum, epsilon=epsilon, dtype=self.dtype, name='bn')(
        x, train, padding.strided(valid, self.stride))
    return nn.silu(x) if self.active else x


class Block(nn.Module):
  """An inverted residual block with squeeze and excitation (MBConv, table 1).

  Attributes:
    width: channels out.
    expansion: channels inside, as a multiple of those that come in.
    kernel_size, stride, padding: of the depthwise convolution.
    norm: as `ConvNorm`.
    drop_path_rate: of the residual branch; a block without a shortcut has none.
    dtype: of the computation.
  """
  width: int
  expansion: int
  kernel_size: int
  stride: int
  padding: str
  norm: tuple[bool, float, float]
  drop_path_rate: float = 0.
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / stride, w / stride, width]`; `valid` of what comes in."""
    channels, behind, y = x.shape[-1], padding.strided(valid, self.stride), x
    if self.expansion != 1:
      y = ConvNorm(self.expansion * channels, self.norm, dtype=self.dtype, name='expand')(
          y, train, valid)
    y = DepthwiseConv(self.kernel_size, nn.initializers.normal(stddev=2 ** .5 / self.kernel_size),
                      self.stride, self.padding, False, self.dtype, name='dwconv')(y, valid)
    frozen, momentum, epsilon = self.norm
    y = nn.silu(BatchNorm(frozen, momentum=momentum, epsilon=epsilon, dtype=self.dtype, name='bn')(
        y, train, behind))
    y = SqueezeExcite(max(1, channels // 4), nn.silu, self.dtype, name='se')(y, behind)
    y = ConvNorm(self.width, self.norm, active=False, dtype=self.dtype, name='project')(
        y, train, behind)
    if self.stride == 1 and channels == self.width:
      y = x + DropPath()(y, self.drop_path_rate or None, train)
    return sharding.constrain(jax.lax.optimization_barrier(y))


class Stage(nn.Module):
  """Blocks of one width, the first of which strides; see `Block` for the attributes."""
  width: int
  expansion: int
  kernel_size: int
  stride: int
  padding: str
  norm: tuple[bool, float, float]
  drop_path_rates: tuple[float, ...]
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / stride, w / stride, width]`; `valid` of what comes in."""
    for i, rate in enumerate(self.drop_path_rates):
      stride = self.stride if i == 0 else 1
      x = Block(self.width, self.expansion, self.kernel_size, stride, self.padding, self.norm, rate,
                self.dtype, name=f'block{i}')(x, train, valid)
      valid = padding.strided(valid, stride)
    return x


class EfficientNet(nn.Module):
  """An EfficientNet: a classifier, or a backbone where `num_classes` is None.

  Attributes:
    num_classes: of the head; None returns `Features` with the last map of each stride from 4 on.
    stem_width: channels of the stem.
    widths, depths, expansions, kernel_sizes, strides: of each stage.
    last_width: channels of the 1x1 convolution in front of the pooling.
    padding: 'same' as the paper's code and the weights of Noisy Student, 'symmetric' as torchvision.
    epsilon, momentum: of the batch norms; torchvision's B0 to B4 have 1e-5 and .9.
    norm: 'batch', or 'frozen' (the four vectors stay as they were loaded).
    dropout_rate: in front of the head (trained with .2 for B0 to .5 for B7 and L2).
    drop_path_rate: of a block behind the last one; rises linearly from 0 at the first (trained with .2).
    dtype: of the computation; parameters and statistics are float32.
  """
  num_classes: int | None = 1000
  stem_width: int = 32
  widths: tuple[int, ...] = WIDTHS
  depths: tuple[int, ...] = DEPTHS_OF_B0
  expansions: tuple[int, ...] = EXPANSIONS
  kernel_sizes: tuple[int, ...] = KERNEL_SIZES
  strides: tuple[int, ...] = STRIDES
  last_width: int = 1280
  padding: str = 'same'
  epsilon: float = 1e-3
  momentum: float = .99
  norm: str = 'batch'
  dropout_rate: float = 0.
  drop_path_rate: float = 0.
  dtype: jnp.dtype = jnp.float32

  def check(self) -> None:
    """Raises UserError for fields that do not fit together."""
    if self.norm not in NORMS:
      raise unknown('norm', self.norm, NORMS)
    if self.padding not in PADDING:
      raise unknown('padding', self.padding, PADDING)
    of_stages = ('widths', 'depths', 'expansions', 'kernel_sizes', 'strides')
    if len({len(getattr(self, name)) for name in of_stages}) > 1:
      raise UserError(' and '.join(f'{name} {getattr(self, name)}' for name in of_stages)
                      + ' must have one number for each stage')

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` of any size to logits `[batch, num_classes]`.

    With `valid`, see `vit_jax.models.features`, to features that do not depend on the padding.
    """
    self.check()
    padding.check(self, valid)
    norm = self.norm == 'frozen', self.momentum, self.epsilon
    x = ConvNorm(self.stem_width, norm, 3, 2, self.padding, dtype=self.dtype, name='stem')(
        padding.clear(image, valid), train, valid)
    valid, total, maps = padding.strided(valid, 2), 2, {}
    rates = np.linspace(0., self.drop_path_rate, sum(self.depths), endpoint=False).tolist()
    for i, (width, depth, expansion, size, stride) in enumerate(zip(
        self.widths, self.depths, self.expansions, self.kernel_sizes, self.strides)):
      own, rates = tuple(rates[:depth]), rates[depth:]
      x = Stage(width, expansion, size, stride, self.padding, norm, own, self.dtype, name=f'stage{i}')(
          x, train, valid)
      valid, total = padding.strided(valid, stride), total * stride
      maps[total] = x
    if self.num_classes is None:
      return Features(tuple(maps[s] for s in maps if s > 2), None, tuple((s, s) for s in maps if s > 2))
    x = ConvNorm(self.last_width, norm, dtype=self.dtype, name='last')(x, train)
    x = x.astype(jnp.float32).mean((1, 2))
    self.sow('intermediates', 'representation', x)
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    init = nn.initializers.variance_scaling(1 / 3, 'fan_out', 'uniform')
    return nn.Dense(self.num_classes, kernel_init=init, name='head')(x)


def _variant(width: float, depth: float, size: int, crop_ratio: float, parameters: int,
             source: str = PAPER) -> Variant:
  rule = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, crop_ratio=crop_ratio, interpolation='bicubic')
  return Variant(EfficientNet, scaled(width, depth), parameters, source, (size, size), rule)


VARIANTS: dict[str, Variant] = dict(
    efficientnet_b0=_variant(1., 1., 224, .875, 5_288_548),
    efficientnet_b1=_variant(1., 1.1, 240, .882, 7_794_184),
    efficientnet_b2=_variant(1.1, 1.2, 260, .89, 9_109_994),
    efficientnet_b3=_variant(1.2, 1.4, 300, .904, 12_233_232),
    efficientnet_b4=_variant(1.4, 1.8, 380, .922, 19_341_616),
    efficientnet_b5=_variant(1.6, 2.2, 456, .934, 30_389_784),
    efficientnet_b6=_variant(1.8, 2.6, 528, .942, 43_040_704),
    efficientnet_b7=_variant(2., 3.1, 600, .949, 66_347_960),
    efficientnet_l2=_variant(4.3, 5.3, 800, .96, 480_309_308, NOISY_STUDENT),
)

RULES: sharding.Rules = (
    (r'.*/conv/kernel', P(None, None, None, 'fsdp')),
    (r'.*/head/kernel', P('fsdp', 'model')),
    (r'.*', P()),
)

DEPTHS: Depths = ((r'stem/.*', 0), (r'stage(\d+)/block(\d+)/.*', None), (r'last/.*', -2), (r'.*', -1))


def _tiny(fields) -> dict:
  """Returns the fields of a network of two stages."""
  return dict(stem_width=8, widths=(8, 16), depths=(1, 1), expansions=(1, 6), kernel_sizes=(3, 5),
              strides=(1, 2), last_width=32)


FAMILY = Family(EfficientNet, VARIANTS, RULES, DEPTHS, _tiny, kernels=('stem/conv/kernel',))
