"""RegNetX and RegNetY (Designing network design spaces, arXiv:2003.13678).

Parameters: `stem/{conv, bn}`, `stage{s}/block{b}/{conv1, bn1, conv2, bn2, se/{reduce, expand}, conv3,
bn3}`, with `conv_proj, bn_proj` in the first block of a stage, `head`; running statistics in
`batch_stats`. Intermediates: `representation` `[batch, channels]`, what the head reads.
"""

import dataclasses
import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import sharding
from vit_jax.errors import UserError, unknown
from vit_jax.layers import padding
from vit_jax.layers.convolution import Conv
from vit_jax.layers.norms import BatchNorm
from vit_jax.layers.squeeze_excite import SqueezeExcite
from vit_jax.models import resnet
from vit_jax.models.family import Depths
from vit_jax.models.features import Features
from vit_jax.models.variant import Variant

PAPER = 'Designing network design spaces, arXiv:2003.13678, figures 15 and 17'
NORMS = ('batch', 'frozen')


class Design(NamedTuple):
  """A network of the design space (section 3.3).

  Attributes:
    depth: blocks.
    initial_width, slope, multiplier: w_0, w_a and w_m of equations 2 to 4.
    group_width: channels of each group of the 3x3 convolutions.
  """
  depth: int
  initial_width: int
  slope: float
  multiplier: float
  group_width: int

  def fields(self, least: float = .9) -> dict:
    """Returns `widths`, `depths` and `group_widths` of the stages.

    A width is rounded to a multiple of the group's; torchvision, as `least=.9` says, takes the next one
    where that would take more than a tenth, the authors never.
    """
    wanted = self.initial_width + self.slope * np.arange(self.depth)  # equation 2
    powers = np.round(np.log(wanted / self.initial_width) / np.log(self.multiplier))  # equation 3
    widths = np.round(self.initial_width * self.multiplier ** powers / 8) * 8  # equation 4
    found, depths = np.unique(widths.astype(int), return_counts=True)
    groups = [min(self.group_width, width) for width in found.tolist()]
    return dict(widths=tuple(rounded(*pair, least) for pair in zip(found.tolist(), groups)),
                depths=tuple(depths.tolist()), group_widths=tuple(groups))


def rounded(width: float, group: int, least: float = .9) -> int:
  """Returns a width as a multiple of a group's, the next one where less than a share would be left."""
  near = max(group, int(width + group / 2) // group * group)
  return near + group if near < least * width else near


class Block(nn.Module):
  """A residual block: 1x1, grouped 3x3 and 1x1 convolutions of one width (the X block of figure 4).

  Attributes:
    width, group_width: channels, and those of a group.
    stride: of the 3x3.
    se_ratio: as `RegNet`.
    frozen: whether the norms keep their running statistics.
    dtype: of the computation.
  """
  width: int
  group_width: int
  stride: int = 1
  se_ratio: float = .25
  frozen: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / stride, w / stride, width]`; `valid`: see `RegNet`."""
    behind = padding.strided(valid, self.stride)

    def layer(x, name, valid, size=1, stride=1, groups=1):
      x = Conv(self.width, size, stride, groups=groups, dtype=self.dtype, name=f'conv{name}')(x)
      return BatchNorm(self.frozen, dtype=self.dtype, name=f'bn{name}')(x, train, valid)

    y = nn.relu(layer(x, '1', valid))
    y = nn.relu(layer(y, '2', behind, 3, self.stride, self.width // self.group_width))
    if self.se_ratio:
      reduced = int(round(self.se_ratio * x.shape[-1]))  # a share of what comes into the block
      y = SqueezeExcite(reduced, dtype=self.dtype, name='se')(y, behind)
    y = layer(y, '3', behind)
    if self.stride > 1 or x.shape[-1] != self.width:
      x = layer(x, '_proj', behind, stride=self.stride)
    return sharding.constrain(jax.lax.optimization_barrier(nn.relu(x + y)))


class Stem(nn.Module):
  """A 3x3 convolution of stride 2."""
  width: int
  frozen: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, height, width, channels]` to `[batch, height / 2, width / 2, width]`."""
    x = Conv(self.width, 3, 2, dtype=self.dtype, name='conv')(image)
    return nn.relu(BatchNorm(self.frozen, dtype=self.dtype, name='bn')(x, train, valid))


class Stage(nn.Module):
  """Blocks of one width, the first of which halves height and width."""
  depth: int
  width: int
  group_width: int
  se_ratio: float = .25
  frozen: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / 2, w / 2, width]`; `valid`: see `RegNet`."""
    for i in range(self.depth):
      stride = 2 if i == 0 else 1
      x = Block(self.width, self.group_width, stride, self.se_ratio, self.frozen, self.dtype,
                name=f'block{i}')(x, train, valid)
      valid = padding.strided(valid, stride)
    return x


