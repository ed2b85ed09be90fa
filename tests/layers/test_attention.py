"""Attention against plain NumPy, and its invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.layers.attention import Attention, attend, attention_weights

BATCH, QUERIES, KEYS, WIDTH, HEADS = 2, 3, 5, 8, 2


@pytest.fixture
def tokens():
  rng = np.random.default_rng(0)
  return (rng.normal(size=(BATCH, QUERIES, WIDTH)).astype(np.float32),
          rng.normal(size=(BATCH, KEYS, WIDTH)).astype(np.float32))


def random_params(module, *args):
  shapes = jax.eval_shape(module.init, jax.random.key(0), *args)['params']
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), jnp.float32), shapes)


def plain_attention(params, queries, keys, qk_norm=False):
  """One example, one head, one query at a time, in float64."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  dense = lambda name, x: np.einsum(
      'bnc,chd->bnhd', x, params[name]['kernel']) + params[name]['bias']
  query, key, value = dense('query', queries), dense('key', keys), dense('value', keys)
  if qk_norm:
    norm = lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + 1e-6)
    query, key = norm(query) * params['query_ln']['scale'], norm(key) * params['key_ln']['scale']
  out = np.zeros((*queries.shape[:2], WIDTH))
  maps = np.zeros((BATCH, HEADS, QUERIES, KEYS))
  for b in range(BATCH):
    for h in range(HEADS):
      for q in range(QUERIES):
        scores = np.array([query[b, q, h] @ key[b, k, h] for k in range(KEYS)])
        weights = np.exp(scores / np.sqrt(WIDTH // HEADS))
        weights /= weights.sum()
        maps[b, h, q] = weights
        out[b, q] += (weights @ value[b, :, h]) @ params['out']['kernel'][h]
  return out + params['out']['bias'], maps


@pytest.mark.parametrize('qk_norm', [False, True])
def test_attention_equals_its_formula(tokens, qk_norm):
  module = Attention(HEADS, qk_norm=qk_norm)
  params = random_params(module, *tokens)
  with jax.default_matmul_precision('highest'):
    got, state = module.apply({'params': params}, *tokens, mutable=['intermediates'])
  want, maps = plain_attention(params, *tokens, qk_norm)
  np.testing.assert_allclose(got, want, atol=1e-4, rtol=1e-4)
  np.testing.assert_allclose(state['intermediates']['attention'][0], maps, atol=1e-5)


def test_parameters_have_the_published_names_and_shapes(tokens):
  params = random_params(Attention(HEADS, qk_norm=True), *tokens)
  assert jax.tree.map(jnp.shape, params) == {
      **{name: {'kernel': (8, 2, 4), 'bias': (2, 4)} for name in ('query', 'key', 'value')},
      'out': {'kernel': (2, 4, 8), 'bias': (8,)}, 'query_ln': {'scale': (4,)},
      'key_ln': {'scale': (4,)}}


def test_rows_sum_to_one_and_large_scores_do_not_overflow():
  x = 100. * np.random.default_rng(0).normal(size=(1, 2, 4, 8)).astype(np.float32)
  weights = attention_weights(jnp.asarray(x), jnp.asarray(x))
  assert np.isfinite(weights).all() and (np.asarray(weights) >= 0).all()
  np.testing.assert_allclose(weights.sum(-1), 1., rtol=1e-5)


def test_equal_keys_get_equal_weights():
  query = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 3, 4)), jnp.float32)
  np.testing.assert_allclose(attention_weights(query, jnp.ones((1, 1, 5, 4))), .2, rtol=1e-5)


def test_weights_are_float32_for_bfloat16_inputs():
  x = jnp.ones((1, 1, 3, 4), jnp.bfloat16)
  weights = attention_weights(x, x)
  assert weights.dtype == jnp.float32
  np.testing.assert_allclose(weights.sum(-1), 1., rtol=1e-6)


