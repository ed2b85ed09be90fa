"""Attention within windows of a map (Swin transformer, arXiv:2103.14030, section 3.2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.layers.attention import attend, attention_weights

_normal = nn.initializers.normal(stddev=.02)


def split(x: jax.Array, size: int) -> jax.Array:
  """Maps `[batch, h, w, c]`, sizes multiples of `size`, to windows `[batch * n, size * size, c]`."""
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height // size, size, width // size, size, channels)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, size * size, channels)


def join(x: jax.Array, size: int, height: int, width: int) -> jax.Array:
  """The inverse of `split`: maps windows to `[batch, height, width, c]`."""
  x = x.reshape(-1, height // size, width // size, size, size, x.shape[-1])
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x.shape[-1])


def same_region(height: int, width: int, size: int, shift: int) -> np.ndarray:
  """Returns bool `[n, size * size, size * size]`: which tokens of a shifted window see each other.

  The map was rolled by -shift; what came from the other side belongs to another region (figure 4).
  """
  def regions(length):
    at = np.arange(length)
    return (at >= length - size).astype(int) + (at >= length - shift)
  ids = regions(height)[:, None] * 3 + regions(width)
  cells = np.asarray(split(ids[None, ..., None], size))[..., 0]
  return cells[:, :, None] == cells[:, None, :]


def relative_index(size: int) -> np.ndarray:
  """Returns int `[size * size, size * size]`: the entry of the bias table for (query, key)."""
  rows, columns = np.divmod(np.arange(size * size), size)
  down, right = rows[:, None] - rows[None], columns[:, None] - columns[None]
  return (down + size - 1) * (2 * size - 1) + right + size - 1


def _pad(x, rows: tuple[int, int], columns: tuple[int, int]):
  return jnp.pad(x, ((0, 0), rows, columns, *((0, 0),) * (x.ndim - 3)))


def rolled(x: jax.Array, size: int, shift: int):
  """Cuts a map `[batch, h, w, c]` into shifted windows as the authors do: by a cyclic shift.

  The map is padded below and to the right by zeros, which take part as keys.

  Returns:
    (windows, bool mask broadcast to `[windows, heads, queries, keys]` or None, what joins windows to
    `[batch, h, w, c]`).
  """
  batch, height, width, _ = x.shape
  x = _pad(x, (0, -height % size), (0, -width % size))
  full, mask = x.shape[1:3], None
  if shift:
    x = jnp.roll(x, (-shift, -shift), (1, 2))
    mask = jnp.asarray(np.tile(same_region(*full, size, shift), (batch, 1, 1))[:, None])

  def back(cells):
    out = join(cells, size, *full)
    return (jnp.roll(out, (shift, shift), (1, 2)) if shift else out)[:, :height, :width]

  return split(x, size), mask, back


def framed(x: jax.Array, size: int, shift: int, valid: jax.Array):
  """As `rolled`, for images of different sizes on one canvas; `valid` is bool `[batch, h, w]`.

  Each image is shifted within itself, padded to whole windows. The tokens that a cyclic shift would
  bring together are hidden from each other, so a frame of hidden tokens around the map, whose windows
  begin earlier by `shift`, gives the same.
  """
  batch, height, width, _ = x.shape
  before = size - shift if shift else 0
  x = _pad(x, (before, -height % size + shift), (before, -width % size + shift))
  full, mask = x.shape[1:3], None
  if shift:
    inside = []
    for axis, length in ((2, full[0]), (1, full[1])):
      own = valid.any(axis).sum(1)[:, None]
      at = jnp.arange(length)[None] - before
      inside.append((at >= 0) & (at < -(-own // size) * size))
    exists = inside[0][:, :, None] & inside[1][:, None, :]
    mask = split(exists[..., None], size)[:, None, None, :, 0]
  back = lambda cells: join(cells, size, *full)[:, before:before + height, before:before + width]
  return split(x, size), mask, back


class WindowAttention(nn.Module):
  """Multi-head attention within windows, with a bias per relative position (equation 4).

  Parameters: `query`, `key`, `value`, `out` with kernels `[width, width]`, and
  `relative_position_bias_table` `[(2 window_size - 1)**2, heads]`.
  Intermediates: `attention` `[batch * windows, heads, queries, keys]`.

  Attributes:
    window_size: tokens of a side.
    num_heads: must divide the width.
    qkv_bias: whether query, key and value have a bias.
    dropout_rate: of the attention weights.
    dtype: compute dtype; the softmax is float32.
  """
  window_size: int
  num_heads: int
  qkv_bias: bool = True
  dropout_rate: float = 0.
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, shift: int = 0, train: bool = False,
               valid: jax.Array | None = None) -> jax.Array:
    """Maps `[batch, h, w, width]` to the same.

    Args:
      x: of any size; with `valid`, zero outside the images.
      shift: tokens by which the windows are shifted, less than `window_size`.
      train: whether dropout applies.
      valid: bool `[batch, h, w]`, see `vit_jax.layers.padding`.
    """
    size = self.window_size
    cells, mask, back = rolled(x, size, shift) if valid is None else framed(x, size, shift, valid)
    bias = self._bias()
    query, key, value = (self._project(name, cells) for name in ('query', 'key', 'value'))
    if self.is_mutable_collection('intermediates') or (train and self.dropout_rate):
      weights = attention_weights(query, key, mask, bias)
      self.sow('intermediates', 'attention', weights)
      weights = nn.Dropout(self.dropout_rate, deterministic=not train)(weights)
      out = jnp.einsum('bhqk,bhkd->bhqd', weights.astype(self.dtype), value)
    else:
      out = attend(query, key, value, mask, bias)
    out = out.transpose(0, 2, 1, 3).reshape(cells.shape)
    return back(nn.Dense(x.shape[-1], kernel_init=_normal, dtype=self.dtype, name='out')(out))

  def _project(self, name, cells):
    """Maps windows to `[windows, heads, tokens, head_dim]`."""
    width = cells.shape[-1]
    cells = nn.Dense(width, self.qkv_bias, kernel_init=_normal, dtype=self.dtype, name=name)(cells)
    return cells.reshape(*cells.shape[:2], self.num_heads, -1).transpose(0, 2, 1, 3)

  def _bias(self):
    """Returns the bias of each pair of tokens, float32 `[heads, queries, keys]`."""
    shape = ((2 * self.window_size - 1) ** 2, self.num_heads)
    table = self.param('relative_position_bias_table', _normal, shape)
    return jnp.take(table, relative_index(self.window_size), axis=0).transpose(2, 0, 1)
