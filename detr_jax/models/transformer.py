"""DETR's transformer: positions at every attention, masks of padding (arXiv:2005.12872, appendix A.3).

A layer normalises behind each branch, or in front of it with `pre_norm`. Activations are `[batch,
tokens, width]`.
"""

import dataclasses
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax import sharding
from vit_jax.layers.attention import Attention

# PyTorch keeps query, key and value in one matrix, and Xavier's bound is that of the whole.
PACKED_XAVIER = nn.initializers.variance_scaling(.5, 'fan_avg', 'uniform')
XAVIER = nn.initializers.xavier_uniform()
TORCH = nn.initializers.variance_scaling(1. / 3., 'fan_in', 'uniform')  # U(+-1 / sqrt(fan_in))


def torch_bias(fan_in: int) -> nn.initializers.Initializer:
  """Returns the initialiser of PyTorch's biases, U(+-1 / sqrt(fan_in))."""
  bound = 1. / math.sqrt(fan_in)
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def layer_norm(dtype, name: str) -> nn.LayerNorm:
  """Returns a LayerNorm with PyTorch's epsilon."""
  return nn.LayerNorm(epsilon=1e-5, dtype=dtype, name=name)


@dataclasses.dataclass(frozen=True)
class Options:
  """What all layers of a transformer share; see `detr_jax.models.detr.DETR`."""
  num_heads: int = 8
  mlp_dim: int = 2048
  dropout_rate: float = .1
  ffn: bool = True
  pre_norm: bool = False
  remat: str = 'none'
  dtype: jnp.dtype = jnp.float32


def stack(layer: type['Layer'], options: Options, depth: int) -> list[nn.Module]:
  """Returns the layers `layer_0`, ... of the module that calls it."""
  if options.remat == 'full':
    layer = nn.remat(layer, static_argnums=(layer.TRAIN,))
  return [layer(options, name=f'layer_{i}') for i in range(depth)]


def plus(x: jax.Array, positions: jax.Array | None) -> jax.Array:
  """Returns tokens with their positions, if there are any."""
  return x if positions is None else x + positions.astype(x.dtype)


class Layer(nn.Module):
  """What encoder and decoder layers are made of.

  Attributes:
    options: of the transformer.
  """
  options: Options

  def attention(self, name: str, kind: type[Attention] = Attention) -> Attention:
    """Returns an attention layer."""
    o = self.options
    return kind(o.num_heads, o.dropout_rate, dtype=o.dtype, input_init=PACKED_XAVIER, name=name)

  def branch(self, x: jax.Array, name: str, function, train: bool) -> jax.Array:
    """Adds `function(x)` with dropout to x, and normalises by the layer `name`."""
    norm = layer_norm(self.options.dtype, name)
    y = function(norm(x) if self.options.pre_norm else x)
    y = nn.Dropout(self.options.dropout_rate, deterministic=not train)(y)
    # The barrier keeps each layer's gradient apart from the next one's: see vit_jax.compilation.
    x = sharding.constrain(jax.lax.optimization_barrier(x + y))
    return x if self.options.pre_norm else norm(x)

  def mlp(self, x: jax.Array, train: bool) -> jax.Array:
    """Applies the layers `linear1` and `linear2`."""
    o, width = self.options, x.shape[-1]
    dense = lambda features, fan_in, name: nn.Dense(
        features, kernel_init=XAVIER, bias_init=torch_bias(fan_in), dtype=o.dtype, name=name)
    x = nn.relu(dense(o.mlp_dim, width, 'linear1')(x))
    x = nn.Dropout(o.dropout_rate, deterministic=not train)(x)
    return dense(width, o.mlp_dim, 'linear2')(x)


class EncoderLayer(Layer):
  """Self-attention, then an MLP."""
  TRAIN: ClassVar[int] = 4  # place of `train` among the arguments, `self` being 0

  @nn.compact
  def __call__(self, x: jax.Array, positions: jax.Array | None, mask: jax.Array | None, train: bool
               ) -> jax.Array:
    """Maps `[batch, tokens, width]` to the same; arguments as `Encoder`."""
    def attend(x):
      placed = plus(x, positions)
      return self.attention('self_attn')(placed, placed, train, values=x, mask=mask)

    x = self.branch(x, 'norm1', attend, train)
    return self.branch(x, 'norm2', lambda x: self.mlp(x, train), train) if self.options.ffn else x


