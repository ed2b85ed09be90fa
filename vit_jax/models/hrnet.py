"""High-resolution network (HRNet, arXiv:1908.07919): branches of four resolutions that exchange maps.

Parameters: `conv_root1`, `bn_root1`, `conv_root2`, `bn_root2`; `stage1/unit1/...` as a ResNet's;
`stage{s}/new{b}/{conv, bn}` of the branch that a stage adds, `wider{b}` of one whose width it changes,
`stage{s}/module{m}/branch{b}/unit{u}/...`, `up{i}_{j}/{conv, bn}` and `down{i}_{j}_{k}/{conv, bn}`, by
which branch i reads branch j. Of a classifier: `widen{b}`, `down{b}`, `last`, `head`. Running statistics
in `batch_stats`. Intermediates: `representation` `[batch, 2048]`, what the head reads.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from vit_jax import sharding
from vit_jax.errors import unknown
from vit_jax.layers import padding
from vit_jax.layers.convolution import Conv
from vit_jax.layers.norms import BatchNorm
from vit_jax.layers.resizing import bilinear, rescaled
from vit_jax.models.family import Depths, Family
from vit_jax.models.features import Features
from vit_jax.models.resnet import Stage, Unit
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

PAPER = 'HRNet, arXiv:1908.07919, appendix A'
RESIZING = ('nearest', 'bilinear')
NORMS = ('batch', 'frozen')


class ConvNorm(nn.Module):
  """A convolution and a batch norm, and ReLU where it is asked for."""
  width: int
  kernel_size: int = 3
  stride: int = 1
  relu: bool = True
  use_bias: bool = False
  norm: str = 'batch'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool, valid: jax.Array | None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / stride, w / stride, width]`; `valid`: of x."""
    x = Conv(self.width, self.kernel_size, self.stride, use_bias=self.use_bias, dtype=self.dtype,
             name='conv')(x, valid)
    x = BatchNorm(self.norm == 'frozen', dtype=self.dtype, name='bn')(
        x, train, padding.strided(valid, self.stride))
    return nn.relu(x) if self.relu else x


def enlarged(x: jax.Array, valid: jax.Array | None, like: jax.Array, inside: jax.Array | None,
             how: str, factor: int) -> jax.Array:
  """Returns a map in the size of a finer one, each image from its own size to its own.

  Args:
    x, valid: `[batch, h, w, c]`, and which of its entries are image.
    like, inside: the same of the finer map.
    how: one of `RESIZING`: 'nearest' repeats each entry `factor` times and cuts; 'bilinear' resizes by
      the factor and, where that is not the finer map's size, to that size, as mmsegmentation does.
    factor: of the strides.
  """
  canvas, larger = like.shape[1:3], tuple(n * factor for n in x.shape[1:3])
  if how == 'nearest':
    out = jnp.repeat(jnp.repeat(x, factor, 1), factor, 2)[:, :canvas[0], :canvas[1]]
  elif valid is None:
    out = bilinear(bilinear(x, larger), canvas)
  else:
    own, wanted = (jnp.stack([v.any(2).sum(1), v.any(1).sum(1)], -1) for v in (valid, inside))
    out = rescaled(rescaled(x, own, own * factor, larger), own * factor, wanted, canvas)
  return padding.clear(out, inside)


class Module(nn.Module):
  """Residual units in each branch, and the exchange between all of them (figure 2).

  Attributes: as `HRNet`; `widths` of the branches, `depth` units in each.
  """
  widths: tuple[int, ...]
  depth: int
  resizing: str = 'nearest'
  norm: str = 'batch'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, maps: list[jax.Array], train: bool, valid: list[jax.Array | None]
               ) -> list[jax.Array]:
    """Maps `[batch, h / 2**b, w / 2**b, widths[b]]` to the same."""
    own = dict(norm=self.norm, dtype=self.dtype)
    maps = [Stage(self.depth, width, bottleneck=False, name=f'branch{b + 1}', **own)(x, train, v)
            for b, (width, x, v) in enumerate(zip(self.widths, maps, valid))]
    return [nn.relu(sum(self._read(i, j, maps, train, valid) for j in range(len(maps))))
            for i in range(len(maps))]

  def _read(self, i, j, maps, train, valid):
    """Returns branch j in the size and width of branch i."""
    x, own = maps[j], dict(norm=self.norm, dtype=self.dtype)
    if j > i:
      x = ConvNorm(self.widths[i], 1, relu=False, name=f'up{i + 1}_{j + 1}', **own)(x, train, valid[j])
      return enlarged(x, valid[j], maps[i], valid[i], self.resizing, 2 ** (j - i))
    for k in range(i - j):
      last = k == i - j - 1
      x = ConvNorm(self.widths[i if last else j], stride=2, relu=not last,
                   name=f'down{i + 1}_{j + 1}_{k + 1}', **own)(x, train, valid[j + k])
    return x


