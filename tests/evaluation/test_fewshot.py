"""Few-shot regression: ridge in closed form, the published recipe, any number of devices."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from vit_jax import config, sharding
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.evaluation import fewshot
from vit_jax.tasks.classification import Classification

from tests.models import tiny

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('examples, dim', [(40, 7), (7, 40), (12, 12)])
def test_ridge_is_that_of_scikit_learn(examples, dim):
  x, y = RNG.normal(size=(examples, dim)), RNG.normal(size=(examples, 3))
  want = Ridge(alpha=3., fit_intercept=False, tol=1e-12).fit(x, y).coef_.T
  np.testing.assert_allclose(fewshot.ridge(x, y, 3.), want, atol=1e-8)


@pytest.mark.parametrize('examples, dim', [(60, 9), (12, 50)])
def test_predictions_are_those_of_the_published_recipe(examples, dim):
  """Whitening by the support examples, the constant 100, targets -1 and 1, penalty 1024."""
  x, labels, query = RNG.normal(2., 3., (examples, dim)), np.arange(examples) % 4, RNG.normal(
      2., 3., (500, dim))
  mean, std = x.mean(axis=0), x.std(axis=0) + 1e-5
  prepare = lambda z: np.hstack([(z - mean) / std, np.full((len(z), 1), 100.)])
  model = Ridge(alpha=1024., fit_intercept=False, tol=1e-12)
  model.fit(prepare(x), np.where(labels[:, None] == np.arange(4), 1., -1.))
  want = model.predict(prepare(query)).argmax(axis=1)
  np.testing.assert_array_equal(fewshot.predictions((x, labels), query, 4), want)


def clusters(count, classes=5, spread=.1, dim=8):
  labels = np.arange(count) % classes
  x = np.eye(classes, dim)[labels] + spread * RNG.normal(size=(count, dim))
  return x.astype(np.float32), labels


def test_clusters_are_told_apart_and_noise_is_not():
  found = fewshot.accuracies(clusters(200), clusters(100), 5)
  assert list(found) == ['1_shot', '5_shot', '10_shot', '25_shot'] and found['25_shot'] == 1.
  x, labels = RNG.normal(size=(400, 8)), np.arange(400) % 5
  assert fewshot.accuracies((x[:200], labels[:200]), (x[200:], labels[200:]), 5)['10_shot'] < .4


def test_scale_and_shift_of_a_representation_change_nothing():
  support, query = clusters(100, spread=.5), clusters(100, spread=.5)
  moved = lambda examples: (1e3 * examples[0].astype(np.float64) - 7., examples[1])
  assert fewshot.accuracies(support, query, 5) == fewshot.accuracies(moved(support), moved(query), 5)


def test_a_class_with_too_few_examples_gives_all_it_has():
  support, query = clusters(40, spread=.6), clusters(200, spread=.6)
  found = fewshot.accuracies(support, query, 5, shots=(25,), seeds=2)  # there are eight of each
  assert found['25_shot'] == np.mean(fewshot.predictions(support, query[0], 5) == query[1]) < 1.


def digits(model, **mesh):
  """Accuracies of a tiny model with random parameters on the digits."""
  info = Info('elsewhere', tuple('abcde'), 1, (8, 8))
  data = config.image_data('elsewhere', (8, 8), batch_size=64)
  mesh = sharding.make_mesh(**mesh)
  with jax.set_mesh(mesh):
    name, probe = fewshot.open_probe(dict(source='digits'), data, Classification(model, info), mesh)
    assert name == 'digits'
    return probe(tiny.params(model, (8, 8), channels=1), {})


def test_frozen_representations_are_scored_on_other_classes_and_any_mesh():
  model = tiny.vit(pool='mean')
  alone = digits(model, data=1)
  assert .2 < alone['1_shot'] < alone['25_shot'] <= 1.  # chance is .1
  for name, value in digits(model, data=4, fsdp=2).items():
    assert value == pytest.approx(alone[name], abs=.01), name  # rounding may move a prediction


@pytest.mark.parametrize('entries, says', [
    ([dict(source='digits', tset='x')], ['tset', "'test'"]), ([dict(train='train')], ["'source'"]),
    ([dict(source='digits'), dict(source='digits')], ['same source']),
    ([dict(source='/no/where')], ['/no/where'])])
def test_an_entry_that_cannot_be_used_is_named(entries, says):
  mesh = sharding.make_mesh(data=1)
  task = Classification(tiny.vit(), Info('elsewhere', tuple('abcde'), 1, (8, 8)))
  with pytest.raises(UserError) as error:
    fewshot.open_probes(entries, config.image_data('elsewhere', (8, 8), 64), task, mesh)
  assert all(text in str(error.value) for text in says), error.value


def test_a_task_without_representations_is_refused():
  with pytest.raises(UserError, match='needs representations'):
    fewshot.open_probe(dict(source='digits'), config.image_data('', (8, 8), 64), object(), None)
