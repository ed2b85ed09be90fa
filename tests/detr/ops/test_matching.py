"""The matching is the optimum that scipy finds, whatever the costs, and each device makes its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from detr_jax.ops import matching
from vit_jax import sharding


@pytest.fixture(params=['in turn', 'at once'])
def match(request, monkeypatch):
  """The two forms of the algorithm: of CPUs, and of other devices."""
  if request.param == 'at once':
    monkeypatch.setattr(jax.lax, 'platform_dependent', lambda *x, cpu, default: default(*x))
  return jax.jit(lambda *x: matching.match(*x))


def problems(rng, number, queries, targets):
  """Returns costs: random, with ties, all equal, nearly of rank one, or equal over the targets."""
  shape = (number, queries, targets)
  normal = rng.normal(size=shape)
  kinds = [normal, rng.integers(0, 3, shape), np.zeros(shape),
           rng.normal(size=(number, queries, 1)) + rng.normal(size=(number, 1, targets)) + 1e-3 * normal,
           np.broadcast_to(rng.integers(0, 9, (number, queries, 1)), shape)]
  kind = rng.integers(0, len(kinds), number)
  return np.stack(kinds)[kind, np.arange(number)].astype(np.float32)


def check(costs, count, found):
  """Asserts that a problem's matching is one, and that none costs less."""
  real = found >= 0
  assert real.sum() == min(count, len(costs)) and not real[count:].any()
  assert len(set(found[real])) == real.sum()
  ours = costs.astype(np.float64)[found[real], np.flatnonzero(real)].sum()
  best = costs.astype(np.float64)[linear_sum_assignment(costs[:, :count])].sum() if count else 0.
  assert ours == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize('queries, targets, number', [
    (1, 1, 20), (3, 5, 2000), (10, 4, 2000), (7, 7, 1000), (100, 30, 40)])
def test_is_the_optimum(match, queries, targets, number):
  rng = np.random.default_rng(queries)
  costs = problems(rng, number, queries, targets)
  count = rng.integers(0, targets + 1, number).astype(np.int32)
  for problem in zip(costs, count, np.asarray(match(costs, count))):
    check(*problem)


def test_padding_is_not_read(match):
  rng = np.random.default_rng(0)
  costs, count = problems(rng, 20, 9, 6), np.full(20, 3, np.int32)
  dirty = costs.copy()
  dirty[:, :, 3:] = np.nan
  np.testing.assert_array_equal(match(costs, count), match(dirty, count))


def test_costs_that_are_no_numbers_are_taken_last(match):
  rng = np.random.default_rng(0)
  costs = rng.normal(size=(20, 9, 6)).astype(np.float32)
  costs[0, :3] = np.nan  # three queries less, enough are left
  costs[1, :, 0] = np.inf  # one target that nothing fits
  costs[2] = np.nan
  costs[3, 0, 0] = -np.inf
  found = np.asarray(match(costs, np.full(20, 6, np.int32)))
  for bad, one in zip(np.nan_to_num(np.where(np.abs(costs) < 9, costs, 1e5)), found):
    assert sorted(set(one)) == sorted(one) and (one >= 0).all()
    check(bad, 6, one)
  assert found[0].min() >= 3


def test_order_of_targets_does_not_matter(match):
  rng = np.random.default_rng(0)
  costs, count = rng.normal(size=(20, 9, 6)).astype(np.float32), np.full(20, 6, np.int32)
  order = rng.permutation(6)
  want = np.asarray(match(costs, count))[:, order]
  np.testing.assert_array_equal(match(costs[:, :, order], count), want)


def test_each_device_matches_its_own_images():
  rng = np.random.default_rng(0)
  costs = rng.normal(size=(2, 16, 9, 5)).astype(np.float32)
  count = rng.integers(0, 6, 16).astype(np.int32)
  alone = jax.jit(matching.match_layers)(costs, count)
  mesh = sharding.make_mesh(data=4, fsdp=2)
  rows = jax.NamedSharding(mesh, sharding.BATCH)
  layered = jax.NamedSharding(mesh, jax.P(None, *sharding.BATCH))
  with jax.set_mesh(mesh):
    step = jax.jit(matching.match_layers).lower(
        jax.device_put(costs, layered), jax.device_put(count, rows)).compile()
    found = step(jax.device_put(costs, layered), jax.device_put(count, rows))
  np.testing.assert_array_equal(found, alone)
  assert found.sharding.spec == layered.spec
  assert not [name for name in ('all-gather', 'all-reduce', 'all-to-all', 'collective', 'custom-call')
              if name in step.as_text()]


def test_focal_cost_is_the_difference_of_two_losses():
  logits = jnp.array([-3., 0., 2.])
  chance = jax.nn.sigmoid(logits)
  want = .25 * (1 - chance) ** 2 * -jnp.log(chance) - .75 * chance ** 2 * -jnp.log(1 - chance)
  np.testing.assert_allclose(matching.focal_cost(logits), want, rtol=1e-5)


def test_a_term_without_weight_is_not_computed():
  rng = np.random.default_rng(0)
  logits, target = rng.normal(size=(6, 4)), rng.random((3, 4))
  labels, boxes = np.array([0, 1, 2]), np.full((6, 4), np.nan)
  found = matching.cost(logits, boxes, labels, target, cost_bbox=0., cost_giou=0.)
  np.testing.assert_allclose(found, -jax.nn.softmax(logits)[:, :3], atol=1e-6)
