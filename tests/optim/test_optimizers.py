"""Optimizers: closed forms of one step, masks by name, clipping, freezing."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax.optim import optimizers
from vit_jax import trees
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


@pytest.mark.parametrize('name', ['sgd', 'adam', 'adamw', 'adafactor', 'lion'])
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
  for name in optimizers.OPTIMIZERS:
    got, _ = update(params, zero, name=name)
    share = 1. - .1 * .01 * (name == 'adamw')
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


@pytest.mark.parametrize('name', optimizers.OPTIMIZERS)
def test_every_optimizer_reduces_a_loss(params, name):
  loss = lambda p: sum(((leaf - 1.) ** 2).sum() for leaf in jax.tree.leaves(p))
  optimizer = optimizers.make(params, lambda step: .05, name=name)

  @jax.jit
  def step(carry, _):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return (optax.apply_updates(params, updates), state), loss(params)

  _, losses = jax.lax.scan(step, (params, optimizer.init(params)), length=100)
  assert losses[-1] < .05 * losses[0]


def test_lion_takes_the_sign_of_the_interpolated_momentum(params, grads):
  got, _ = update(params, grads, steps=2, name='lion')
  want = jax.tree.map(lambda p, g: p - 2 * .1 * jnp.sign(g), params, grads)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)


def test_lamb_moves_each_leaf_by_its_own_norm(params, grads):
  # The first direction of Adam is the sign of the gradient; the decay comes before the norm.
  got, _ = update(params, grads, name='lamb', weight_decay=.3, eps=1e-12)
  for path, start in by_path(params).items():
    direction = np.sign(by_path(grads)[path]) + .3 * start * path.endswith('kernel')
    ratio = np.linalg.norm(start) / np.linalg.norm(direction)
    np.testing.assert_allclose(by_path(got)[path], start - .1 * ratio * direction, rtol=1e-5, atol=1e-6)


def adafactor_by_hand(grads, cap, momentum=.9):
  """Returns the last update for gradients `[steps, rows, columns]`, in float64."""
  rows, columns, mean = 0., 0., 0.
  for step, g in enumerate(np.asarray(grads, np.float64)):
    b2 = min(cap, 1. - (step + 1.) ** -.8)
    rows = b2 * rows + (1 - b2) * (g**2).mean(1)
    columns = b2 * columns + (1 - b2) * (g**2).mean(0)
    second = rows[:, None] * columns[None] / rows.mean()
    mean = momentum * mean + (1 - momentum) * g / np.sqrt(second)
  return mean


@pytest.mark.parametrize('cap', [.999, .5])
def test_adafactor_is_its_formula_with_a_capped_second_moment(cap):
  grads = np.random.default_rng(0).normal(size=(6, 5, 7)).astype(np.float32)
  params = {'kernel': jnp.zeros((5, 7))}
  optimizer = optimizers.make(params, lambda step: 1., name='adafactor', b2_cap=cap,
                              min_size_to_factor=5, momentum_dtype='float32')
  state = optimizer.init(params)
  for grad in grads:
    updates, state = optimizer.update({'kernel': grad}, state, params)
  np.testing.assert_allclose(updates['kernel'], -adafactor_by_hand(grads, cap), rtol=2e-5, atol=1e-6)


def test_adafactor_keeps_vectors_in_place_of_a_matrix_and_may_bound_updates(params, grads):
  _, state = update(params, grads, name='adafactor', min_size_to_factor=3)
  shapes = {trees.path_name(p): x.shape for p, x in jax.tree_util.tree_leaves_with_path(state)}
  of = lambda slot, leaf: next(s for name, s in shapes.items() if name.endswith(f'{slot}/{leaf}'))
  assert (of('v_row', 'head/kernel'), of('v_col', 'head/kernel')) == ((3,), (4,))
  assert of('v', 'head/kernel') == (1,) and of('v', 'head/bias') == (4,)
  got, _ = update(params, grads, name='adafactor', momentum=0., clip_threshold=.5, rate=1.)
  change = np.asarray(got['head']['bias'] - params['head']['bias'])
  np.testing.assert_allclose(np.sqrt((change**2).mean()), .5, rtol=1e-5)


@pytest.mark.parametrize('rule, want', [
    ('kernels', {'embedding/kernel', 'head/kernel', 'blocks/kernel'}),
    ('timm', {'embedding/kernel', 'head/kernel', 'blocks/kernel', 'probe'}),
    ('deit', {'embedding/kernel', 'head/kernel', 'blocks/kernel', 'probe', 'dist'}),
    (('head/.*', 'cls'), {'head/kernel', 'head/bias', 'cls'}),
    ('all', None)])
def test_published_rules_of_what_decays(params, rule, want):
  block = {'query': {'bias': jnp.zeros((2, 3))}, 'norm': {'scale': jnp.zeros(3), 'bias': jnp.zeros(3)},
           'gamma_1': jnp.zeros(3), 'kernel': jnp.zeros((3, 3))}
  stack = jax.tree.map(lambda x: jnp.stack([x, x]), block)
  for layers in ({'encoderblock_0': block}, {'encoderblock': stack}):
    tree = {**params, 'dist': params['cls'], 'probe': params['cls'],
            'Transformer': {**layers, 'posembed_input': {'pos_embedding': jnp.zeros((1, 5, 3))}}}
    rates = optimizers.decay_rates(tree, .3, rule)
    found = {re.sub(r'Transformer/encoderblock(_0)?', 'blocks', k) for k, rate in rates.items() if rate}
    assert set(rates.values()) <= {0., .3}
    assert found == (want or {re.sub(r'Transformer/encoderblock(_0)?', 'blocks', k) for k in rates})


def test_the_head_may_decay_more(params, grads):
  zero = jax.tree.map(jnp.zeros_like, grads)
  got, _ = update(params, zero, name='adafactor', weight_decay=.03, decay_factors=(('head/.*', 100.),))
  np.testing.assert_allclose(got['head']['kernel'], (1 - .1 * 3.) * params['head']['kernel'], rtol=1e-6)
  np.testing.assert_array_equal(got['head']['bias'], params['head']['bias'])
  np.testing.assert_allclose(got['embedding']['kernel'], (1 - .1 * .03) * params['embedding']['kernel'],
                             rtol=1e-6)
  with pytest.raises(UserError, match="'haed/.*' matches no parameter"):
    update(params, grads, name='sgd', weight_decay=.1, decay_factors=(('haed/.*', 2.),))


@pytest.mark.parametrize('name, slot', [('sgd', 'trace'), ('adam', 'mu'), ('lamb', 'mu'), ('lion', 'mu'),
                                        ('adafactor', 'ema')])
def test_bfloat16_momentum_is_kept_in_bfloat16_and_stays_close(params, grads, name, slot):
  options = dict(steps=3, name=name)
  exact, _ = update(params, grads, momentum_dtype='float32', **options)
  rough, state = update(params, grads, momentum_dtype='bfloat16', **options)
  dtypes = {trees.path_name(p): x.dtype for p, x in jax.tree_util.tree_leaves_with_path(state)}
  assert {d for name, d in dtypes.items() if f'/{slot}/' in name} == {jnp.dtype('bfloat16')}
  assert {d for name, d in dtypes.items() if re.search('/(nu|v|v_row|v_col)/', name)} <= {
      jnp.dtype('float32')}
  if name != 'lion':  # its sign may turn
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
  with pytest.raises(UserError, match="option of optimizer 'sgd': 'momentun'; .*=default takes it out"):
    make(name='sgd', momentun=.9)
  with pytest.raises(UserError, match="'weigth_decay'; did you mean 'weight_decay'"):
    make(name='sgd', weigth_decay=.9)
  with pytest.raises(UserError, match="momentum_dtype 'bfloat61'; did you mean 'bfloat16'"):
    make(name='lion', momentum_dtype='bfloat61')
  with pytest.raises(UserError, match="'haed/.*' matches no parameter"):
    make(name='sgd', freeze=('haed/.*',))


def test_rate_factors_slow_the_parts_they_name_and_their_decay():
  params = {'backbone': {'kernel': jnp.ones((2, 2))}, 'head': {'kernel': jnp.ones((2, 2))}}
  grads = jax.tree.map(jnp.ones_like, params)
  kind = dict(name='adamw', weight_decay=.1, decay='all', clip_norm=.1)
  plain = optimizers.make(params, lambda step: .01, **kind)
  slowed = optimizers.make(params, lambda step: .01, **kind, rate_factors=(('backbone/.*', .1),))
  want, _ = plain.update(grads, plain.init(params), params)
  got, _ = slowed.update(grads, slowed.init(params), params)
  np.testing.assert_allclose(got['head']['kernel'], want['head']['kernel'])
  np.testing.assert_allclose(got['backbone']['kernel'], .1 * want['backbone']['kernel'], rtol=1e-6)
  with pytest.raises(UserError, match='trunk'):
    optimizers.make(params, lambda step: .01, **kind, rate_factors=(('trunk/.*', .1),))
