"""MLP-Mixer (arXiv:2105.01601).

Parameters carry the names of the published files: `stem`, `MixerBlock_0/{LayerNorm_0, token_mixing,
LayerNorm_1, channel_mixing}`, `pre_head_layer_norm`, `head`. Intermediates: `representation`
`[batch, width]`, what the head reads.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from vit_jax import sharding
from vit_jax.errors import UserError
from vit_jax.layers.drop_path import DropPath
from vit_jax.layers.mlp import MlpBlock
from vit_jax.layers.patches import grid_size
from vit_jax.models.family import Depths, Family, Grid
from vit_jax.models.features import Features
from vit_jax.models.variant import Variant

PAPER = 'MLP-Mixer, arXiv:2105.01601, table 1'


class MixerBlock(nn.Module):
  """One layer: an MLP over the tokens of each channel, then one over the channels of each token."""
  tokens_mlp_dim: int
  channels_mlp_dim: int
  gelu: str = 'tanh'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, drop_path_rate: float | None, train: bool) -> jax.Array:
    """Maps `[batch, tokens, width]` to the same (section 2, equation 1)."""
    y = nn.LayerNorm(dtype=self.dtype)(x).swapaxes(1, 2)
    y = MlpBlock(self.tokens_mlp_dim, self.gelu, dtype=self.dtype, name='token_mixing')(y).swapaxes(1, 2)
    x = self._residual(x, DropPath()(y, drop_path_rate, train))
    y = nn.LayerNorm(dtype=self.dtype)(x)
    y = MlpBlock(self.channels_mlp_dim, self.gelu, dtype=self.dtype, name='channel_mixing')(y)
    return self._residual(x, DropPath()(y, drop_path_rate, train))

  def _residual(self, x, branch):
    # The barrier keeps each layer's gradient apart from the next one's: see vit_jax.compilation.
    return sharding.constrain(jax.lax.optimization_barrier(x + branch))


class Mixer(nn.Module):
  """MLP-Mixer: a classifier, or a backbone where `num_classes` is None.

  The mixing of tokens makes parameters belong to one number of patches.

  Attributes:
    num_classes: of the head; None returns `Features`, with one map of stride `patch_size`.
    patch_size: pixels, one number or (height, width).
    width, depth, tokens_mlp_dim, channels_mlp_dim: as table 1 of the paper.
    drop_path_rate: of the last layer; rises from 0 in the first.
    gelu: 'tanh' (Google's) or 'erf' (timm's).
    head_bias: initial bias of the head (big_vision: -6.9 with the sigmoid loss on ImageNet-1k).
    dtype: of the computation; parameters are float32.
  """
  num_classes: int | None = 1000
  patch_size: int | tuple[int, int] = 16
  width: int = 768
  depth: int = 12
  tokens_mlp_dim: int = 384
  channels_mlp_dim: int = 3072
  drop_path_rate: float = 0.
  gelu: str = 'tanh'
  head_bias: float = 0.
  dtype: jnp.dtype = jnp.float32

  @property
  def patch(self) -> tuple[int, int]:
    """(height, width) of a patch in pixels."""
    return (self.patch_size,) * 2 if isinstance(self.patch_size, int) else tuple(self.patch_size)

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False, valid: jax.Array | None = None
               ) -> jax.Array | Features:
    """Maps float `[batch, height, width, channels]` to logits `[batch, num_classes]`.

    Raises:
      UserError: for a size that the patch size does not divide, parameters of another size, or `valid`,
        see `vit_jax.models.features`.
    """
    if valid is not None:
      raise UserError('a Mixer mixes all patches of the canvas, padding too, so its features change '
                      'with the padding; choose another backbone, or, where every image fills the '
                      'canvas, set model.mask_padding=false')
    grid = grid_size(image.shape[1:3], self.patch)
    self._check_tokens(grid)
    x = nn.Conv(self.width, self.patch, strides=self.patch, padding='VALID', dtype=self.dtype,
                name='stem')(image.astype(self.dtype))
    x = sharding.constrain(x.reshape(x.shape[0], -1, self.width))
    rates = np.linspace(0., self.drop_path_rate, self.depth, dtype=np.float32)
    for i in range(self.depth):
      block = MixerBlock(self.tokens_mlp_dim, self.channels_mlp_dim, self.gelu, self.dtype,
                         name=f'MixerBlock_{i}')
      x = block(x, rates[i] if self.drop_path_rate else None, train)
    x = nn.LayerNorm(dtype=self.dtype, name='pre_head_layer_norm')(x)
    if self.num_classes is None:
      return Features((x.reshape(x.shape[0], *grid, self.width),), None, (self.patch,))
    x = x.astype(jnp.float32).mean(axis=1)
    self.sow('intermediates', 'representation', x)
    return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros,
                    bias_init=nn.initializers.constant(self.head_bias), name='head')(x)

  def _check_tokens(self, grid: tuple[int, int]) -> None:
    """Raises UserError when the parameters mix another number of patches."""
    if not self.has_variable('params', 'MixerBlock_0'):
      return
    first = self.get_variable('params', 'MixerBlock_0')
    tokens = first['token_mixing']['Dense_0']['kernel'].shape[0]
    if tokens != grid[0] * grid[1]:
      raise UserError('the parameters of this Mixer mix {} patches, the image has {}x{} = {}; a Mixer '
                      'takes the one size that it was trained at, in patches of {}x{} pixels'.format(
                          tokens, *grid, grid[0] * grid[1], *self.patch))


def _variant(size: str, patch: int, parameters: int) -> Variant:
  width, depth, tokens_mlp_dim, channels_mlp_dim = SIZES[size]
  return Variant(Mixer, dict(
      patch_size=patch, width=width, depth=depth, tokens_mlp_dim=tokens_mlp_dim,
      channels_mlp_dim=channels_mlp_dim), parameters, PAPER)


# width, depth, tokens_mlp_dim, channels_mlp_dim
SIZES = dict(
    s=(512, 8, 256, 2048),
    b=(768, 12, 384, 3072),
    l=(1024, 24, 512, 4096),
    h=(1280, 32, 640, 5120),
)

VARIANTS: dict[str, Variant] = dict(
    mixer_s32=_variant('s', 32, 19_104_624),
    mixer_s16=_variant('s', 16, 18_528_264),
    mixer_b32=_variant('b', 32, 60_293_428),
    mixer_b16=_variant('b', 16, 59_880_472),
    mixer_l32=_variant('l', 32, 206_939_264),
    mixer_l16=_variant('l', 16, 208_196_168),
    mixer_h14=_variant('h', 14, 432_350_952),
)

# The hidden layers are split over `model`, the other large axis of the channels' MLP over `fsdp`.
RULES: sharding.Rules = (
    (r'.*/token_mixing/Dense_0/kernel', P(None, 'model')),
    (r'.*/token_mixing/Dense_1/kernel', P('model', None)),
    (r'.*/channel_mixing/Dense_0/kernel', P('fsdp', 'model')),
    (r'.*/channel_mixing/Dense_1/kernel', P('model', 'fsdp')),
    (r'.*/Dense_0/bias', P('model')),
    (r'.*/stem/kernel', P(None, None, None, 'fsdp')),
    (r'.*/head/kernel', P('fsdp', 'model')),
    (r'.*', P()),
)

DEPTHS: Depths = (
    (r'stem/.*', 0),
    (r'MixerBlock_(\d+)/.*', None),
    (r'pre_head_layer_norm/.*', -2),
    (r'.*', -1))

FAMILY = Family(
    Mixer, VARIANTS, RULES, DEPTHS,
    tiny=lambda fields: dict(patch_size=4, width=64, depth=2, tokens_mlp_dim=32, channels_mlp_dim=128),
    grid=lambda model, image_size: Grid(grid_size(image_size, model.patch), 0, 0),
    kernels=('stem/kernel',),
    facts=lambda model: dict(layers=model.depth, hidden=model.width))