class RegNet(nn.Module):
  """A RegNet: a classifier, or a backbone where `num_classes` is None.

  Attributes:
    num_classes: of the head; None returns `Features` with a map per stage, of strides 4, 8, 16, 32.
    widths, depths, group_widths: of each stage: channels, blocks, channels of a group; see `Design`.
    se_ratio: features of squeeze and excitation, as a share of the channels that come into the block;
      0: a RegNetX, which has none.
    stem_width: channels of the stem.
    norm: 'batch', or 'frozen' (the four vectors stay as they were loaded).
    dtype: of the computation; parameters and statistics are float32.
  """
  num_classes: int | None = 1000
  widths: tuple[int, ...] = (224, 448, 1232, 3024)
  depths: tuple[int, ...] = (2, 4, 11, 1)
  group_widths: tuple[int, ...] = (112, 112, 112, 112)
  se_ratio: float = .25
  stem_width: int = 32
  norm: str = 'batch'
  dtype: jnp.dtype = jnp.float32

  def check(self) -> None:
    """Raises UserError for fields that do not fit together."""
    if self.norm not in NORMS:
      raise unknown('norm', self.norm, NORMS)
    if not len(self.widths) == len(self.depths) == len(self.group_widths):
      raise UserError(f'widths {self.widths}, depths {self.depths} and group_widths '
                      f'{self.group_widths} must have one number for each stage')
    for width, group in zip(self.widths, self.group_widths):
      if width % group:
        raise UserError(f'group_widths: groups of {group} channels do not divide {width}; choose a '
                        'divisor')

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` of any size to logits `[batch, num_classes]`.

    With `valid`, see `vit_jax.models.features`, to features that do not depend on the padding.
    """
    self.check()
    padding.check(self, valid)
    frozen, image, valid = self.norm == 'frozen', padding.clear(image, valid), padding.strided(valid, 2)
    x = Stem(self.stem_width, frozen, self.dtype, name='stem')(image, train, valid)
    maps = []
    for i, (depth, width, group) in enumerate(zip(self.depths, self.widths, self.group_widths)):
      x = Stage(depth, width, group, self.se_ratio, frozen, self.dtype, name=f'stage{i}')(
          x, train, valid)
      valid = padding.strided(valid, 2)
      maps.append(x)
    if self.num_classes is None:
      return Features(tuple(maps), None, tuple((4 * 2 ** i,) * 2 for i in range(len(maps))))
    x = x.astype(jnp.float32).mean((1, 2))
    self.sow('intermediates', 'representation', x)
    return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(stddev=.01), name='head')(x)


def _x(*design, parameters: int, se_ratio: float = 0., least: float = .9) -> Variant:
  return Variant(RegNet, dict(Design(*design).fields(least), se_ratio=se_ratio), parameters, PAPER,
                 preprocessing=resnet.TORCHVISION)


_y = functools.partial(_x, se_ratio=.25)

VARIANTS: dict[str, Variant] = dict(
    regnetx_400mf=_x(22, 24, 24.48, 2.54, 16, parameters=5_495_976),
    regnetx_800mf=_x(16, 56, 35.73, 2.28, 16, parameters=7_259_656),
    regnetx_1_6gf=_x(18, 80, 34.01, 2.25, 24, parameters=9_190_136),
    regnetx_3_2gf=_x(25, 88, 26.31, 2.25, 48, parameters=15_296_552),
    regnetx_8gf=_x(23, 80, 49.56, 2.88, 120, parameters=39_572_648),
    regnetx_16gf=_x(22, 216, 55.59, 2.1, 128, parameters=54_278_536),
    regnetx_32gf=_x(23, 320, 69.86, 2.0, 168, parameters=107_811_560),
    regnety_400mf=_y(16, 48, 27.89, 2.09, 8, parameters=4_344_144),
    regnety_800mf=_y(14, 56, 38.84, 2.4, 16, parameters=6_432_512),
    regnety_1_6gf=_y(27, 48, 20.71, 2.65, 24, parameters=11_202_430),
    regnety_3_2gf=_y(21, 80, 42.63, 2.66, 24, parameters=19_436_338),
    regnety_4gf=_y(22, 96, 31.41, 2.24, 64, least=0., parameters=20_646_656),
    regnety_8gf=_y(17, 192, 76.82, 2.19, 56, parameters=39_381_472),
    regnety_16gf=_y(18, 200, 106.23, 2.48, 112, parameters=83_590_140),
    regnety_32gf=_y(20, 232, 115.89, 2.53, 232, parameters=145_046_770),
)

DEPTHS: Depths = ((r'stem/.*', 0), (r'stage(\d+)/block(\d+)/.*', None), (r'.*', -1))

FAMILY = dataclasses.replace(
    resnet.FAMILY, module=RegNet, variants=VARIANTS, depth=DEPTHS,
    tiny=lambda fields: dict(widths=(16, 32), depths=(1, 1), group_widths=(8, 8), stem_width=16),
    kernels=('stem/conv/kernel',))