class HRNet(nn.Module):
  """HRNetV2: a classifier, or a backbone where `num_classes` is None.

  Attributes:
    num_classes: of the head; None returns `Features` with a map per branch, of strides 4, 8, 16, 32.
    width: channels of the finest branch; they double from branch to branch.
    modules: of the stages with two, three and four branches.
    depth: units in each branch of a module.
    root_depth, root_width: bottlenecks of the first stage, and channels of their 3x3 convolutions.
    resizing: how coarse branches are enlarged: 'nearest' (the classifiers') or 'bilinear'
      (mmsegmentation's).
    norm: 'batch', or 'frozen', see `ResNet`.
    dtype: of the computation; parameters and statistics are float32.
  """
  num_classes: int | None = 1000
  width: int = 48
  modules: tuple[int, ...] = (1, 4, 3)
  depth: int = 4
  root_depth: int = 4
  root_width: int = 64
  resizing: str = 'nearest'
  norm: str = 'batch'
  dtype: jnp.dtype = jnp.float32

  def check(self) -> None:
    """Raises UserError for fields that are not known."""
    for kind, value, options in (('resizing', self.resizing, RESIZING), ('norm', self.norm, NORMS)):
      if value not in options:
        raise unknown(kind, value, options)

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` of any size to logits `[batch, num_classes]`.

    With `valid`, see `vit_jax.models.features`, to features that do not depend on the padding.
    """
    self.check()
    padding.check(self, valid)
    x = padding.clear(image, valid)
    for name in ('_root1', '_root2'):
      x = Conv(64, 3, 2, dtype=self.dtype, name='conv' + name)(x, valid)
      valid = padding.strided(valid, 2)
      x = nn.relu(BatchNorm(self.norm == 'frozen', dtype=self.dtype, name='bn' + name)(x, train, valid))
    x = Stage(self.root_depth, self.root_width, norm=self.norm, dtype=self.dtype, name='stage1')(
        x, train, valid)
    maps, valid = [x], [valid]
    for s, count in enumerate(self.modules):
      maps, valid = _Stage(tuple(self.width * 2 ** b for b in range(s + 2)), count, self.depth,
                           self.resizing, self.norm, self.dtype, name=f'stage{s + 2}')(
                               maps, train, valid)
    maps = [sharding.constrain(x) for x in maps]
    if self.num_classes is None:
      return Features(tuple(maps), None, tuple((4 * 2 ** b,) * 2 for b in range(len(maps))))
    return self._classify(maps, train)

  def _classify(self, maps, train):
    own = dict(norm=self.norm, dtype=self.dtype)
    y = 0.
    for b, x in enumerate(maps):
      x = Unit(32 * 2 ** b, name=f'widen{b + 1}', **own)(x, train)
      y = x if b == 0 else x + ConvNorm(x.shape[-1], stride=2, use_bias=True, name=f'down{b}', **own)(
          y, train, None)
    y = ConvNorm(2048, 1, use_bias=True, name='last', **own)(y, train, None)
    y = y.astype(jnp.float32).mean((1, 2))
    self.sow('intermediates', 'representation', y)
    return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name='head')(y)


class _Stage(nn.Module):
  """The branches that a stage adds, and its modules."""
  widths: tuple[int, ...]
  count: int
  depth: int
  resizing: str
  norm: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, maps, train, valid):
    change = lambda name, b, x, v, stride: ConvNorm(
        self.widths[b], 3, stride, norm=self.norm, dtype=self.dtype, name=f'{name}{b + 1}')(x, train, v)
    added = change('new', len(maps), maps[-1], valid[-1], 2)
    maps = [x if x.shape[-1] == self.widths[b] else change('wider', b, x, valid[b], 1)
            for b, x in enumerate(maps)]
    maps, valid = [*maps, added], [*valid, padding.strided(valid[-1], 2)]
    for m in range(self.count):
      maps = Module(self.widths, self.depth, self.resizing, self.norm, self.dtype,
                    name=f'module{m + 1}')(maps, train, valid)
    return maps, valid


def _variant(width: int, parameters: int) -> Variant:
  return Variant(HRNet, dict(width=width), parameters, PAPER,
                 preprocessing=Preprocessing(IMAGENET_MEAN, IMAGENET_STD))


VARIANTS: dict[str, Variant] = dict(
    hrnet_w18=_variant(18, 21_299_004), hrnet_w32=_variant(32, 41_232_680),
    hrnet_w48=_variant(48, 77_469_864))

RULES: sharding.Rules = (
    (r'.*/conv\w*/kernel', P(None, None, None, 'fsdp')),
    (r'.*/head/kernel', P('fsdp', 'model')),
    (r'.*', P()),
)

DEPTHS: Depths = (
    (r'(conv|bn)_root\d/.*', 0),
    (r'stage(\d+)/(?:unit|module)(\d+)/.*', None),
    (r'stage(\d+)/(?:new|wider).*', None),  # before the stage's first module
    (r'.*', -1))

FAMILY = Family(HRNet, VARIANTS, RULES, DEPTHS,
                tiny=lambda fields: dict(width=8, modules=(1, 1), depth=1, root_depth=1, root_width=8),
                kernels=('conv_root1/kernel',))
