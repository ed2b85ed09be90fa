"""A mask per query: attention of each box to the image, made finer (arXiv:2005.12872, section 4.3).

The names and numbers are those of the authors' models/segmentation.py.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from detr_jax.models.transformer import Pointwise
from detr_jax.ops.masks import nearest
from vit_jax.layers import winograd
from vit_jax.layers.attention import HIDDEN
from vit_jax.layers.convolution import Conv

FPN_LEVELS = 3
HE = nn.initializers.variance_scaling(1., 'fan_in', 'uniform')  # PyTorch's kaiming_uniform_(a=1)


class BoxAttention(nn.Module):
  """Attention maps of queries to the memory, without values.

  One softmax goes over all heads and entries of a query together, as in the authors' code. Parameters:
  `query`, `key`, dense layers of the width. Intermediates: `attention`, what is returned.
  """
  num_heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, queries: jax.Array, memory: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, queries, width]` and `[batch, tokens, width]` to maps.

    Args:
      queries: the decoder's last states.
      memory: the encoder's output, without positions.
      mask: bool `[batch, 1, 1, tokens]`: which may be looked at; None for all.

    Returns:
      float32 `[batch, queries, tokens, heads]`; a query's weights sum to 1.
    """
    width = queries.shape[-1]

    def project(name, x):
      x = nn.Dense(width, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name=name)(x)
      return x.reshape(*x.shape[:2], self.num_heads, -1)

    query = project('query', queries) * (width // self.num_heads) ** -.5
    scores = jnp.einsum('bqhd,bkhd->bqkh', query, project('key', memory),
                        preferred_element_type=jnp.float32)
    if mask is not None:
      scores = jnp.where(mask[:, 0, :, :, None], scores, HIDDEN)
    weights = jax.nn.softmax(scores, axis=(2, 3))
    self.sow('intermediates', 'attention', weights)
    return weights


class MaskHead(nn.Module):
  """A pyramid from the attention maps to masks of the finest map's resolution.

  Parameters: 3x3 convolutions `lay1` ... `lay5`, `out_lay`, 1x1 convolutions `adapter1` ... `adapter3`
  of the backbone's maps, group norms `gn1` ... `gn5`.

  Attributes:
    width: of the transformer, from which those of the layers follow.
    dtype: of the computation.
  """
  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, source: jax.Array, attended: jax.Array, maps: Sequence[jax.Array],
               valid: Callable | None = None) -> jax.Array:
    """Maps attention to masks.

    Args:
      source: the transformer's input `[batch, h, w, width]`.
      attended: `[batch, queries, h, w, heads]`.
      maps: of the backbone, from the next finer one on, each `[batch, h, w, c]`.
      valid: gives, for the (height, width) of a map, which entries belong to the image, bool `[batch, h,
        w]`; the others are kept zero, and out of the norms' statistics. None: all are taken.

    Returns:
      float32 logits `[batch, queries, h, w]` of the last map's resolution.
    """
    batch, queries = attended.shape[:2]

    def inside(x):  # [batch * queries, h, w, 1], or None
      return None if valid is None else jnp.repeat(valid(x.shape[1:3]), len(x) // batch, 0)[..., None]

    clear = lambda x: x if valid is None else jnp.where(inside(x), x, 0.)

    def norm(number, x):
      mask = None if valid is None else jnp.broadcast_to(inside(x), x.shape)
      layer = nn.GroupNorm(8, epsilon=1e-5, dtype=self.dtype, name=f'gn{number}')
      return clear(nn.relu(layer(x, mask=mask)))

    x = SharedConv(name='lay1', dtype=self.dtype)(clear(source), attended.astype(self.dtype))
    x = norm(1, x)
    x = norm(2, self._conv('lay2', self.width // 2)(x))
    for i, finer in enumerate(maps):
      channels = x.shape[-1]
      finer = Pointwise(channels, HE, True, self.dtype, name=f'adapter{i + 1}')(finer)
      x = clear(resized(x, finer.shape[1:3]) + jnp.repeat(finer, queries, 0))
      x = norm(i + 3, self._conv(f'lay{i + 3}', channels // 2)(x))
    x = self._conv('out_lay', 1)(x)
    return x.astype(jnp.float32).reshape(batch, queries, *x.shape[1:3])

  def _conv(self, name, features):
    return Conv(features, 3, use_bias=True, kernel_init=HE, dtype=self.dtype, name=name)


class SharedConv(nn.Module):
  """A 3x3 convolution of what all queries of an image share, beside what each has of its own.

  The same as one of the two side by side, but the shared channels, nearly all, are convolved once and
  not once per query. Parameters: `kernel` `[3, 3, channels, channels]`, `bias`.
  """
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, shared: jax.Array, own: jax.Array) -> jax.Array:
    """Maps `[batch, h, w, c]`, `[batch, queries, h, w, d]` to `[batch * queries, h, w, c + d]`."""
    common, channels = shared.shape[-1], shared.shape[-1] + own.shape[-1]
    kernel = self.param('kernel', HE, (3, 3, channels, channels)).astype(self.dtype)
    bias = self.param('bias', nn.initializers.zeros, (channels,)).astype(self.dtype)
    shared = winograd.convolve(shared, kernel[:, :, :common]) + bias
    return (winograd.convolve(own.reshape(-1, *own.shape[2:]), kernel[:, :, common:])
            + jnp.repeat(shared, own.shape[1], 0))


def resized(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Returns `[batch, h, w, c]` at another size, by the rule of `ops.masks.nearest`."""
  rows, columns = (nearest(old, new) for old, new in zip(x.shape[1:3], size, strict=True))
  return x[:, rows][:, :, columns]
