"""Windowed attention: both ways to shift are one function, and the bias has its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.layers import windows
from vit_jax.layers.attention import attend, attention_weights


@pytest.mark.parametrize('shift', [0, 1, 2])
@pytest.mark.parametrize('size', [(8, 12), (7, 9), (3, 2), (4, 4)])
def test_a_frame_of_hidden_tokens_is_the_cyclic_shift(size, shift):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 8)).astype(np.float32)
  layer = windows.WindowAttention(4, 2)
  state = layer.init(jax.random.key(0), x)
  want = layer.apply(state, x, shift)
  got = layer.apply(state, x, shift, False, jnp.ones((2, *size), bool))
  np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize('shape', [(2, 5, 6), (1, 2, 5, 6), (3, 2, 5, 6), (3, 1, 1, 6)])
def test_the_bias_has_its_gradient(shape):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  args = draw(3, 2, 5, 4), draw(3, 2, 6, 4), draw(3, 2, 6, 7), draw(*shape)
  mask = jnp.asarray(rng.random((3, 1, 5, 6)) < .7).at[..., 0].set(True)
  plain = lambda q, k, v, b: jnp.einsum('bhqk,bhkd->bhqd', attention_weights(q, k, mask, b), v)
  own = lambda q, k, v, b: attend(q, k, v, mask, b)
  weigh = draw(3, 2, 5, 7)
  want, got = (jax.value_and_grad(lambda *a, f=f: (f(*a) * weigh).sum(), (0, 1, 2, 3))(*args)
               for f in (plain, own))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), got, want)


def test_positions_are_query_less_key():
  index = windows.relative_index(3)
  assert index[0, 0] == 12 and index[8, 0] == 24 and index[0, 8] == 0 and index[1, 0] == 13
