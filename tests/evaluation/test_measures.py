"""The evaluator: each example once, whatever the batches and the devices."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np
import pytest

from vit_jax.tasks import losses
from vit_jax import sharding
from vit_jax.evaluation.measures import Measures

RNG = np.random.default_rng(0)
CLASSES = tuple('abcdefg')


def evaluator(loss='softmax', multi_label=False):
  predict = lambda params, model_state, batch: batch['logits']
  return Measures(predict, losses.LOSSES[loss], losses.OUTPUTS[loss], CLASSES, multi_label)


def examples(count=37, most=0, real=0):
  """Random logits and labels; with `most`, up to so many labels, the first image has none."""
  lists = lambda size: np.sort(np.where(RNG.random((count, size)) < .5, RNG.integers(
      7, size=(count, size)), -1), axis=1)[:, ::-1] * (np.arange(count) > 0)[:, None] - (
          np.arange(count) == 0)[:, None]
  batch = dict(logits=3. * RNG.normal(size=(count, 7)), mask=np.ones(count),
               label=lists(most) if most else RNG.integers(7, size=count))
  return {**batch, 'real': lists(real)} if real else batch


def batches(batch, size):
  """Cuts examples into batches; fills up the last one with what must not count."""
  count = len(batch['mask'])
  for start in range(0, count, size):
    part = {k: v[start:start + size] for k, v in batch.items()}
    missing = size - len(part['mask'])
    fill = dict(logits=np.nan, mask=0, label=0, real=0)
    yield {k: jnp.asarray(np.concatenate([v, np.full((missing, *v.shape[1:]), fill[k], v.dtype)]))
           for k, v in part.items()}


def measure(found, stream):
  total, step = None, jax.jit(found.step)
  for batch in stream:
    total = found.update(total, step({}, {}, batch))
  return found.finish(total), found.tables(total)


def assert_same(a, b):
  assert set(a) == set(b)
  for name in a:
    assert a[name] == pytest.approx(b[name], rel=1e-5, nan_ok=True), name


@pytest.mark.parametrize('most, loss', [(0, 'softmax'), (0, 'binary'), (3, 'sigmoid')])
def test_batches_and_padding_change_nothing(most, loss):
  batch, found = examples(most=most, real=4), evaluator(loss, bool(most))
  whole, table = measure(found, batches(batch, 37))
  parts, same = measure(found, batches(batch, 8))
  assert_same(whole, parts)
  for a, b in zip(table['per_class'], same['per_class']):
    assert_same({k: a[k] for k in ('examples', 'accuracy')}, {k: b[k] for k in ('examples', 'accuracy')})


def test_devices_change_nothing():
  mesh = sharding.make_mesh(data=4, fsdp=2)
  batch, found = examples(count=40, real=3), evaluator()
  place = lambda b: jax.device_put(b, NamedSharding(mesh, sharding.BATCH))
  with jax.set_mesh(mesh):
    split, _ = measure(found, map(place, batches(batch, 16)))
  assert_same(measure(found, batches(batch, 40))[0], split)


def test_measures_of_one_label_are_their_definitions():
  batch = examples()
  found, table = measure(evaluator(), batches(batch, 37))
  order, label = np.argsort(-batch['logits'], axis=1), batch['label']
  right = order[:, 0] == label
  probabilities = np.asarray(jax.nn.softmax(batch['logits']))
  assert found['accuracy'] == pytest.approx(right.mean())
  assert found['top5_accuracy'] == pytest.approx((order[:, :5] == label[:, None]).any(axis=1).mean())
  assert found['loss'] == pytest.approx(-np.log(probabilities[np.arange(37), label]).mean(), rel=1e-5)
  assert found['brier_score'] == pytest.approx(
      ((probabilities - np.eye(7)[label]) ** 2).sum(axis=1).mean(), rel=1e-5)
  assert found['examples'] == 37 and 'real_accuracy' not in found
  for c, row in enumerate(table['per_class']):
    assert row['class'] == CLASSES[c] and row['examples'] == (label == c).sum()
    assert row['accuracy'] == pytest.approx(right[label == c].mean())


def test_precision_at_1_asks_whether_the_first_is_a_label_and_skips_images_without():
  batch = examples(most=3)
  found, _ = measure(evaluator('sigmoid', multi_label=True), batches(batch, 37))
  first = batch['logits'].argmax(axis=1)
  labelled = (batch['label'] >= 0).any(axis=1)
  want = (batch['label'] == first[:, None]).any(axis=1)[labelled].mean()
  assert found['precision_at_1'] == pytest.approx(want)
  assert found['examples'] == labelled.sum() < 37
  assert set(found) == {'loss', 'precision_at_1', 'examples'}


def test_real_accuracy_leaves_out_images_without_acceptable_labels():
  batch = dict(logits=np.eye(7)[[0, 1, 2, 3]], mask=np.ones(4), label=np.array([0, 1, 2, 3]),
               real=np.array([[5, 0], [2, -1], [-1, -1], [-1, -1]]))
  found, _ = measure(evaluator(), batches(batch, 4))
  assert found['accuracy'] == 1. and found['real_accuracy'] == .5


def test_a_model_of_nan_is_never_right():
  batch = {**examples(real=2), 'logits': np.full((37, 7), np.nan)}
  found, _ = measure(evaluator(), batches(batch, 8))
  assert found['accuracy'] == found['top5_accuracy'] == found['real_accuracy'] == 0.
  assert np.isnan(found['loss'])


def test_a_class_without_examples_has_no_accuracy():
  batch = dict(logits=np.zeros((1, 7)), mask=np.ones(1), label=np.array([2]))
  _, table = measure(evaluator(), batches(batch, 1))
  assert np.isnan(table['per_class'][0]['accuracy']) and table['per_class'][0]['examples'] == 0
