"""The MLP block and both forms of GELU."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.layers import mlp

POINTS = np.linspace(-6., 6., 41)
EXTREMES = np.array([-1e4, -100., -10., 0., 10., 100., 1e4])


def exact_gelu(x):
  return .5 * x * (1. + math.erf(x / math.sqrt(2.)))


def tanh_gelu(x):
  return .5 * x * (1. + np.tanh(math.sqrt(2. / math.pi) * (x + .044715 * x ** 3)))


CLOSED = dict(erf=exact_gelu, tanh=tanh_gelu)


@pytest.mark.parametrize('form', CLOSED)
def test_gelu_equals_its_formula(form):
  want = [CLOSED[form](x) for x in POINTS]
  np.testing.assert_allclose(mlp.GELU[form](jnp.asarray(POINTS, jnp.float32)), want, atol=1e-6)


def test_every_form_has_a_formula_here():
  assert set(mlp.GELU) == set(CLOSED)


def test_the_two_forms_differ_as_published():
  x = jnp.asarray(POINTS, jnp.float32)
  difference = float(jnp.abs(mlp.gelu_erf(x) - mlp.gelu_tanh(x)).max())
  assert 1e-4 < difference < 1e-3


@pytest.mark.parametrize('form', CLOSED)
def test_derivatives_equal_numerical_differences(form):
  function, closed, step = mlp.GELU[form], CLOSED[form], 1e-3
  for x in POINTS[::4]:
    first = (closed(x + step) - closed(x - step)) / (2 * step)
    second = (closed(x + step) - 2 * closed(x) + closed(x - step)) / step ** 2
    np.testing.assert_allclose(jax.grad(function)(float(x)), first, atol=1e-5)
    np.testing.assert_allclose(jax.grad(jax.grad(function))(float(x)), second, atol=1e-4)


@pytest.mark.parametrize('form', CLOSED)
def test_values_and_derivatives_are_finite_far_out(form):
  function = mlp.GELU[form]
  x = jnp.asarray(EXTREMES, jnp.float32)
  np.testing.assert_allclose(function(x), np.maximum(EXTREMES, 0.), atol=1e-6)
  np.testing.assert_allclose(jax.vmap(jax.grad(function))(x), (EXTREMES > 0) + .5 * (EXTREMES == 0),
                             atol=1e-6)
  assert np.isfinite(jax.vmap(jax.grad(jax.grad(function)))(x)).all()


@pytest.mark.parametrize('form', CLOSED)
def test_the_block_equals_its_formula(form):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, 4)).astype(np.float32)
  params = {'Dense_0': {'kernel': rng.normal(size=(4, 8)), 'bias': rng.normal(size=8)},
            'Dense_1': {'kernel': rng.normal(size=(8, 4)), 'bias': rng.normal(size=4)}}
  hidden = np.vectorize(CLOSED[form])(x @ params['Dense_0']['kernel'] + params['Dense_0']['bias'])
  want = hidden @ params['Dense_1']['kernel'] + params['Dense_1']['bias']
  with jax.default_matmul_precision('highest'):
    got = mlp.MlpBlock(8, gelu=form).apply({'params': params}, x)
  np.testing.assert_allclose(got, want, atol=1e-4)


def test_an_unknown_form_names_the_nearest():
  with pytest.raises(UserError, match="unknown GELU form 'tan'; did you mean 'tanh'"):
    mlp.MlpBlock(8, gelu='tan').init(jax.random.key(0), jnp.zeros((1, 4)))


def test_dropout_only_in_training():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16)), jnp.float32)
  block = mlp.MlpBlock(32, dropout_rate=.5)
  variables = jax.jit(block.init)(jax.random.key(0), x)
  run = lambda train: np.asarray(jax.jit(lambda: block.apply(
      variables, x, train, rngs={'dropout': jax.random.key(1)}))())
  np.testing.assert_allclose(run(False), mlp.MlpBlock(32).apply(variables, x), atol=1e-6)
  assert .3 < (run(True) == 0.).mean() < .7  # of the outputs, by the second dropout
