"""ConvNeXt (A ConvNet for the 2020s, arXiv:2201.03545), hierarchical and isotropic.

Parameters: `stem/{conv, norm}`, `stage{s}/downsample/{norm, conv}` (of every stage but the first),
`stage{s}/block{b}/{dwconv, norm, mlp/{Dense_0, Dense_1}, gamma}`, `norm`, `head`; `norm0`, `norm1`, ...
with `map_norms`. An isotropic ConvNeXt is one stage behind a stem of large patches without a norm.
Intermediates: `representation` `[batch, channels]`, what the head reads.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from vit_jax import sharding
from vit_jax.errors import UserError, unknown
from vit_jax.layers import padding
from vit_jax.layers.depthwise import DepthwiseConv
from vit_jax.layers.drop_path import DropPath
from vit_jax.layers.mlp import MlpBlock
from vit_jax.models.family import Depths, Family, Size
from vit_jax.models.features import Features
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'A ConvNet for the 2020s, arXiv:2201.03545, section 3'
ISOTROPIC = 'A ConvNet for the 2020s, arXiv:2201.03545, table 2'

ROUNDING = ('down', 'up')
# The authors truncate at 100 deviations, which is no truncation.
_normal, _zeros = nn.initializers.normal(stddev=.02), nn.initializers.zeros


def _norm(dtype, name: str) -> nn.LayerNorm:
  return nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=name)


def patches(x: jax.Array, features: int, size: int, rounding: str, dtype) -> jax.Array:
  """Maps `[batch, h, w, c]` to one entry per patch, by a convolution named `conv`.

  Rows and columns that fill no patch are dropped, or zeros complete the patch if `rounding` is 'up'.
  """
  if rounding == 'up':
    x = jnp.pad(x, ((0, 0), *((0, -n % size) for n in x.shape[1:3]), (0, 0)))
  return nn.Conv(features, (size, size), strides=size, padding='VALID', kernel_init=_normal, dtype=dtype,
                 name='conv')(x)


class Stem(nn.Module):
  """Cuts the image into patches; see `ConvNeXt` for the attributes."""
  width: int
  patch_size: int
  stem_norm: bool
  rounding: str
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    """Maps `[batch, height, width, channels]` to `[batch, h, w, width]`."""
    x = patches(image, self.width, self.patch_size, self.rounding, self.dtype)
    return _norm(self.dtype, 'norm')(x) if self.stem_norm else x


class Downsample(nn.Module):
  """A norm, then a 2x2 convolution of stride 2 (section 2.6)."""
  width: int
  rounding: str
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / 2, w / 2, width]`."""
    x = padding.clear(_norm(self.dtype, 'norm')(x), valid)
    return patches(x, self.width, 2, self.rounding, self.dtype)


