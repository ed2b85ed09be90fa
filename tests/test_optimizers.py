"""Optimizers: closed forms of one step, masks by name, clipping, freezing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax import optimizers, trees
from vit_jax.errors import UserError


@pytest.fixture
def params():
  rng = np.random.default_rng(0)
  make = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {'embedding': {'kernel': make(2, 3), 'bias': make(3)}, 'cls': make(1, 1, 3),
          'head': {'kernel': make(3, 4), 'bias': make(4)}}


@pytest.fixture
def grads(params):
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)


def update(params, grads, steps=1, rate=.1, **options):
  """Returns the parameters after some steps with the same gradient, and the slots."""
  optimizer = optimizers.make(params, lambda step: rate, **options)
  state = optimizer.init(params)
  for _ in range(steps):
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params, state


def by_path(tree):
  return {k: np.asarray(v) for k, v in trees.flatten(tree).items()}


def test_sgd_with_momentum(params, grads):
  got, _ = update(params, grads, steps=2, name='sgd', momentum=.9)
  want = jax.tree.map(lambda p, g: p - .1 * g - .1 * 1.9 * g, params, grads)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want)


def test_nesterov_looks_ahead(params, grads):
  got, _ = update(params, grads, name='sgd', momentum=.9, nesterov=True)
  want = jax.tree.map(lambda p, g: p - .1 * 1.9 * g, params, grads)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want)


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate(params, grads):
  got, _ = update(params, grads, name='adam')
  jax.tree.map(lambda p, g, new: np.testing.assert_allclose(new, p - .1 * np.sign(g), atol=1e-5),
               params, grads, got)


@pytest.mark.parametrize('name', ['sgd', 'adam', 'adamw'])
def test_decay_is_decoupled_and_reaches_kernels_alone(params, grads, name):
  plain, _ = update(params, grads, name=name, weight_decay=0.)
  decayed, _ = update(params, grads, name=name, weight_decay=.5)
  plain, decayed, start = by_path(plain), by_path(decayed), by_path(params)
  for path in start:
    want = plain[path] - (.1 * .5 * start[path] if path.endswith('kernel') else 0.)
    np.testing.assert_allclose(decayed[path], want, rtol=1e-5, atol=1e-6, err_msg=path)


def test_a_pattern_chooses_what_decays(params, grads):
  zero = jax.tree.map(jnp.zeros_like, grads)
  got, _ = update(params, zero, name='sgd', weight_decay=1., decay='head/.*')
  start, got = by_path(params), by_path(got)
  for path in start:
    share = .9 if path.startswith('head/') else 1.
    np.testing.assert_allclose(got[path], share * start[path], rtol=1e-6, err_msg=path)


def test_only_adamw_decays_by_default(params, grads):
  zero = jax.tree.map(jnp.zeros_like, grads)
  for name, share in (('sgd', 1.), ('adam', 1.), ('adamw', 1. - .1 * .01)):
    got, _ = update(params, zero, name=name)
    np.testing.assert_allclose(got['head']['kernel'], share * params['head']['kernel'], rtol=1e-6)


def test_clipping_bounds_the_global_norm_and_keeps_the_direction(params, grads):
  norm = float(optax.global_norm(grads))
  got, _ = update(params, grads, rate=1., name='sgd', momentum=0., clip_norm=.5)
  want = jax.tree.map(lambda p, g: p - g * .5 / norm, params, grads)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want)


def test_a_gradient_below_the_bound_is_not_clipped(params, grads):
  bound = 2 * float(optax.global_norm(grads))
  free, _ = update(params, grads, name='sgd')
  clipped, _ = update(params, grads, name='sgd', clip_norm=bound)
  jax.tree.map(np.testing.assert_array_equal, free, clipped)


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_frozen_parameters_stay_bit_equal_and_have_no_slots(params, grads, name):
  got, state = update(params, grads, steps=3, name=name, weight_decay=.1,
                      freeze=('embedding/.*', 'cls'))
  start, got = by_path(params), by_path(got)
  for path in start:
    frozen = not path.startswith('head/')
    assert np.array_equal(got[path], start[path]) == frozen, path
  slots = {trees.path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(state)}
  assert any('head/kernel' in slot for slot in slots)
  assert not any('embedding' in slot or 'cls' in slot for slot in slots)


def test_frozen_parameters_do_not_count_in_the_norm(params, grads):
  norm = float(optax.global_norm(grads['head']))
  got, _ = update(params, grads, rate=1., name='sgd', momentum=0., clip_norm=.5,
                  freeze=('embedding/.*', 'cls'))
  np.testing.assert_allclose(got['head']['kernel'], params['head']['kernel']
                             - grads['head']['kernel'] * .5 / norm, rtol=1e-4, atol=1e-6)


def test_biases_alone_can_be_trained(params, grads):
  got, _ = update(params, grads, name='adamw', freeze=('.*kernel', 'cls'))
  np.testing.assert_array_equal(got['head']['kernel'], params['head']['kernel'])
  assert not np.array_equal(got['head']['bias'], params['head']['bias'])


@pytest.mark.parametrize('name, slot', [('sgd', 'trace'), ('adam', 'mu')])
def test_bfloat16_momentum_is_kept_in_bfloat16_and_stays_close(params, grads, name, slot):
  options = dict(steps=3, name=name)
  exact, _ = update(params, grads, **options)
  rough, state = update(params, grads, momentum_dtype='bfloat16', **options)
  dtypes = {trees.path_name(p): x.dtype for p, x in jax.tree_util.tree_leaves_with_path(state)}
  assert {d for name, d in dtypes.items() if f'/{slot}/' in name} == {jnp.dtype('bfloat16')}
  assert {d for name, d in dtypes.items() if '/nu/' in name} <= {jnp.dtype('float32')}
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=.02), rough, exact)
  assert {x.dtype for x in jax.tree.leaves(rough)} == {jnp.dtype('float32')}


def test_the_learning_rate_follows_the_schedule(params, grads):
  optimizer = optimizers.make(params, lambda step: 1. / (1. + step), name='sgd', momentum=0.)
  state = optimizer.init(params)
  for step in range(3):
    updates, state = optimizer.update(grads, state, params)
    np.testing.assert_allclose(updates['cls'], -grads['cls'] / (1. + step), rtol=1e-6)


def test_matching_is_of_the_whole_path(params):
  assert trees.flatten(optimizers.matching(params, 'head/kernel')) == {
      'cls': False, 'embedding/kernel': False, 'embedding/bias': False, 'head/kernel': True,
      'head/bias': False}
  assert not any(jax.tree.leaves(optimizers.matching(params, ['cls', '.*bias'])['head']['kernel']))
  with pytest.raises(UserError, match="'kernel' matches no parameter; paths look like 'cls'"):
    optimizers.matching(params, 'kernel')


def test_unknown_names_and_options(params):
  make = lambda **k: optimizers.make(params, lambda step: .1, **k)
  with pytest.raises(UserError, match="unknown optimizer 'adanw'; did you mean 'adamw'"):
    make(name='adanw')
  with pytest.raises(UserError, match="option of optimizer 'sgd': 'momentun'; did you mean"):
    make(name='sgd', momentun=.9)
  with pytest.raises(UserError, match="'haed/.*' matches no parameter"):
    make(name='sgd', freeze=('haed/.*',))