def test_order_of_keys_does_not_matter_and_queries_carry_theirs(tokens):
  queries, keys = tokens
  module = Attention(HEADS)
  params = random_params(module, *tokens)
  apply = lambda q, k: module.apply({'params': params}, q, k)
  plain = apply(queries, keys)
  np.testing.assert_allclose(apply(queries, keys[:, [3, 0, 4, 1, 2]]), plain, atol=1e-4)
  np.testing.assert_allclose(apply(queries[:, [2, 0, 1]], keys), plain[:, [2, 0, 1]], atol=1e-5)


def test_hidden_keys_are_as_if_they_were_not_there_and_values_may_be_others(tokens):
  queries, keys = tokens
  module, values = Attention(HEADS), keys[:, ::-1]
  params = random_params(module, *tokens)
  mask = np.arange(KEYS) < 3
  for mutable in ([], ['intermediates']):  # the fused form, and that which keeps the weights
    got = module.apply({'params': params}, queries, keys, values=values, mask=mask, mutable=mutable)[0]
    want = module.apply({'params': params}, queries, keys[:, :3], values=values[:, :3])
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_examples_do_not_see_each_other(tokens):
  module = Attention(HEADS)
  params = random_params(module, *tokens)
  both = module.apply({'params': params}, *tokens)
  alone = module.apply({'params': params}, *(t[1:] for t in tokens))
  np.testing.assert_allclose(both[1:], alone, atol=1e-5)


def test_nothing_is_sown_when_not_asked(tokens):
  module = Attention(HEADS)
  _, state = module.apply({'params': random_params(module, *tokens)}, *tokens, mutable=['other'])
  assert not state


def test_dropout_of_weights_only_in_training(tokens):
  module = Attention(HEADS, dropout_rate=.5)
  params = random_params(module, *tokens)
  run = lambda train: jax.jit(lambda: module.apply(
      {'params': params}, *tokens, train, rngs={'dropout': jax.random.key(0)}))()
  plain = Attention(HEADS).apply({'params': params}, *tokens)
  np.testing.assert_allclose(run(False), plain, atol=1e-4)
  assert not np.allclose(run(True), run(False))


@pytest.mark.parametrize('dtype, atol, hidden', [
    ('float32', 1e-5, 0), ('float32', 1e-5, 2), ('bfloat16', .05, 0)])
def test_outputs_and_gradients_are_those_of_plain_differentiation(dtype, atol, hidden):
  """The fused form has a gradient of its own; that of the sown form is JAX's."""
  rng = np.random.default_rng(0)
  args = [jnp.asarray(rng.normal(size=(2, 2, n, 4)), dtype) for n in (3, 5, 5)]
  weight = jnp.asarray(rng.normal(size=(2, 2, 3, 4)), jnp.float32)
  mask = np.arange(5) >= np.asarray([0, hidden])[:, None, None, None] if hidden else None

  def plain(query, key, value, mask):
    weights = attention_weights(query, key, mask)
    return jnp.einsum('bhqk,bhkd->bhqd', weights, value.astype(jnp.float32))

  def both(function):
    loss = lambda *args: jnp.sum(function(*args, mask).astype(jnp.float32) * weight)
    return function(*args, mask), *jax.grad(loss, argnums=(0, 1, 2))(*args)

  with jax.default_matmul_precision('highest'):
    got, want = jax.jit(lambda: both(attend))(), jax.jit(lambda: both(plain))()
  for a, b in zip(got, want, strict=True):
    assert a.dtype == jnp.dtype(dtype)
    np.testing.assert_allclose(np.float32(a), np.float32(b), atol=atol)


def test_the_gradient_is_finite_for_large_scores():
  x = 100. * jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 4, 8)), jnp.float32)
  grads = jax.jit(jax.grad(lambda q, k, v: attend(q, k, v).sum(), argnums=(0, 1, 2)))(x, x, x)
  assert all(np.isfinite(g).all() for g in grads)


def test_capturing_the_weights_changes_no_output(tokens):
  module = Attention(HEADS, qk_norm=True)
  params = random_params(module, *tokens)
  sown, _ = module.apply({'params': params}, *tokens, mutable=['intermediates'])
  np.testing.assert_allclose(module.apply({'params': params}, *tokens), sown, atol=1e-5)
