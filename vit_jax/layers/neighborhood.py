"""Neighborhood attention (NAT, arXiv:2204.07143, section 3) and its dilated form (DiNAT,
arXiv:2209.15001, section 3).

A query sees the `kernel_size` x `kernel_size` keys around it, `dilation` apart. At a border the window
is shifted into the map, so that every query has as many keys. With a dilation, a query and its keys are
of one residue class: each class is a map of its own, with the same border rule.

Computed by tiles: the queries of a tile share the keys of all their windows, and a mask tells which of
them each query sees. So memory is linear in the size of the map. A short axis is one tile.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.compilation import counted
from vit_jax.errors import UserError
from vit_jax.layers import padding
from vit_jax.layers.attention import HIDDEN

# What several operations read, XLA's CPU compiler would fuse into each of them, and compute as often:
# see vit_jax.compilation. The barriers halve the time.
once = jax.lax.optimization_barrier

DENSE = 2  # an axis of so many kernels or less is one tile: see benchmarks/README.md


class Tiling(NamedTuple):
  """How one axis of a map is cut.

  Attributes:
    size: queries of a tile.
    count: tiles.
    before: keys that stand before the first query of a tile.
    span: keys of a tile.
  """
  size: int
  count: int
  before: int
  span: int


def tiling(length: int, kernel_size: int, lengths: tuple[int, ...] | None = None) -> Tiling:
  """Returns the tiles of an axis that take the fewest products; one for a short axis.

  Args:
    length: of the axis.
    kernel_size: odd.
    lengths: that the maps on this axis may have; None: any up to `length`.
  """
  if length <= DENSE * kernel_size:
    return Tiling(length, 1, 0, length)
  radius, found = kernel_size // 2, []
  for size in range(kernel_size, 2 * kernel_size):
    # The windows of a map's last `radius` queries begin earlier than those of others; a tile that holds
    # no other query needs more keys before it.
    shifted = lengths is None or any((n - 1) % size < radius for n in lengths)
    count, before = -(-length // size), radius * (1 + shifted)
    found.append(Tiling(size, count, before, before + size + radius))
  return min(found, key=lambda t: t.count * t.size * t.span)


class Plan(NamedTuple):
  """What is static of an attention: the kernel, and the tiles of rows and of columns."""
  kernel_size: int
  rows: Tiling
  columns: Tiling

  def queries(self, x: jax.Array) -> jax.Array:
    """Maps `[n, heads, h, w, c]` to `[n, heads, row tiles, column tiles, queries, c]`."""
    (t, a, *_), (u, b, *_) = self.rows, self.columns
    x = jnp.pad(x, ((0, 0), (0, 0), (0, a * t - x.shape[2]), (0, b * u - x.shape[3]), (0, 0)))
    x = x.reshape(*x.shape[:2], a, t, b, u, x.shape[-1]).transpose(0, 1, 2, 4, 3, 5, 6)
    return x.reshape(*x.shape[:4], t * u, x.shape[-1])

  def whole(self, x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Maps tiles back to `[n, heads, h, w, c]` of that size."""
    (t, a, *_), (u, b, *_) = self.rows, self.columns
    x = x.reshape(*x.shape[:4], t, u, x.shape[-1]).transpose(0, 1, 2, 4, 3, 5, 6)
    return x.reshape(*x.shape[:2], a * t, b * u, x.shape[-1])[:, :, :size[0], :size[1]]

  def keys(self, x: jax.Array) -> jax.Array:
    """Maps `[n, heads, h, w, c]` to `[n, heads, row tiles, column tiles, keys, c]`."""
    for axis, cut in ((2, self.rows), (4, self.columns)):  # behind the tiles of rows
      parts = -(-cut.span // cut.size)  # a tile's keys are those of so many neighboring blocks
      blocks = cut.count + parts - 1
      sides = [(0, 0)] * x.ndim
      sides[axis] = (cut.before, cut.size * blocks - cut.before - x.shape[axis])
      x = jnp.pad(x, sides).reshape(*x.shape[:axis], blocks, cut.size, *x.shape[axis + 1:])
      x = jnp.concatenate([jax.lax.slice_in_dim(x, i, i + cut.count, axis=axis) for i in range(parts)],
                          axis + 1)
      x = jax.lax.slice_in_dim(x, 0, cut.span, axis=axis + 1)
    x = x.transpose(0, 1, 2, 4, 3, 5, 6)
    return x.reshape(*x.shape[:4], -1, x.shape[-1])

  def biases(self, bias: jax.Array) -> jax.Array:
    """Maps a table `[heads, 2 k - 1, 2 k - 1]` to `[heads, 1, 1, queries, keys]` of any tile.

    By products with ones and zeros: reading single entries is slow, and so is its gradient.
    """
    steps = [np.arange(cut.span) - cut.before - np.arange(cut.size)[:, None] + self.kernel_size - 1
             for cut in (self.rows, self.columns)]
    rows, columns = (np.float32(s[..., None] == np.arange(2 * self.kernel_size - 1)) for s in steps)
    exact = functools.partial(jnp.einsum, precision='highest')
    x = exact('htsb,uvb->htusv', exact('hab,tsa->htsb', bias.astype(jnp.float32), rows), columns)
    return x.reshape(bias.shape[0], 1, 1, self.rows.size * self.columns.size, -1)

  def seen(self, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Returns bool `[n, 1, row tiles, column tiles, queries, keys]` for maps of those sizes, `[n]`."""
    rows, columns = once(tuple(
        self._seen(cut, n) for cut, n in ((self.rows, rows), (self.columns, columns))))
    x = rows[:, :, None, :, None, :, None] & columns[:, None, :, None, :, None, :]
    return x.reshape(*x.shape[:3], self.rows.size * self.columns.size, -1)[:, None]

  def _seen(self, cut: Tiling, lengths):
    """Returns bool `[n, tiles, queries, keys]` along one axis."""
    tile = np.arange(cut.count)[:, None, None] * cut.size
    query, key = tile + np.arange(cut.size)[:, None], tile - cut.before + np.arange(cut.span)
    first = begin(query, jnp.reshape(lengths, (-1, 1, 1, 1)), self.kernel_size)
    return (key >= first) & (key < first + self.kernel_size)


def begin(query, length, kernel_size: int):
  """Returns the first key that a query at some place on an axis sees (NAT, equation 2)."""
  return jnp.clip(query - kernel_size // 2, 0, length - kernel_size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(plan: Plan, query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None,
           rows: jax.Array, columns: jax.Array) -> jax.Array:
  """Returns softmax(q k + bias) v over each query's window, `[n, heads, h, w, head_dim]`.

  The gradient keeps the logarithm of each row's sum, and computes the weights again, as that of
  `layers.attention.attend`; so there is no forward-mode and no second derivative.

  Args:
    plan: how the map is cut.
    query, key, value: `[n, heads, h, w, head_dim]`; the query is scaled.
    bias: `[heads, 2 kernel_size - 1, 2 kernel_size - 1]` by the key's place less the query's; or None.
    rows, columns: int `[n]` or `[1]`, the size of each map; its entries stand at the upper left, and it
      has `kernel_size` rows and columns or more. What is given for other queries means nothing.
  """
  return _forward(plan, query, key, value, bias, rows, columns)[0]


def _scores(plan, query, key, bias, rows, columns):
  """Returns the masked scores `[n, heads, row tiles, column tiles, queries, keys]`, float32."""
  scores = jnp.einsum('nhabqd,nhabkd->nhabqk', query, key, preferred_element_type=jnp.float32)
  scores = scores if bias is None else scores + once(plan.biases(bias))
  return once(jnp.where(once(plan.seen(rows, columns)), scores, HIDDEN))


def _forward(plan, query, key, value, bias, rows, columns):
  scores = _scores(plan, plan.queries(query), plan.keys(key), bias, rows, columns)
  top = scores.max(axis=-1, keepdims=True)
  weights = once(jnp.exp(scores - top))
  total = weights.sum(axis=-1, keepdims=True)
  out = jnp.einsum('nhabqk,nhabkd->nhabqd', weights.astype(value.dtype), plan.keys(value),
                   preferred_element_type=jnp.float32)
  out = plan.whole((out / total).astype(value.dtype), query.shape[2:4])
  return out, (query, key, value, bias, rows, columns, top + jnp.log(total), out)


def _backward(plan, kept, gradient):
  query, key, value, bias, rows, columns, log_total, out = kept
  size = query.shape[2:4]
  along = jnp.sum(gradient.astype(jnp.float32) * out, axis=-1, keepdims=True)
  queries, gradients, along = map(plan.queries, (query, gradient, along))
  keys, back = jax.vjp(plan.keys, key)
  weights = once(jnp.exp(_scores(plan, queries, keys, bias, rows, columns) - log_total))
  to_weights = jnp.einsum('nhabqd,nhabkd->nhabqk', gradients, plan.keys(value),
                          preferred_element_type=jnp.float32)
  to_scores = once(weights * (to_weights - along))
  to_bias = None
  if bias is not None:
    to_bias, = jax.vjp(plan.biases, bias)[1](to_scores.sum((0, 2, 3))[:, None, None])
  to_scores, weights = to_scores.astype(query.dtype), weights.astype(gradient.dtype)
  return (plan.whole(jnp.einsum('nhabqk,nhabkd->nhabqd', to_scores, keys), size),
          *back(jnp.einsum('nhabqk,nhabqd->nhabkd', to_scores, queries)),
          *back(jnp.einsum('nhabqk,nhabqd->nhabkd', weights, gradients)), to_bias, None, None)


attend.defvjp(_forward, _backward)


class NeighborhoodAttention(nn.Module):
  """Multi-head attention of every entry of a map to its neighborhood.

  A map smaller than `kernel_size * dilation` is padded with zeros to the right and at the bottom before
  the projections, as NATTEN 0.14 does: the keys there are the biases.

  Parameters: `query`, `key`, `value`, `out`, with kernels `[width, width]`, the heads one after another;
  `relative_bias` `[heads, 2 kernel_size - 1, 2 kernel_size - 1]`, by the key's place less the query's,
  in steps of the dilation.
  Intermediates: `scores` and `attention` `[batch, heads, h, w, kernel_size ** 2]`, of each window row by
  row, before and after the softmax.

  Attributes:
    num_heads: must divide the width.
    kernel_size: odd.
    dilation: steps between the keys.
    qkv_bias: whether query, key and value have biases.
    qk_scale: of the scores; None: 1 / sqrt(head_dim).
    relative_bias: whether the scores have a bias.
    dtype: of the computation; the softmax is float32.
    kernel_init: of all four kernels.
  """
  num_heads: int
  kernel_size: int = 7
  dilation: int = 1
  qkv_bias: bool = True
  qk_scale: float | None = None
  relative_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  kernel_init: nn.initializers.Initializer = nn.initializers.normal(.02)

  @nn.compact
  def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, width]` to the same.

    With `valid`, see `layers.padding`, each image has the border rule of its own size, and entries
    outside mean nothing.
    """
    k, width, size = self.kernel_size, x.shape[-1], x.shape[1:3]
    if k % 2 == 0 or k < 3 or self.dilation < 1:
      raise UserError(f'kernel_size must be an odd number from 3 on and dilations 1 or more, not {k} '
                      f'and {self.dilation}')
    if width % self.num_heads:
      raise UserError(f'{self.num_heads} heads do not divide the {width} channels; choose num_heads and '
                      'width that fit')
    least = k * self.dilation
    x = padding.clear(x, valid)
    x = jnp.pad(x, ((0, 0), *((0, max(least - n, 0)) for n in size), (0, 0)))
    sizes = [np.array([n]) for n in x.shape[1:3]] if valid is None else [
        jnp.maximum(valid.any(other).sum(1), least) for other in (2, 1)]
    dense = lambda name, bias=True: nn.Dense(width, bias, self.dtype, kernel_init=self.kernel_init,
                                             name=name)
    heads = lambda x: x.reshape(*x.shape[:3], self.num_heads, width // self.num_heads)
    query, key, value = (heads(dense(name, self.qkv_bias)(x)) for name in ('query', 'key', 'value'))
    query *= (width // self.num_heads) ** -.5 if self.qk_scale is None else self.qk_scale
    bias = self.param('relative_bias', nn.initializers.normal(.02),
                      (self.num_heads, 2 * k - 1, 2 * k - 1)) if self.relative_bias else None
    if self.is_mutable_collection('intermediates'):
      scores = window_scores(query, key, bias, *sizes, k, self.dilation)[:, :, :size[0], :size[1]]
      self.sow('intermediates', 'scores', scores)
      self.sow('intermediates', 'attention', jax.nn.softmax(scores))
    x = self._attend(query, key, value, bias, sizes)[:, :size[0], :size[1]]
    return dense('out')(x.reshape(*x.shape[:3], width))

  def _attend(self, query, key, value, bias, sizes):
    """Returns `[batch, h, w, heads, head_dim]`, from projections of this shape."""
    batch, height, width, heads, head_dim = query.shape
    d, fixed = self.dilation, isinstance(sizes[0], np.ndarray)
    # Of each residue class: [images, d].
    lengths = [-(-(n[:, None] - np.arange(d)) // d) for n in sizes]
    plan = Plan(self.kernel_size, *(
        tiling(-(-n // d), self.kernel_size, tuple(map(int, of[0])) if fixed else None)
        for n, of in zip((height, width), lengths)))
    if fixed and all(len(set(of[0])) == 1 for of in lengths):
      rows, columns = (of[0, :1] for of in lengths)
    else:
      rows, columns = (jnp.broadcast_to(of, (batch, d, d)).reshape(-1) for of in (
          lengths[0][:, :, None], lengths[1][:, None]))
    products = 2 * batch * height * width * self.kernel_size ** 2 * heads * head_dim
    out = counted(functools.partial(attend, plan), products)(
        *(split(x, d) for x in (query, key, value)), bias, rows, columns)
    return joined(out, d, (height, width))


def split(x: jax.Array, dilation: int) -> jax.Array:
  """Maps `[batch, h, w, heads, c]` to `[batch * dilation ** 2, heads, h', w', c]`: by residue class."""
  batch, *size, heads, channels = x.shape
  rows, columns = (-(-n // dilation) for n in size)
  x = jnp.pad(x, ((0, 0), *((0, -n % dilation) for n in size), (0, 0), (0, 0)))
  x = x.reshape(batch, rows, dilation, columns, dilation, heads, channels)
  return x.transpose(0, 2, 4, 5, 1, 3, 6).reshape(-1, heads, rows, columns, channels)


def joined(x: jax.Array, dilation: int, size: tuple[int, int]) -> jax.Array:
  """Maps what `split` gives back to `[batch, h, w, heads, c]` of that size."""
  _, heads, rows, columns, channels = x.shape
  x = x.reshape(-1, dilation, dilation, heads, rows, columns, channels).transpose(0, 4, 1, 5, 2, 3, 6)
  x = x.reshape(-1, rows * dilation, columns * dilation, heads, channels)
  return x[:, :size[0], :size[1]]


def window(length: int, own, kernel_size: int, dilation: int = 1) -> tuple[jax.Array, jax.Array]:
  """Returns the keys that each query on an axis sees, and their entries in the table of biases.

  Args:
    length: of the axis.
    own: int `[n]`, the size of each image on it.
    kernel_size, dilation: of the windows.

  Returns:
    Two of int `[n, length, kernel_size]`.
  """
  at, cls = np.arange(length), np.arange(length) % dilation
  of_class = -(-(jnp.reshape(own, (-1, 1)) - cls) // dilation)
  first = cls + dilation * begin(at // dilation, of_class, kernel_size)
  places = first[..., None] + dilation * np.arange(kernel_size)
  return places, (places - at[:, None]) // dilation + kernel_size - 1


def window_scores(query: jax.Array, key: jax.Array, bias: jax.Array | None, rows, columns,
                  kernel_size: int, dilation: int) -> jax.Array:
  """Returns the scores of each query's window, row by row, `[batch, heads, h, w, kernel_size ** 2]`.

  Every window is gathered, which is slow, and the definition.

  Args:
    query, key: `[batch, h, w, heads, head_dim]`; the query is scaled.
    bias: as of `attend`.
    rows, columns: int `[batch]` or `[1]`, the size of each image.
    kernel_size, dilation: of the windows.
  """
  batch, *size = query.shape[:3]
  windows = [[jnp.broadcast_to(x, (batch, *x.shape[1:])) for x in window(
      length, own, kernel_size, dilation)] for length, own in zip(size, (rows, columns))]
  places, steps = zip(*windows)
  of = jax.vmap(lambda x, y, z: x[y[:, None, :, None], z[None, :, None, :]])
  scores = jnp.einsum('byxhd,byxijhd->bhyxij', query, of(key, *places),
                      preferred_element_type=jnp.float32)
  if bias is not None:
    table = jnp.broadcast_to(bias.transpose(1, 2, 0), (batch, *bias.shape[1:], bias.shape[0]))
    scores += of(table, *steps).transpose(0, 5, 1, 2, 3, 4)
  return scores.reshape(*scores.shape[:4], kernel_size ** 2)
