"""Residual networks (arXiv:1512.03385), the stride on the 3x3 convolution, as all published ones have.

With batch norm they are torchvision's; with group norm and standardised weights they are
big_vision's `bit`, whose first stages are also what stands in front of a hybrid ViT.

The paper's networks for CIFAR-10 (section 4.2) differ in their root and shortcuts; those of semantic
segmentation have a root of three convolutions (ResNet-C, arXiv:1812.01187, figure 2).

Parameters: `conv_root`, `bn_root` (in front of them `conv_root1`, `bn_root1`, `conv_root2`, `bn_root2`
where the root is deep), `block1/unit1/{conv1, bn1, ..., conv_proj, bn_proj}`, `head`; with
group norm `gn` instead of `bn`. Batch norm keeps its running statistics in `batch_stats`.
Intermediates: `representation` `[batch, channels]`, what the head reads.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from vit_jax import sharding
from vit_jax.errors import UserError, unknown
from vit_jax.layers import padding
from vit_jax.layers.convolution import Conv
from vit_jax.layers.norms import BatchNorm, GroupNorm
from vit_jax.models.family import Depths, Family
from vit_jax.models.features import Features
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'Deep residual learning, arXiv:1512.03385, table 1'
TORCHVISION = Preprocessing(IMAGENET_MEAN, IMAGENET_STD)

NORMS = ('batch', 'frozen', 'group')


class Unit(nn.Module):
  """A residual unit: 1x1, 3x3 and 1x1 convolutions, or two of 3x3, each with a norm.

  Attributes:
    width: channels of the 3x3; a bottleneck gives four times as many.
    stride: pixels.
    dilations: of the 3x3 that strides, and of what follows it.
    bottleneck: three convolutions instead of two.
    norm: one of `NORMS`.
    projection: whether a shortcut to other channels has parameters (the paper's option B) or keeps
      every other pixel and adds channels of zeros on both sides (option A).
    dtype: of the computation.
  """
  width: int
  stride: int = 1
  dilations: tuple[int, int] = (1, 1)
  bottleneck: bool = True
  norm: str = 'batch'
  projection: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / stride, w / stride, channels]`; `valid`: see `ResNet`."""
    channels = self.width * (4 if self.bottleneck else 1)
    kernels = (1, 3, 1) if self.bottleneck else (3, 3)
    strided, last, y, inside = int(self.bottleneck), len(kernels) - 1, x, valid
    valid = padding.strided(valid, self.stride)
    for i, size in enumerate(kernels):
      conv = convolution(self.norm, channels if i == last else self.width, size, f'conv{i + 1}',
                         self.stride if i == strided else 1,
                         self.dilations[int(i > strided)] if size > 1 else 1, self.dtype)
      # Zeros in the last norm: with group norm a unit starts as the identity, as published.
      zero = i == last and self.norm == 'group'
      y = conv(y, inside)
      inside = valid if i == strided else inside
      y = normalize(self.norm, f'{i + 1}', train, self.dtype, zero)(y, inside)
      y = y if i == last else nn.relu(y)
    added = channels - x.shape[-1]
    if (self.stride > 1 or added) and not self.projection:
      sides = ((0, 0),) * 3 + ((added // 2, added - added // 2),)
      x = jnp.pad(x[:, ::self.stride, ::self.stride], sides)
    elif self.stride > 1 or added:
      x = convolution(self.norm, channels, 1, 'conv_proj', self.stride, dtype=self.dtype)(x)
      x = normalize(self.norm, '_proj', train, self.dtype)(x, valid)
    return sharding.constrain(jax.lax.optimization_barrier(nn.relu(x + y)))


class Stage(nn.Module):
  """Units of one resolution; the first one strides, and has a dilation of its own."""
  depth: int
  width: int
  stride: int = 1
  dilations: tuple[int, int] = (1, 1)
  bottleneck: bool = True
  norm: str = 'batch'
  projection: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / stride, w / stride, channels]`; `valid`: see `ResNet`."""
    for i in range(self.depth):
      dilations = self.dilations if i == 0 else self.dilations[1:] * 2
      stride = self.stride if i == 0 else 1
      x = Unit(self.width, stride, dilations, self.bottleneck, self.norm, self.projection, self.dtype,
               name=f'unit{i + 1}')(x, train, valid)
      valid = padding.strided(valid, stride)
    return x


def convolution(norm, features, size, name, stride=1, dilation=1, dtype=jnp.float32) -> Conv:
  """Returns the convolution that the published networks with a norm have."""
  group = norm == 'group'
  return Conv(features, size, stride, dilation, 'same' if group else 'symmetric',
              'vit' if group else 'none', dtype=dtype, name=name)


def normalize(norm, name, train, dtype, zero=False):
  """Returns the norm, a function of `[batch, h, w, c]` and `valid`."""
  init = nn.initializers.zeros if zero else nn.initializers.ones
  if norm == 'group':
    return GroupNorm(scale_init=init, dtype=dtype, name=f'gn{name}')
  layer = BatchNorm(norm == 'frozen', init, dtype=dtype, name=f'bn{name}')
  return lambda x, valid: layer(x, train, valid)


class Trunk(nn.Module):
  """The root and the stages of a residual network.

  Attributes:
    depths: units per stage.
    width: of the root and the first stage; doubles with each stage.
    bottleneck, norm, dtype: as `Unit`.
    output_stride: stages that would exceed it dilate instead of striding.
    small_images: as `ResNet`.
  """
  depths: tuple[int, ...]
  width: int
  bottleneck: bool = True
  norm: str = 'batch'
  output_stride: int = 32
  small_images: bool = False
  deep_root: bool = False
  root_width: int | None = None
  dtype: jnp.dtype = jnp.float32

  def root(self, x: jax.Array, train: bool, valid: jax.Array | None
           ) -> tuple[jax.Array, jax.Array | None]:
    """Maps images to the root's output in front of its pool, and gives `valid` of it."""
    width, stride = self.root_width or self.width, 1 if self.small_images else 2
    size = 3 if self.small_images or self.deep_root else 7
    layers = [('_root', width, size, stride)]
    if self.deep_root:
      half = width // 2
      layers = [('_root1', half, 3, stride), ('_root2', half, 3, 1), ('_root', width, 3, 1)]
    for name, channels, size, stride in layers:
      conv = convolution(self.norm, channels, size, 'conv' + name, stride, dtype=self.dtype)
      x, valid = conv(padding.clear(x, valid), valid), padding.strided(valid, stride)
      x = nn.relu(normalize(self.norm, name, train, self.dtype)(x, valid))
    return x, valid

  @nn.compact
  def maps(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None
           ) -> list[jax.Array]:
    """Maps images `[batch, height, width, channels]` to the root's output and that of each stage;
    `valid`: see `ResNet`."""
    x, valid = self.root(x, train, valid)
    if not self.small_images:
      x, valid = pooled(x, valid, self.norm)
    maps, total, dilation = [sharding.constrain(x)], 1 if self.small_images else 4, 1
    for i, depth in enumerate(self.depths):
      wanted, before = 1 if i == 0 else 2, dilation
      stride = wanted if total * wanted <= self.output_stride else 1
      total, dilation = total * stride, dilation * wanted // stride
      stage = Stage(depth, self.width * 2 ** i, stride, (before, dilation), self.bottleneck, self.norm,
                    not self.small_images, self.dtype, name=f'block{i + 1}')
      maps.append(stage(maps[-1], train, valid))
      valid = padding.strided(valid, stride)
    return maps


def pooled(x, valid, norm):
  """Returns the root behind its max-pool of stride 2, and `valid` of it; x is 0 or more."""
  around = ((1, 1), (1, 1))
  if norm == 'group':
    x = x if valid is None else padding.same(x, valid, 3, 2)
    around = 'SAME' if valid is None else 'VALID'
  valid = padding.strided(valid, 2)
  return padding.clear(nn.max_pool(x, (3, 3), (2, 2), around), valid), valid


class ResNet(nn.Module):
  """A residual network: a classifier, or a backbone where `num_classes` is None.

  Attributes:
    num_classes: of the head; None returns `Features` with a map per stage, of strides 4, 8, 16, 32.
    depths: units per stage.
    width: channels of the root; the 3x3 convolutions of stage i have `width * 2**i`.
    bottleneck: units of three convolutions (ResNet-50 and deeper) instead of two.
    norm: 'batch', 'frozen' (batch norm whose four vectors stay as they were loaded) or 'group' (with
      standardised weights and TensorFlow's padding).
    output_stride: 32; 16 dilates the last stage (DETR's DC5), 8 the last two.
    small_images: a root of 3x3 without stride and pool, so that strides begin with 1, and shortcuts
      without parameters.
    dtype: of the computation; parameters and statistics are float32.
  """
  num_classes: int | None = 1000
  depths: tuple[int, ...] = (3, 4, 6, 3)
  width: int = 64
  bottleneck: bool = True
  norm: str = 'batch'
  output_stride: int = 32
  small_images: bool = False
  deep_root: bool = False
  root_width: int | None = None
  dtype: jnp.dtype = jnp.float32

  def check(self) -> None:
    """Raises UserError for fields that do not fit together."""
    if self.norm not in NORMS:
      raise unknown('norm', self.norm, NORMS)
    if self.output_stride not in (8, 16, 32):
      raise UserError(f'output_stride must be 8, 16 or 32, not {self.output_stride}')

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` of any size to logits `[batch, num_classes]`.

    With `valid`, see `vit_jax.models.features`, to features that do not depend on the padding.
    """
    self.check()
    padding.check(self, valid)
    trunk = Trunk(self.depths, self.width, self.bottleneck, self.norm, self.output_stride,
                  self.small_images, self.deep_root, self.root_width, self.dtype)
    nn.share_scope(self, trunk)
    maps = trunk.maps(image, train, valid)[1:]
    if self.num_classes is None:
      first = 1 if self.small_images else 4
      strides = [min(first * 2 ** i, self.output_stride) for i in range(len(maps))]
      return Features(tuple(maps), None, tuple((s, s) for s in strides))
    x = maps[-1].astype(jnp.float32).mean((1, 2))
    self.sow('intermediates', 'representation', x)
    return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name='head')(x)


def _variant(depths: tuple[int, ...], parameters: int, bottleneck: bool = True) -> Variant:
  return Variant(ResNet, dict(depths=depths, bottleneck=bottleneck), parameters, PAPER,
                 preprocessing=TORCHVISION)


def _deep(depths: tuple[int, ...], parameters: int) -> Variant:
  return Variant(ResNet, dict(depths=depths, deep_root=True), parameters,
                 'Bag of tricks, arXiv:1812.01187, figure 2b', preprocessing=TORCHVISION)


def _small(depth: int, parameters: int) -> Variant:
  return Variant(ResNet, dict(depths=(depth,) * 3, width=16, bottleneck=False, small_images=True),
                 parameters, 'Deep residual learning, arXiv:1512.03385, section 4.2', (32, 32),
                 Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 'squash'))


VARIANTS: dict[str, Variant] = dict(
    resnet18=_variant((2, 2, 2, 2), 11_689_512, bottleneck=False),
    resnet34=_variant((3, 4, 6, 3), 21_797_672, bottleneck=False),
    resnet50=_variant((3, 4, 6, 3), 25_557_032),
    resnet101=_variant((3, 4, 23, 3), 44_549_160),
    resnet152=_variant((3, 8, 36, 3), 60_192_808),
    resnet50_c=_deep((3, 4, 6, 3), 25_576_264),
    resnet101_c=_deep((3, 4, 23, 3), 44_568_392),
    resnet20_cifar=_small(3, 334_072),
    resnet32_cifar=_small(5, 528_504),
    resnet44_cifar=_small(7, 722_936),
    resnet56_cifar=_small(9, 917_368),
    resnet50_gn=Variant(ResNet, dict(norm='group'), 25_557_032,
                        'big_vision, models/bit.py and configs/bit_i1k.py'),
)

RULES: sharding.Rules = (
    (r'.*/conv\w+/kernel', P(None, None, None, 'fsdp')),
    (r'.*/head/kernel', P('fsdp', 'model')),
    (r'.*', P()),
)

DEPTHS: Depths = (
    (r'(conv|gn|bn)_root\d?/.*', 0),
    (r'block(\d+)/unit(\d+)/.*', None),
    (r'norm/.*', -2),  # BiT's last
    (r'.*', -1))

FAMILY = Family(ResNet, VARIANTS, RULES, DEPTHS, tiny=lambda fields: dict(width=32, depths=(1, 1)),
                blocks=r'block\d/unit\d+', kernels=('conv_root1/kernel', 'conv_root/kernel'))
