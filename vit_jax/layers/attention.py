"""Multi-head attention (Attention is all you need, arXiv:1706.03762, section 3.2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def attention_weights(query: jax.Array, key: jax.Array) -> jax.Array:
  """Returns softmax(q k / sqrt(d)) in float32.

  Args:
    query: `[batch, heads, queries, head_dim]`.
    key: `[batch, heads, keys, head_dim]`.

  Returns:
    `[batch, heads, queries, keys]` float32; rows sum to 1.
  """
  scores = jnp.einsum('bhqd,bhkd->bhqk', query * query.shape[-1] ** -.5, key,
                      preferred_element_type=jnp.float32)
  return jax.nn.softmax(scores, axis=-1)


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
  """
  num_heads: int
  dropout_rate: float = 0.
  qk_norm: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, queries: jax.Array, keys: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, queries, width]`, `[batch, keys, width]` to `[batch, queries, width]`."""
    width = queries.shape[-1]
    init = nn.initializers.xavier_uniform()

    def project(name, x):
      shape = (self.num_heads, width // self.num_heads)
      x = nn.DenseGeneral(shape, kernel_init=init, dtype=self.dtype, name=name)(x)
      return x.transpose(0, 2, 1, 3)  # heads before tokens: plain matrix products

    query, key, value = project('query', queries), project('key', keys), project('value', keys)
    if self.qk_norm:
      query = nn.LayerNorm(use_bias=False, dtype=self.dtype, name='query_ln')(query)
      key = nn.LayerNorm(use_bias=False, dtype=self.dtype, name='key_ln')(key)
    weights = attention_weights(query, key)
    self.sow('intermediates', 'attention', weights)
    weights = nn.Dropout(self.dropout_rate, deterministic=not train)(weights)
    x = jnp.einsum('bhqk,bhkd->bqhd', weights.astype(self.dtype), value)
    return nn.DenseGeneral(width, axis=(-2, -1), kernel_init=init, dtype=self.dtype, name='out')(x)
