"""The task: what trains, what is measured, and what does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.tasks.classification import Classification

from tests.models import tiny

INFO = Info('somewhere', tuple('abcde'), 3, tiny.IMAGE)
MULTI = Info('somewhere', tuple('abcde'), 3, tiny.IMAGE, multi_label=True, max_labels=2)


def batch(labels):
  image = np.random.default_rng(0).integers(0, 256, (len(labels), *tiny.IMAGE, 3), np.uint8)
  return dict(image=jnp.asarray(image), label=jnp.asarray(labels), mask=jnp.ones(len(labels)))


def built(info, augment=(), **task):
  return Classification.from_config(ConfigDict(dict(
      model=dict(name='vit_ti16', width=16, depth=1, num_heads=2, mlp_dim=24, patch_size=4),
      task=dict(name='', **task), data=dict(augment=list(augment)))), info)


def test_two_heads_need_a_teacher():
  task = built(INFO)
  task = dataclasses.replace(task, model=task.model.clone(distillation_token=True))
  augmented = task.augment(batch([3, 0]), jax.random.key(0))
  with pytest.raises(UserError, match='two heads, .* by distillation .*distillation_token=false'):
    task.loss(tiny.params(task.model), {}, augmented, jax.random.key(1))


def test_targets_are_smoothed_one_hot():
  target = built(INFO, label_smoothing=.1).augment(batch([3, 0]), jax.random.key(0))['target']
  np.testing.assert_allclose(target, np.where(np.eye(5)[[3, 0]] > 0, .92, .02), rtol=1e-6)


def test_targets_of_several_labels_are_multi_hot():
  task = built(MULTI, loss='sigmoid')
  target = task.augment(batch([[3, 0], [1, -1], [-1, -1]]), jax.random.key(0))['target']
  np.testing.assert_array_equal(target, [[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])


def test_a_threshold_makes_mixed_targets_hard():
  mixup = dict(name='mixup', p=1.)
  soft = built(INFO, [mixup], loss='binary').augment(batch([3, 0]), jax.random.key(0))['target']
  assert 0. < float(soft[0, 0]) < 1.
  low = float(soft[0].at[3].set(0.).max()) / 2.
  task = built(INFO, [mixup], loss='binary', target_threshold=low)
  hard = task.augment(batch([3, 0]), jax.random.key(0))['target']
  np.testing.assert_array_equal(hard, [[1, 0, 0, 1, 0], [1, 0, 0, 1, 0]])


@pytest.mark.parametrize('info, labels, loss, main', [
    (INFO, [3, 0], 'softmax', 'accuracy'), (INFO, [3, 0], 'binary', 'accuracy'),
    (MULTI, [[3, 0], [1, -1]], 'sigmoid', 'precision_at_1')])
def test_the_gradient_is_finite_and_the_main_measure_is_the_best(info, labels, loss, main):
  task = built(info, loss=loss)
  params = tiny.params(task.model)
  augmented = task.augment(batch(labels), jax.random.key(0))
  grads, aux = jax.grad(task.loss, has_aux=True)(params, {}, augmented, jax.random.key(1))
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
  assert set(aux.metrics) == {'loss', main} and task.best == main
  evaluator, = task.evaluators()
  total = evaluator.update(None, evaluator.step(params, {}, batch(labels)))
  assert {'loss', main, 'examples'} <= set(evaluator.finish(total))


@pytest.mark.parametrize('fields', [dict(), dict(pool='mean'), dict(representation_size=6),
                                    dict(scan=True)])
def test_a_representation_is_what_the_head_reads(fields):
  model = tiny.vit(**fields)
  task, params = Classification(model, INFO), tiny.params(model)
  found = jax.jit(task.represent)(params, {}, batch([3, 0]))
  assert found.shape == (2, fields.get('representation_size', 16))
  np.testing.assert_allclose(found @ params['head']['kernel'] + params['head']['bias'],
                             task.predict(params, {}, batch([3, 0])), atol=1e-5)


@pytest.mark.parametrize('info, task, says', [
    (MULTI, dict(loss='softmax'), ['softmax', 'sigmoid']), (INFO, dict(loss='hinge'), ['hinge']),
    (INFO, dict(los='softmax'), ['los', "'loss'"]), (MULTI, dict(), ['softmax', 'sigmoid']),
    (INFO, dict(target_threshold=.2), ['target_threshold', 'binary'])])
def test_what_does_not_fit_is_named(info, task, says):
  with pytest.raises(UserError) as error:
    built(info, **task)
  assert all(text in str(error.value) for text in says), error.value
