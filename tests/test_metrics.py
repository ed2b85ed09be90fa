"""(sum, count) pairs add up exactly."""

import math

import jax.numpy as jnp
import numpy as np

from vit_jax import metrics


def test_padding_does_not_count_even_where_it_is_nan():
  total, count = metrics.masked(jnp.array([1., 2., jnp.nan, jnp.inf]), jnp.array([1, 1, 0, 0]))
  assert (float(total), float(count)) == (3., 2.)


def test_uneven_batches_give_the_mean_over_all_examples():
  values = 1. + np.random.default_rng(0).normal(size=11).astype(np.float32)
  total = None
  for part in (values[:4], values[4:5], values[5:]):
    total = metrics.add(total, {'x': metrics.masked(jnp.asarray(part), jnp.ones(len(part)))})
  assert total['x'][1] == 11
  np.testing.assert_allclose(metrics.mean(total)['x'], values.mean(), rtol=1e-6)
  assert not math.isclose(np.mean([values[:4].mean(), values[4], values[5:].mean()]), values.mean(),
                          rel_tol=1e-3)  # the mean of means is something else


def test_sums_are_exact_beyond_float32():
  total = None
  for _ in range(3):
    total = metrics.add(total, {'n': (np.float32(2 ** 24), np.float32(1))})
  total = metrics.add(total, {'n': (np.float32(1), np.float32(1))})
  assert total['n'] == (3 * 2 ** 24 + 1, 4)


def test_nothing_counted_is_nan():
  assert math.isnan(metrics.mean({'x': (np.float64(0), np.float64(0))})['x'])


def test_bfloat16_values_are_summed_in_float32():
  total, _ = metrics.masked(jnp.ones(1000, jnp.bfloat16), jnp.ones(1000))
  assert total.dtype == jnp.float32 and float(total) == 1000.
