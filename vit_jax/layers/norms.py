"""Normalisation of feature maps."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax.errors import UserError
from vit_jax.layers import padding

GROUPS = 32  # of every published network with GroupNorm (arXiv:1803.08494, section 4)


class GroupNorm(nn.Module):
  """Normalises `[batch, h, w, c]` over space and each of 32 groups of channels.

  Parameters: `scale`, `bias`, `[c]`.

  Attributes:
    epsilon: 1e-6 in ViT's hybrids and big_vision, 1e-5 in Big Transfer.
    scale_init: of the scale; zeros make a residual branch start as nothing.
    dtype: of the output; statistics are float32.
  """
  epsilon: float = 1e-6
  scale_init: nn.initializers.Initializer = nn.initializers.ones
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Normalises inside the images alone, and gives zeros elsewhere; `valid`: see `layers.padding`."""
    channels = x.shape[-1]
    if channels % GROUPS:
      raise UserError(f'{GROUPS} groups do not divide the {channels} channels; choose a width that is a '
                      f'multiple of {GROUPS}')
    scale = self.param('scale', self.scale_init, (channels,))
    bias = self.param('bias', nn.initializers.zeros, (channels,))

    def mean_of_group(x):  # over space first, where whole vectors of channels are added
      groups = padding.mean(x, valid, (1, 2)).reshape(-1, GROUPS, channels // GROUPS).mean(-1)
      return jnp.repeat(groups, channels // GROUPS, -1)[:, None, None]

    wide = x.astype(jnp.float32)
    mean = mean_of_group(wide)
    factor = jax.lax.rsqrt(mean_of_group(jnp.square(wide - mean)) + self.epsilon) * scale
    return padding.clear(((wide - mean) * factor + bias).astype(self.dtype), valid)


class BatchNorm(nn.Module):
  """Normalises `[batch, h, w, c]` over batch and space (arXiv:1502.03167, algorithm 1).

  Under `jit` on a mesh, the statistics are those of the global batch. Parameters: `scale`, `bias`;
  state `batch_stats`: `mean`, `var`; all `[c]`.

  Attributes:
    frozen: use the running statistics in training too, and keep all four as they are (DETR,
      arXiv:2005.12872, section 4).
    scale_init: of the scale.
    momentum: share of the running statistics that stays at each step.
    epsilon: added to the variance.
    dtype: of the output; statistics are float32.
  """
  frozen: bool = False
  scale_init: nn.initializers.Initializer = nn.initializers.ones
  momentum: float = .9
  epsilon: float = 1e-5
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, valid: jax.Array | None = None) -> jax.Array:
    """Normalises inside the images alone, and gives zeros elsewhere; `valid`: see `layers.padding`."""
    shape = x.shape[-1:]
    scale = self.param('scale', self.scale_init, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
    var = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
    if not train or self.frozen:
      if self.frozen:
        scale, bias = jax.lax.stop_gradient((scale, bias))
      factor = jax.lax.rsqrt(var.value + self.epsilon) * scale
      return padding.clear((x * factor + (bias - mean.value * factor)).astype(self.dtype), valid)
    wide, axes = x.astype(jnp.float32), (0, 1, 2)
    now = padding.mean(wide, valid, axes)
    spread = padding.mean(jnp.square(wide - now), valid, axes)
    if self.is_mutable_collection('batch_stats') and not self.is_initializing():
      count = padding.count(x, valid, axes)
      least = max if valid is None else jnp.maximum
      unbiased = spread * (count / least(count - 1., 1.))  # the running average's, as in PyTorch
      keep = lambda old, new: self.momentum * old + (1. - self.momentum) * new
      mean.value, var.value = keep(mean.value, now), keep(var.value, unbiased)
    factor = jax.lax.rsqrt(spread + self.epsilon) * scale
    return padding.clear(((wide - now) * factor + bias).astype(self.dtype), valid)
