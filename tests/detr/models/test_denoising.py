"""Denoising queries: what they are made of, and that they tell the others nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detr_jax.models import denoising
from tests.detr.models import tiny
from tests.models import tiny as vit_tiny
from vit_jax.errors import UserError

IMAGES = tiny.images()


@pytest.fixture(scope='module')
def run():
  """Returns a function of targets that gives the outputs in training."""
  model = tiny.anchored()
  state = tiny.variables(model)
  with jax.default_matmul_precision('highest'):
    trained = vit_tiny.jit(lambda targets, seed: model.apply(
        state, IMAGES, train=True, targets=targets, rngs=dict(denoising=jax.random.key(seed))))
    yield lambda targets, seed=0: trained(targets, seed)


def test_matching_queries_do_not_see_the_targets(run):
  model = tiny.anchored()
  plain = vit_tiny.apply(model, tiny.variables(model), IMAGES)
  assert plain.denoising is None
  for labels, seed in (([[0, 2, -1], [-1, -1, -1]], 0), ([[1, 1, 1], [2, 0, -1]], 7)):
    got = run({**tiny.TARGETS, 'labels': jnp.asarray(labels)}, seed)
    np.testing.assert_allclose(got.logits, plain.logits, atol=1e-5)
    np.testing.assert_allclose(got.boxes, plain.boxes, atol=1e-5)
    assert got.denoising.boxes.shape == (2, 2, 2 * 3, 4)


def test_existing_targets_do_not_see_what_is_not_there(run):
  """Boxes beyond the targets of an image change nothing of those that exist."""
  other = tiny.TARGETS['boxes'].at[:, 2].set(jnp.asarray([.5, .5, .9, .9]))
  got, want = (run({**tiny.TARGETS, 'boxes': boxes}) for boxes in (other, tiny.TARGETS['boxes']))
  real = np.asarray([0, 1, 3, 4])  # of both groups
  got, want = got.denoising.boxes[:, 0], want.denoising.boxes[:, 0]
  np.testing.assert_allclose(got[:, real], want[:, real], atol=1e-5)
  assert np.abs(got[:, 2] - want[:, 2]).max() > 1e-3


def test_groups_see_themselves_and_the_matching_queries_alone():
  seen = np.asarray(denoising.visible(jnp.asarray([[4, -1]]), groups=2, num_queries=1))[0, 0]
  np.testing.assert_array_equal(seen, [
      [1, 0, 0, 0, 0],
      [1, 1, 0, 0, 0],
      [1, 1, 1, 0, 0],  # of no target: sees itself, and is seen by no other
      [1, 0, 0, 1, 0],
      [1, 0, 0, 1, 1]])


def test_noise_has_the_size_that_is_asked_for():
  boxes = jnp.tile(jnp.asarray([.5, .4, .2, .3]), (8, 50, 1))
  targets = dict(labels=jnp.full((8, 50), 3), boxes=boxes)
  labels, anchors = denoising.noisy(jax.random.key(0), targets, 5, 10, .4, .5)
  moved = np.abs(jax.nn.sigmoid(anchors) - jnp.tile(boxes, (1, 5, 1))).reshape(-1, 4)
  np.testing.assert_allclose(moved.max(0), [.04, .06, .08, .12], rtol=.02)
  np.testing.assert_allclose((labels != 3).mean(), .5 * .9, atol=.03)
  same, still = denoising.noisy(jax.random.key(0), targets, 5, 10, 0., 0.)
  assert (same == 3).all()
  np.testing.assert_allclose(jax.nn.sigmoid(still), jnp.tile(boxes, (1, 5, 1)), atol=1e-6)


def test_training_without_targets_is_refused():
  model = tiny.anchored()
  with pytest.raises(UserError, match='targets='):
    jax.eval_shape(lambda: model.init(dict(params=jax.random.key(0), denoising=jax.random.key(0)),
                                      IMAGES, train=True))
