"""Queries that are boxes: each looks around its anchor and moves it from layer to layer.

Conditional cross-attention (Conditional DETR, arXiv:2108.06152, section 3.2) compares content with
content and place with place; anchors of four numbers that every layer refines are DAB-DETR's
(arXiv:2201.12329, sections 4.2 and 4.3), without its modulation by the anchors' sizes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from detr_jax.models import positions
from detr_jax.models.transformer import DecoderLayer, Mlp, Options, layer_norm, stack
from vit_jax.layers.attention import Attention


def grid_of_anchors(number: int) -> np.ndarray:
  """Returns boxes (cxcywh) that tile the image in rows, as near to a square grid as `number` allows.

  Returns:
    float32 `[number, 4]`.
  """
  rows = max(int(np.sqrt(number)), 1)
  lengths = [len(part) for part in np.array_split(np.arange(number), rows)]
  return np.asarray([((x + .5) / n, (y + .5) / rows, 1. / n, 1. / rows)
                     for y, n in enumerate(lengths) for x in range(n)], np.float32)


def logit(shares: jax.Array) -> jax.Array:
  """Returns the inverse of the sigmoid, of shares kept off 0 and 1."""
  shares = jnp.clip(shares, 1e-4, 1. - 1e-4)
  return jnp.log(shares) - jnp.log1p(-shares)


def initial_anchors(key, shape: tuple[int, int]) -> jax.Array:
  """Initialiser of anchors, before the sigmoid: a grid, whatever the key."""
  del key
  return logit(jnp.asarray(grid_of_anchors(shape[0])))


class ConditionalAttention(Attention):
  """Cross-attention of [content; place] to [content; place], head by head.

  Parameters: those of `Attention`, and `query_position`, `key_position` like `query` and `key`.
  """

  @nn.compact
  def __call__(self, queries: jax.Array, keys: jax.Array, train: bool, query_positions: jax.Array,
               key_positions: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Maps queries `[batch, queries, width]` and keys `[batch, keys, width]` to the former's shape.

    Args:
      queries, keys: contents.
      train: whether dropout applies.
      query_positions, key_positions: their places, of the same widths.
      mask: as in `Attention`.
    """
    both = lambda name, content, place: jnp.concatenate(jnp.broadcast_arrays(
        self.project(name, content), self.project(f'{name}_position', place)), -1)
    return self.combine(both('query', queries, query_positions), both('key', keys, key_positions),
                        self.project('value', keys), mask, train)


class AnchorLayer(DecoderLayer):
  """A decoder layer whose query positions are a pair: for self-attention, and of the anchor's centre."""

  def own_positions(self, query_positions):
    return query_positions[0]

  def cross(self, x, query_positions, memory, memory_positions, mask, train):
    attention = self.attention('cross_attn', ConditionalAttention)
    return attention(x, memory, train, query_positions[1], memory_positions, mask)


class AnchorDecoder(nn.Module):
  """Layers that attend around anchors, and move them.

  Parameters besides the layers and `norm`: `anchor_embed`, which makes a query's position of its box,
  and `query_scale`, which weighs the waves of its centre by its content from the second layer on; both
  `Mlp`, for all layers.

  Attributes:
    options: of the transformer.
    depth: layers.
    temperature: of the sines.
  """
  options: Options
  depth: int
  temperature: float = 10_000.

  @nn.compact
  def __call__(self, x: jax.Array, anchors: jax.Array, memory: jax.Array, memory_positions: jax.Array,
               memory_mask: jax.Array | None, query_mask: jax.Array | None, box_head,
               train: bool = False) -> tuple[jax.Array, jax.Array]:
    """Maps queries to what the class head reads, and to their boxes.

    Args:
      x: contents `[batch, queries, width]`.
      anchors: float32 `[batch, queries, 4]`, cxcywh before the sigmoid.
      memory, memory_positions, memory_mask, train: as `Decoder`.
      query_mask: bool `[batch, 1, queries, queries]`: which queries see each other; None for all.
      box_head: maps a state `[batch, queries, width]` to the steps of its box before the sigmoid.

    Returns:
      (states `[layers, batch, queries, width]`, boxes float32 `[layers, batch, queries, 4]`).
    """
    width, dtype = x.shape[-1], self.options.dtype
    anchor_embed = Mlp((width, width), dtype=dtype, name='anchor_embed')
    query_scale = Mlp((width, width), dtype=dtype, name='query_scale')
    norm, states, boxes = layer_norm(dtype, 'norm'), [], []
    for layer in stack(AnchorLayer, self.options, self.depth):
      place = positions.sine_of_boxes(nn.sigmoid(anchors), width, self.temperature).astype(dtype)
      centre = place[..., :width]
      if states:  # before the first layer a query has seen nothing
        centre = centre * query_scale(x)
      x = layer(x, (anchor_embed(place), centre), memory, memory_positions, query_mask, memory_mask,
                train)
      states.append(norm(x))
      moved = anchors + box_head(states[-1]).astype(jnp.float32)
      boxes.append(nn.sigmoid(moved))
      anchors = jax.lax.stop_gradient(moved)  # each layer answers for its own step alone
    return jnp.stack(states), jnp.stack(boxes)
