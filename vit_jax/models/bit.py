"""Big Transfer's ResNet-v2 (arXiv:1912.11370): norm before weights, groups instead of batches.

Parameters: `conv_root`, `block1/unit1/{gn1, conv1, gn2, conv2, gn3, conv3, conv_proj}`, `norm`, `head`.
Intermediates: `representation` `[batch, channels]`, what the head reads.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax import sharding
from vit_jax.errors import unknown
from vit_jax.layers import padding
from vit_jax.layers.convolution import Conv
from vit_jax.layers.norms import GroupNorm
from vit_jax.models import resnet
from vit_jax.models.features import Features
from vit_jax.models.variant import Preprocessing, Variant

PAPER = 'Big Transfer, arXiv:1912.11370, section 3.1'
SQUASHED = Preprocessing(crop='squash')

ROOT_PADDING = dict(zero=0., lowest=-jnp.inf)


class PreActivationUnit(nn.Module):
  """Norm and ReLU before each of three convolutions (arXiv:1603.05027, figure 4e).

  Attributes:
    width: channels of the 3x3; the unit gives four times as many.
    stride: of the 3x3.
    dtype: of the computation.
  """
  width: int
  stride: int = 1
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / stride, w / stride, 4 * width]`; `valid`: see `BiT`."""
    conv = lambda features, size, stride, name: Conv(
        features, size, stride, standardize='bit', dtype=self.dtype, name=name)
    active = lambda x, i, valid: nn.relu(GroupNorm(1e-5, dtype=self.dtype, name=f'gn{i}')(x, valid))
    y = active(x, 1, valid)
    if self.stride > 1 or x.shape[-1] != 4 * self.width:
      x = conv(4 * self.width, 1, self.stride, 'conv_proj')(y)
    y = conv(self.width, 1, 1, 'conv1')(y)
    y = conv(self.width, 3, self.stride, 'conv2')(active(y, 2, valid))
    y = conv(4 * self.width, 1, 1, 'conv3')(active(y, 3, padding.strided(valid, self.stride)))
    return sharding.constrain(jax.lax.optimization_barrier(x + y))


class PreActivationStage(nn.Module):
  """Units of one resolution, the first of which strides."""
  depth: int
  width: int
  stride: int = 1
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, c]` to `[batch, h / stride, w / stride, 4 * width]`; `valid`: see `BiT`."""
    for i in range(self.depth):
      stride = self.stride if i == 0 else 1
      x = PreActivationUnit(self.width, stride, self.dtype, name=f'unit{i + 1}')(x, valid)
      valid = padding.strided(valid, stride)
    return x


class BiT(nn.Module):
  """Big Transfer's network: a classifier, or a backbone where `num_classes` is None.

  Attributes:
    num_classes: of the head; None returns `Features` with a map per stage, of strides 4, 8, 16, 32,
      the last one behind the last norm.
    depths: units per stage.
    width: channels of the root: 64 times the factor in the name.
    root_padding: what the root's max-pool sees outside: 'zero' as Big Transfer's own code, with which
      the published weights were trained, or 'lowest' as big_vision's.
    head_bias: initial bias of the head (big_vision: -10 with the sigmoid loss on ImageNet-21k).
    dtype: of the computation; parameters are float32.
  """
  num_classes: int | None = 1000
  depths: tuple[int, ...] = (3, 4, 6, 3)
  width: int = 64
  root_padding: str = 'zero'
  head_bias: float = 0.
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` of any size to logits `[batch, num_classes]`.

    With `valid`, see `vit_jax.models.features`, to features that do not depend on the padding.
    """
    padding.check(self, valid)
    if self.root_padding not in ROOT_PADDING:
      raise unknown('root_padding', self.root_padding, ROOT_PADDING)
    image = padding.clear(image, valid)
    x = Conv(self.width, 7, 2, standardize='bit', dtype=self.dtype, name='conv_root')(image)
    outside = ROOT_PADDING[self.root_padding]
    x = padding.clear(x, padding.strided(valid, 2), outside)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=outside)
    valid = padding.strided(valid, 4)
    x, maps = padding.clear(nn.max_pool(x, (3, 3), (2, 2), 'VALID'), valid), []
    for i, depth in enumerate(self.depths):
      stride = 1 if i == 0 else 2
      x = PreActivationStage(depth, self.width * 2 ** i, stride, self.dtype, name=f'block{i + 1}')(
          x, valid)
      valid = padding.strided(valid, stride)
      maps.append(x)
    x = nn.relu(GroupNorm(1e-5, dtype=self.dtype, name='norm')(x, valid))
    if self.num_classes is None:
      return Features((*maps[:-1], x), None, tuple((4 * 2 ** i,) * 2 for i in range(len(maps))))
    x = x.astype(jnp.float32).mean((1, 2))
    self.sow('intermediates', 'representation', x)
    return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros,
                    bias_init=nn.initializers.constant(self.head_bias), name='head')(x)


def _variant(depths: tuple[int, ...], factor: int, parameters: int) -> Variant:
  return Variant(BiT, dict(depths=depths, width=64 * factor), parameters, PAPER,
                 preprocessing=SQUASHED)


_R50, _R101, _R152 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)

VARIANTS: dict[str, Variant] = dict(
    bit_r50x1=_variant(_R50, 1, 25_549_352),
    bit_r50x3=_variant(_R50, 3, 217_319_080),
    bit_r101x1=_variant(_R101, 1, 44_541_480),
    bit_r101x3=_variant(_R101, 3, 387_934_888),
    bit_r152x2=_variant(_R152, 2, 236_335_208),
    bit_r152x4=_variant(_R152, 4, 936_533_224),
)

FAMILY = dataclasses.replace(resnet.FAMILY, module=BiT, variants=VARIANTS)