class Block(nn.Module):
  """A depthwise 7x7 convolution, a norm and an MLP, beside the identity (figure 4)."""
  layer_scale: float | None = 1e-6
  drop_path_rate: float = 0.
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, width]` to the same; `valid`: see `ConvNeXt`."""
    width = x.shape[-1]
    y = DepthwiseConv(7, _normal, dtype=self.dtype, name='dwconv')(padding.clear(x, valid))
    mlp = MlpBlock(4 * width, 'erf', 0., self.dtype, _normal, _zeros, name='mlp')
    y = mlp(_norm(self.dtype, 'norm')(y), train)
    if self.layer_scale is not None:
      y *= self.param('gamma', nn.initializers.constant(self.layer_scale), (width,)).astype(y.dtype)
    y = DropPath()(y, self.drop_path_rate or None, train)
    # The barrier keeps each block's gradient apart from the next one's: see vit_jax.compilation.
    return sharding.constrain(jax.lax.optimization_barrier(x + y))


class Stage(nn.Module):
  """Blocks of one resolution, behind a downsampler where `rounding` is given.

  Attributes:
    width: channels.
    drop_path_rates: of the blocks, one for each.
    layer_scale, dtype: as `ConvNeXt`.
    rounding: of the downsampler; '': the stage has none.
  """
  width: int
  drop_path_rates: tuple[float, ...]
  layer_scale: float | None
  rounding: str = ''
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> tuple[jax.Array, jax.Array | None]:
    """Maps `[batch, h, w, c]`, and `valid` of it, to the map behind the blocks and `valid` of that."""
    if self.rounding:
      x = Downsample(self.width, self.rounding, self.dtype, name='downsample')(x, valid)
      valid = padding.strided(valid, 2)
    for i, rate in enumerate(self.drop_path_rates):
      x = Block(self.layer_scale, rate, self.dtype, name=f'block{i}')(x, train, valid)
    return x, valid


class ConvNeXt(nn.Module):
  """A ConvNeXt: a classifier, or a backbone where `num_classes` is None.

  Attributes:
    num_classes: of the head; None returns `Features` with a map per stage, of strides 4, 8, 16, 32.
    widths: channels of each stage.
    depths: blocks of each stage.
    patch_size: pixels of the stem's patches.
    stem_norm: whether a norm follows the stem; isotropic models have none.
    layer_scale: initial scale per channel of every block (CaiT, arXiv:2103.17239; 1 under UperNet);
      None: no scale.
    drop_path_rate: of the last block; rises linearly from 0 at the first.
    head_scale: factor on the head's initial parameters (.001 where the authors fine-tune).
    rounding: what becomes of rows and columns that fill no patch: 'down' drops them, as published, 'up'
      completes them by zeros; None: 'down' for a classifier, 'up' for a backbone, whose maps then are
      as large as those of other backbones.
    map_norms: with `num_classes=None`, a norm for each map, as the detectors and segmenters have.
    dtype: compute dtype; parameters and the norms' statistics are float32.
  """
  num_classes: int | None = 1000
  widths: tuple[int, ...] = (96, 192, 384, 768)
  depths: tuple[int, ...] = (3, 3, 9, 3)
  patch_size: int = 4
  stem_norm: bool = True
  layer_scale: float | None = 1e-6
  drop_path_rate: float = 0.
  head_scale: float = 1.
  rounding: str | None = None
  map_norms: bool = False
  dtype: jnp.dtype = jnp.float32

  @property
  def strides(self) -> tuple[int, ...]:
    """Pixels between neighbouring entries of each stage's map."""
    return tuple(self.patch_size * 2 ** i for i in range(len(self.depths)))

  def check(self, image_size: Size, rounding: str, padded: bool) -> None:
    """Raises UserError for fields that do not fit together, or an image that is too small."""
    if len(self.widths) != len(self.depths):
      raise UserError(f'widths {self.widths} and depths {self.depths} must have one number for each '
                      'stage')
    if rounding not in ROUNDING:
      raise unknown('rounding', rounding, ROUNDING)
    if rounding == 'down' and padded:
      raise UserError("ConvNeXt reads `valid` with rounding='up' alone: whether a row is dropped would "
                      'depend on the padding; leave model.rounding out')
    if rounding == 'down' and min(image_size) < self.strides[-1]:
      raise UserError('image size {}x{} is smaller than {}x{}, the stride of the last stage; enlarge '
                      'the images'.format(*image_size, *[self.strides[-1]] * 2))

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` to logits `[batch, num_classes]`.

    With `valid`, see `vit_jax.models.features`, to features that do not depend on the padding.

    Raises:
      UserError: for a classifier's image that is smaller than the last stride, or fields that do not
        fit.
    """
    padding.check(self, valid)
    rounding = self.rounding or ('up' if self.num_classes is None else 'down')
    self.check(image.shape[1:3], rounding, valid is not None)
    stem = Stem(self.widths[0], self.patch_size, self.stem_norm, rounding, self.dtype, name='stem')
    x, valid = stem(padding.clear(image, valid)), padding.strided(valid, self.patch_size)
    rates, maps = np.linspace(0., self.drop_path_rate, sum(self.depths)).tolist(), []
    for i, (width, depth) in enumerate(zip(self.widths, self.depths)):
      own, rates = tuple(rates[:depth]), rates[depth:]
      x, valid = Stage(width, own, self.layer_scale, rounding if i else '', self.dtype,
                       name=f'stage{i}')(x, train, valid)
      maps.append((_norm(self.dtype, f'norm{i}')(x) if self._with_norms else x, valid))
    if self.num_classes is None:
      return Features(tuple(padding.clear(*one) for one in maps), None,
                      tuple((stride, stride) for stride in self.strides))
    x = _norm(jnp.float32, 'norm')(x.astype(jnp.float32).mean((1, 2)))
    self.sow('intermediates', 'representation', x)
    return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(stddev=.02 * self.head_scale),
                    name='head')(x)

  @property
  def _with_norms(self) -> bool:
    return self.map_norms and self.num_classes is None


def _variant(width: int, depths: tuple[int, ...], parameters: int) -> Variant:
  widths = tuple(width * 2 ** i for i in range(len(depths)))
  return Variant(ConvNeXt, dict(widths=widths, depths=depths), parameters, PAPER,
                 preprocessing=Preprocessing(IMAGENET_MEAN, IMAGENET_STD, interpolation='bicubic'))


def _isotropic(width: int, depth: int, parameters: int) -> Variant:
  return Variant(
      ConvNeXt, dict(widths=(width,), depths=(depth,), patch_size=16, stem_norm=False, layer_scale=None),
      parameters, ISOTROPIC,
      preprocessing=Preprocessing(IMAGENET_MEAN, IMAGENET_STD, interpolation='bicubic'))


VARIANTS: dict[str, Variant] = dict(
    convnext_t=_variant(96, (3, 3, 9, 3), 28_589_128),
    convnext_s=_variant(96, (3, 3, 27, 3), 50_223_688),
    convnext_b=_variant(128, (3, 3, 27, 3), 88_591_464),
    convnext_l=_variant(192, (3, 3, 27, 3), 197_767_336),
    convnext_xl=_variant(256, (3, 3, 27, 3), 350_196_968),
    convnext_iso_s=_isotropic(384, 18, 22_308_712),
    convnext_iso_b=_isotropic(768, 18, 87_083_752),
    convnext_iso_l=_isotropic(1024, 36, 305_905_640),
)

RULES: sharding.Rules = (
    (r'.*/Dense_0/kernel', P('fsdp', 'model')),
    (r'.*/Dense_1/kernel', P('model', 'fsdp')),
    (r'.*/conv/kernel', P(None, None, None, 'fsdp')),
    (r'.*/head/kernel', P('fsdp', 'model')),
    (r'.*', P()),
)

# The authors' 12 groups: three blocks of the third stage are one, and each other stage is one.
DEPTHS: Depths = (
    (r'stem/.*', 0),
    (r'stage2/block(\d+)/.*', lambda block: 3 + block // 3),
    (r'stage3/.*', 12),
    (r'stage(\d+)/.*', lambda stage: stage + 1),
    (r'.*', -1))


def _tiny(fields) -> dict:
  """Returns the fields of a network of two stages, or of an isotropic one."""
  if len(fields['depths']) == 1:
    return dict(widths=(16,), depths=(2,), patch_size=4)
  return dict(widths=(16, 32), depths=(1, 1))


FAMILY = Family(ConvNeXt, VARIANTS, RULES, DEPTHS, _tiny, blocks=r'stage\d/block\d+',
                kernels=('stem/conv/kernel',))
