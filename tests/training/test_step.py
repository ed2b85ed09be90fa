"""One train step: sharpness-aware gradients and averages against their closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from vit_jax.optim import optimizers
from vit_jax import sharding
from vit_jax.training import step as step_lib
from vit_jax.task import Aux

BATCH = {'x': np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)}
START = np.random.default_rng(1).normal(size=(32, 64)).astype(np.float32)
SCALE = np.linspace(.5, 2., 64, dtype=np.float32)
RATE = .1


@dataclasses.dataclass(frozen=True)
class Quadratic:
  """The mean over a batch of |scale * (x kernel + bias)|^2 / 2, after `noise` of dropout on x."""
  rules: sharding.Rules = (('.*/kernel', P('fsdp', 'model')), ('.*', P()))
  noise: float = 0.

  def init(self, rng, batch):
    return {'params': {'kernel': jnp.asarray(START), 'bias': jnp.zeros(64)},
            'seen': {'n': jnp.zeros(()), 'steps': jnp.zeros((), jnp.int32)}}

  def augment(self, batch, rng):
    return batch

  def loss(self, params, model_state, batch, rng):
    x = batch['x']
    if self.noise:
      x = x * jax.random.bernoulli(rng, 1. - self.noise, x.shape)
    value = .5 * ((SCALE * (x @ params['kernel'] + params['bias'])) ** 2).sum(1).mean()
    n = jnp.float32(x.shape[0])
    state = {'seen': {name: value + 1 for name, value in model_state['seen'].items()}}
    return value, Aux({'loss': (value * n, n)}, state, n)


def gradient(kernel, bias, x):
  residual = (x @ kernel + bias) * SCALE**2 / len(x)
  return x.T @ residual, residual.sum(0)


def run(steps=1, mesh=(1, 1, 1), task=Quadratic(), ema=False, optimizer=None, **options):
  """Returns the state and metrics after some steps on the same batch."""
  mesh = sharding.make_mesh(*mesh)
  chosen = optimizer or dict(name='sgd', momentum=0.)
  make = lambda shapes: optimizers.make(shapes, lambda step: RATE, **chosen)
  with jax.set_mesh(mesh), jax.default_matmul_precision('highest'):
    batch = {k: jax.device_put(v, jax.sharding.NamedSharding(mesh, sharding.BATCH))
             for k, v in BATCH.items()}
    state, transform, told = step_lib.create_state(task, make, batch, mesh, task.rules, 0, ema)
    assert not told
    where = jax.tree.map(lambda x: x.sharding, state)
    train_step = step_lib.make(task, transform, lambda step: RATE, state, seed=0, **options)
    metrics = None
    for _ in range(steps):
      state, metrics = train_step(state, batch)
    assert jax.tree.map(lambda x: x.sharding, state) == where
  return state, metrics


def sam_by_hand(rho, frozen_bias=False):
  """Returns the parameters after one step of SAM on the quadratic, in float64."""
  kernel, bias, x = START.astype(np.float64), np.zeros(64), BATCH['x'].astype(np.float64)
  g = gradient(kernel, bias, x)
  g = (g[0], g[1] * (not frozen_bias))
  norm = np.sqrt((g[0]**2).sum() + (g[1]**2).sum())
  there = gradient(kernel + rho * g[0] / norm, bias + rho * g[1] / norm, x)
  return kernel - RATE * there[0], bias - RATE * there[1] * (not frozen_bias)


@pytest.mark.parametrize('rho', [.05, 1.])
def test_sharpness_aware_gradient_of_a_quadratic(rho):
  state, _ = run(sam_rho=rho)
  kernel, bias = sam_by_hand(rho)
  np.testing.assert_allclose(state.params['kernel'], kernel, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(state.params['bias'], bias, rtol=1e-5, atol=1e-6)
  plain, _ = run()
  assert np.abs(plain.params['kernel'] - kernel).max() > 1e-4


@pytest.mark.parametrize('change', [dict(mesh=(8, 1, 1)), dict(mesh=(2, 2, 2)), dict(accumulate=4),
                                    dict(mesh=(2, 2, 1), accumulate=2)])
def test_sharpness_aware_steps_are_those_of_the_whole_batch(change):
  want, _ = run(steps=3, sam_rho=.5)
  got, _ = run(steps=3, sam_rho=.5, **change)
  np.testing.assert_allclose(got.params['kernel'], want.params['kernel'], rtol=1e-5, atol=1e-6)


def test_both_gradients_drop_the_same_units_and_the_model_state_moves_once():
  task = Quadratic(noise=.5)
  near, _ = run(task=task, sam_rho=1e-6)  # were the masks two, the gradient would be another
  plain, _ = run(task=task)
  np.testing.assert_allclose(near.params['kernel'], plain.params['kernel'], rtol=1e-4, atol=1e-5)
  far, metrics = run(task=task, sam_rho=1.)
  assert far.model_state['seen']['n'] == 1.
  _, plain_metrics = run(task=task)
  assert metrics['loss'] == plain_metrics['loss']  # the loss that is logged is the one at the parameters


def test_frozen_parameters_are_not_moved_uphill_either():
  frozen = {'kernel': False, 'bias': True}
  state, _ = run(sam_rho=1., frozen=frozen, optimizer=dict(name='sgd', momentum=0., freeze=('bias',)))
  kernel, bias = sam_by_hand(1., frozen_bias=True)
  np.testing.assert_allclose(state.params['kernel'], kernel, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(state.params['bias'], bias)


@pytest.mark.parametrize('warmup', [True, False])
def test_the_average_is_its_closed_form(warmup):
  history = [np.asarray(run(steps=n)[0].params['kernel'], np.float64) for n in range(6)]
  state, _ = run(steps=5, ema=True, ema_decay=.8, ema_warmup=warmup)
  decays = [min(.8, (1 + step) / (10 + step)) if warmup else .8 for step in range(5)]
  shares = [np.prod(decays)] + [(1 - d) * np.prod(decays[i + 1:]) for i, d in enumerate(decays)]
  np.testing.assert_allclose(sum(shares), 1.)
  want = sum(share * params for share, params in zip(shares, history))
  np.testing.assert_allclose(state.ema['params']['kernel'], want, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(state.params['kernel'], history[5], rtol=1e-6)
  # What else the model keeps is averaged alike, but for whole numbers.
  np.testing.assert_allclose(state.ema['seen']['n'], np.dot(shares, range(6)), rtol=1e-5)
  assert state.ema['seen']['steps'] == 5 and state.ema['seen']['steps'].dtype == np.int32
  params, rest = step_lib.evaluated(state)
  assert params is state.ema['params'] and set(rest) == {'seen'}


@pytest.mark.parametrize('options', [dict(name='adafactor', min_size_to_factor=16),
                                     dict(name='lamb', momentum_dtype='bfloat16')])
def test_steps_on_a_mesh_are_those_on_one_device(options):
  options = dict(optimizer=options, ema=True, ema_decay=.9)
  want, _ = run(steps=4, **options)
  got, _ = run(steps=4, mesh=(2, 2, 2), **options)
  assert got.params['kernel'].sharding.spec == P('fsdp', 'model')
  if 'adafactor' in options['optimizer'].values():
    shapes = {x.shape for x in jax.tree.leaves(got.opt_state)}
    assert {(32,), (64,), (32, 64)} <= shapes and shapes >= {(1,)}
  for a, b in ((got.params, want.params), (got.ema['params'], want.ema['params'])):
    np.testing.assert_allclose(a['kernel'], b['kernel'], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(a['bias'], b['bias'], rtol=1e-3, atol=1e-4)