class Encoder(nn.Module):
  """`depth` layers, and a norm behind the last where they normalise in front."""
  options: Options
  depth: int

  @nn.compact
  def __call__(self, x: jax.Array, positions: jax.Array | None = None, mask: jax.Array | None = None,
               train: bool = False) -> jax.Array:
    """Maps tokens to the decoder's memory.

    Args:
      x: `[batch, tokens, width]`.
      positions: `[batch or 1, tokens, width]`, added to queries and keys of every layer; or None.
      mask: bool `[batch, 1, 1, tokens]`: which tokens may be looked at; None for all.
      train: whether dropout applies.
    """
    for layer in stack(EncoderLayer, self.options, self.depth):
      x = layer(x, positions, mask, train)
    return layer_norm(self.options.dtype, 'norm')(x) if self.options.pre_norm else x


class DecoderLayer(Layer):
  """Self-attention of the queries, their attention to the memory, then an MLP."""
  TRAIN: ClassVar[int] = 7

  @nn.compact
  def __call__(self, x: jax.Array, query_positions, memory: jax.Array, memory_positions,
               query_mask: jax.Array | None, memory_mask: jax.Array | None, train: bool) -> jax.Array:
    """Maps `[batch, queries, width]` to the same; arguments as `Decoder`."""
    def attend(x):
      placed = plus(x, self.own_positions(query_positions))
      return self.attention('self_attn')(placed, placed, train, values=x, mask=query_mask)

    x = self.branch(x, 'norm1', attend, train)
    x = self.branch(x, 'norm2', lambda x: self.cross(
        x, query_positions, memory, memory_positions, memory_mask, train), train)
    return self.branch(x, 'norm3', lambda x: self.mlp(x, train), train) if self.options.ffn else x

  def own_positions(self, query_positions) -> jax.Array | None:
    """Returns what self-attention adds to the queries."""
    return query_positions

  def cross(self, x, query_positions, memory, memory_positions, mask, train) -> jax.Array:
    """Attends from the queries to the memory."""
    return self.attention('cross_attn')(
        plus(x, query_positions), plus(memory, memory_positions), train, values=memory, mask=mask)


class Decoder(nn.Module):
  """`depth` layers whose every output goes through one and the same norm."""
  options: Options
  depth: int

  @nn.compact
  def __call__(self, x: jax.Array, query_positions: jax.Array | None, memory: jax.Array,
               memory_positions: jax.Array | None = None, memory_mask: jax.Array | None = None,
               train: bool = False) -> jax.Array:
    """Maps queries to what the heads read.

    Args:
      x: `[batch, queries, width]`.
      query_positions: `[batch or 1, queries, width]`, added at every attention; or None.
      memory: `[batch, tokens, width]`.
      memory_positions: `[batch or 1, tokens, width]`, added to the keys of every layer; or None.
      memory_mask: bool `[batch, 1, 1, tokens]`: which of them may be looked at; None for all.
      train: whether dropout applies.

    Returns:
      `[layers, batch, queries, width]`.
    """
    states = []
    for layer in stack(DecoderLayer, self.options, self.depth):
      x = layer(x, query_positions, memory, memory_positions, None, memory_mask, train)
      states.append(x)
    return layer_norm(self.options.dtype, 'norm')(jnp.stack(states))


class Mlp(nn.Module):
  """Dense layers `layers_0`, ... with ReLU between them, started as PyTorch starts them.

  Attributes:
    features: of each layer.
    zero: start the last one as nothing.
    dtype: of the computation.
  """
  features: tuple[int, ...]
  zero: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[..., width]` to `[..., features[-1]]`."""
    for i, features in enumerate(self.features):
      last = i == len(self.features) - 1
      zero = nn.initializers.zeros if last and self.zero else None
      x = nn.Dense(features, kernel_init=zero or TORCH, bias_init=zero or torch_bias(x.shape[-1]),
                   dtype=self.dtype, name=f'layers_{i}')(x)
      x = x if last else nn.relu(x)
    return x


class Pointwise(nn.Module):
  """A 1x1 convolution with bias, as a matrix product; `kernel` `[1, 1, in, out]`, `bias`."""
  features: int
  kernel_init: nn.initializers.Initializer = TORCH
  zero_bias: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[..., in]` to `[..., features]`."""
    width = x.shape[-1]
    kernel = self.param('kernel', self.kernel_init, (1, 1, width, self.features))
    bias = self.param('bias', nn.initializers.zeros if self.zero_bias else torch_bias(width),
                      (self.features,))
    return x.astype(self.dtype) @ kernel[0, 0].astype(self.dtype) + bias.astype(self.dtype)
