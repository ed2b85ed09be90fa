"""Stochastic depth drops whole examples and keeps the expectation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.layers.drop_path import DropPath


def drop(branch, rate, train=True, seed=0):
  rngs = {'dropout': jax.random.key(seed)}
  return np.asarray(DropPath().apply({}, branch, rate, train, rngs=rngs))


@pytest.mark.parametrize('rate', [.1, .5, .75])
def test_whole_examples_are_dropped_and_the_others_scaled(rate):
  branch = jnp.asarray(1. + np.random.default_rng(0).random((64, 3, 4)), jnp.float32)
  out = drop(branch, rate)
  dropped = (out == 0.).all(axis=(1, 2))
  np.testing.assert_allclose(out[~dropped], branch[~dropped] / (1. - rate), rtol=1e-5)
  assert 0 < dropped.sum() < 64


@pytest.mark.parametrize('rate', [.1, .5])
def test_the_expectation_stays(rate):
  number = 20_000
  out = drop(jnp.ones((number, 1)), rate)
  error = np.sqrt(rate / (1. - rate) / number)
  assert abs(out.mean() - 1.) < 4 * error


@pytest.mark.parametrize('rate, train', [(.5, False), (None, True), (0., True)])
def test_it_is_the_identity_when_not_training_or_without_a_rate(rate, train):
  branch = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
  np.testing.assert_array_equal(drop(branch, rate, train), branch)


def test_a_traced_rate_and_bfloat16_keep_the_dtype():
  out = jax.jit(lambda x, r: DropPath().apply({}, x, r, True, rngs={'dropout': jax.random.key(0)}))(
      jnp.ones((8, 3), jnp.bfloat16), jnp.float32(.5))
  assert out.dtype == jnp.bfloat16 and set(np.unique(np.asarray(out, np.float32))) == {0., 2.}


def test_gradients_reach_what_was_kept_alone():
  branch = jnp.ones((32, 2))
  gradient = jax.grad(lambda x: DropPath().apply(
      {}, x, .5, True, rngs={'dropout': jax.random.key(0)}).sum())(branch)
  np.testing.assert_array_equal(gradient, drop(branch, .5))
