"""Multi-head attention (Attention is all you need, arXiv:1706.03762, section 3.2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp


HIDDEN = -1e30  # the score of a key that a query may not see: no weight, and no NaN where it sees none


def attention_weights(query: jax.Array, key: jax.Array, mask: jax.Array | None = None,
                      bias: jax.Array | None = None) -> jax.Array:
  """Returns softmax(q k / sqrt(d) + bias) in float32.

  Args:
    query: `[batch, heads, queries, head_dim]`.
    key: `[batch, heads, keys, head_dim]`.
    mask: bool, broadcast to `[batch, heads, queries, keys]`: which keys a query sees; None for all.
    bias: float, likewise; None for none.

  Returns:
    `[batch, heads, queries, keys]` float32; rows sum to 1.
  """
  return jax.nn.softmax(_scores(query, key, mask, bias), axis=-1)


@jax.custom_vjp
def attend(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None = None,
           bias: jax.Array | None = None) -> jax.Array:
  """Returns softmax(q k / sqrt(d) + bias) v, `[batch, heads, queries, value_dim]`.

  The gradient keeps the logarithm of each row's sum instead of the weights, and computes the
  weights again (FlashAttention, arXiv:2205.14135, section 3.1). So there is no forward-mode and no
  second derivative.

  Args:
    query: `[batch, heads, queries, head_dim]`.
    key: `[batch, heads, keys, head_dim]`.
    value: `[batch, heads, keys, value_dim]`.
    mask: as in `attention_weights`; each query sees at least one key.
    bias: as in `attention_weights`; its gradient is summed over the axes along which it is the same.
  """
  return _attend_forward(query, key, value, mask, bias)[0]


def _scores(query, key, mask, bias):
  scores = jnp.einsum('bhqd,bhkd->bhqk', query * query.shape[-1] ** -.5, key,
                      preferred_element_type=jnp.float32)
  scores = scores if bias is None else scores + bias
  return scores if mask is None else jnp.where(mask, scores, HIDDEN)


def _attend_forward(query, key, value, mask, bias):
  scores = _scores(query, key, mask, bias)
  top = scores.max(axis=-1, keepdims=True)
  weights = jnp.exp(scores - top)
  total = weights.sum(axis=-1, keepdims=True)
  out = jnp.einsum('bhqk,bhkd->bhqd', weights.astype(value.dtype), value,
                   preferred_element_type=jnp.float32)
  out = (out / total).astype(value.dtype)
  return out, (query, key, value, mask, bias, top + jnp.log(total), out)


def _attend_backward(kept, gradient):
  query, key, value, mask, bias, log_total, out = kept
  weights = jnp.exp(_scores(query, key, mask, bias) - log_total)
  along = jnp.sum(gradient.astype(jnp.float32) * out, axis=-1, keepdims=True)
  to_weights = jnp.einsum('bhqd,bhkd->bhqk', gradient, value, preferred_element_type=jnp.float32)
  exact = weights * (to_weights - along)
  to_scores = exact.astype(query.dtype)
  scale = query.shape[-1] ** -.5
  return (jnp.einsum('bhqk,bhkd->bhqd', to_scores, key) * scale,
          jnp.einsum('bhqk,bhqd->bhkd', to_scores, query) * scale,
          jnp.einsum('bhqk,bhqd->bhkd', weights.astype(gradient.dtype), gradient), None,
          None if bias is None else _summed(exact, bias))


def _summed(x, like):
  """Returns x summed over the axes along which `like` was broadcast."""
  x = x.sum(tuple(range(x.ndim - like.ndim)))
  same = tuple(axis for axis, n in enumerate(like.shape) if n == 1 < x.shape[axis])
  return x.sum(same, keepdims=True).astype(like.dtype)


attend.defvjp(_attend_forward, _attend_backward)


class Attention(nn.Module):
  """Multi-head attention of tokens to tokens.

  Parameters: `query`, `key`, `value` with kernels `[width, heads, head_dim]`, `out` with kernel
  `[heads, head_dim, width]`; `query_ln`, `key_ln` where `qk_norm` (ViT-22B, arXiv:2302.05442).
  Intermediates: `attention` `[batch, heads, queries, keys]`, the softmaxed weights.

  Attributes:
    num_heads: must divide the width.
    dropout_rate: of the attention weights.
    qk_norm: LayerNorm without bias over each query's and key's head_dim.
    dtype: of the computation; the softmax is float32.
    kernel_init: of all four kernels.
    input_init: of those of query, key and value, where they start otherwise than `out`.
  """
  num_heads: int
  dropout_rate: float = 0.
  qk_norm: bool = False
  dtype: jnp.dtype = jnp.float32
  kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
  input_init: nn.initializers.Initializer | None = None

  @nn.compact
  def __call__(self, queries: jax.Array, keys: jax.Array, train: bool = False,
               values: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
    """Maps tokens to tokens.

    Args:
      queries: `[batch, queries, width]`.
      keys: `[batch, keys, width]`.
      train: whether dropout applies.
      values: `[batch, keys, width]`, where they are not the keys (which may carry positions).
      mask: bool, broadcast to `[batch, heads, queries, keys]`: which keys a query sees.

    Returns:
      `[batch, queries, width]`.
    """
    values = keys if values is None else values
    query, key = self.project('query', queries), self.project('key', keys)
    value = self.project('value', values)
    if self.qk_norm:
      query = nn.LayerNorm(use_bias=False, dtype=self.dtype, name='query_ln')(query)
      key = nn.LayerNorm(use_bias=False, dtype=self.dtype, name='key_ln')(key)
    return self.combine(query, key, value, mask, train)

  def project(self, name: str, x: jax.Array) -> jax.Array:
    """Maps `[batch, tokens, width]` to `[batch, heads, tokens, head_dim]` by the layer of that name."""
    width = x.shape[-1]
    x = nn.DenseGeneral((self.num_heads, width // self.num_heads), dtype=self.dtype, name=name,
                        kernel_init=self.input_init or self.kernel_init)(x)
    return x.transpose(0, 2, 1, 3)  # heads before tokens: plain matrix products

  def combine(self, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None,
              train: bool) -> jax.Array:
    """Maps projections `[batch, heads, tokens, head_dim]` to `[batch, queries, width]`."""
    if self.is_mutable_collection('intermediates') or (train and self.dropout_rate):
      weights = attention_weights(query, key, mask)
      self.sow('intermediates', 'attention', weights)
      weights = nn.Dropout(self.dropout_rate, deterministic=not train)(weights)
      x = jnp.einsum('bhqk,bhkd->bhqd', weights.astype(self.dtype), value)
    else:
      x = attend(query, key, value, mask)
    width = value.shape[1] * value.shape[3]
    return nn.DenseGeneral(width, axis=(-2, -1), kernel_init=self.kernel_init, dtype=self.dtype,
                           name='out')(x.transpose(0, 2, 1, 3))
