"""Panoptic quality: of the truth itself, of batches on many devices. Its rules are golden files."""

import json
import os

import jax
import numpy as np
import pytest
from PIL import Image

from detr_jax.evaluation import panoptic_quality as pq
from detr_jax.ops import postprocess
from vit_jax import sharding


def sample(folder):
  """Yields (segment ids, segments) of real images, and the categories."""
  with open(os.path.join(folder, 'annotations', 'panoptic_val2017.json')) as file:
    content = json.load(file)
  labels = {c['id']: i for i, c in enumerate(content['categories'])}
  pictures = []
  for annotation in content['annotations']:
    rgb = np.asarray(Image.open(os.path.join(folder, 'panoptic_val2017', annotation['file_name'])))
    pictures.append((rgb.astype(np.int32) @ [1, 256, 65536], [
        {**s, 'label': labels[s['category_id']]} for s in annotation['segments_info']]))
  return pictures, content['categories']


def test_the_truth_against_itself_is_perfect(shared):
  pictures, categories = sample(shared('data/coco_panoptic_sample'))
  counts = sum(pq.count(*picture, *picture, len(categories)) for picture in pictures)
  measures = pq.summarize(counts, [c['isthing'] for c in categories])
  assert set(measures) == {f'{a}q{b}' for a in 'psr' for b in ('', '_things', '_stuff')}
  assert set(measures.values()) == {1.}
  crowds = sum(s['iscrowd'] for _, segments in pictures for s in segments)
  assert counts[:, pq.MATCHED].sum() == sum(len(s) for _, s in pictures) - crowds == 50 - crowds


def test_a_model_that_knew_the_truth_would_be_perfect(shared):
  pictures, categories = sample(shared('data/coco_panoptic_sample'))
  is_thing, counts = [c['isthing'] for c in categories], 0
  for ids, segments in pictures:
    masks = 20. * (ids == np.array([s['id'] for s in segments])[:, None, None]) - 10.
    logits = 20. * np.eye(len(categories) + 1)[[s['label'] for s in segments]]
    found = postprocess.panoptic(logits, masks, ids.shape, ids.shape, ids.shape, is_thing)
    counts = counts + pq.count(*found, ids, segments, len(categories))
  assert set(pq.summarize(counts, is_thing).values()) == {1.}


def halves(label_left, label_right, ids=(1, 2)):
  """A picture of two segments side by side."""
  picture = np.repeat(np.int32([ids]), 4, axis=0).repeat(5, axis=1)
  return picture, [dict(id=ids[0], label=label_left), dict(id=ids[1], label=label_right)]


def test_closed_forms():
  truth = halves(0, 1)
  found = pq.summarize(pq.count(*halves(0, 0), *truth, 3), [True, True, False])
  # Class 0: one match of IoU 1 and one too many; class 1: missed; class 2 is nowhere.
  assert found['sq'] == pytest.approx(.5) and found['rq'] == pytest.approx((1 / 1.5) / 2)
  assert found['pq'] == pytest.approx((1 / 1.5) / 2) == found['pq_things']
  assert np.isnan(found['pq_stuff'])
  assert 'pq_stuff' not in pq.summarize(pq.count(*truth, *truth, 2), [True, True])


def counts_by_definition(ids, segments, true_ids, true_segments, num_classes):
  """The paper's definition, a segment at a time, on masks."""
  counts, hits = np.zeros((num_classes, 4)), set()
  void = true_ids == pq.VOID
  for t in true_segments:
    inside, found = true_ids == t['id'], False
    for p in segments if not t.get('iscrowd') else ():
      ours = ids == p['id']
      both, union = (inside & ours).sum(), (inside | (ours & ~void)).sum()
      if p['label'] == t['label'] and both and both / union > .5:
        counts[t['label'], [pq.IOU, pq.MATCHED]] += both / union, 1
        hits.add(p['id'])
        found = True
    counts[t['label'], pq.MISSED] += not found and not t.get('iscrowd')
  for p in segments:
    ours = ids == p['id']
    if p['id'] not in hits and ours.any():
      crowd = [true_ids == t['id'] for t in true_segments
               if t.get('iscrowd') and t['label'] == p['label']]
      excused = np.any([void, *crowd], axis=0)
      counts[p['label'], pq.SURPLUS] += (ours & excused).sum() / ours.sum() <= .5
  return counts


@pytest.mark.parametrize('largest', [9, 2 ** 24])
def test_counts_are_those_of_the_definition(largest):
  rng = np.random.default_rng(largest)
  for _ in range(20):
    def picture():
      names = rng.choice(largest, 7, replace=False) + 1
      ids = np.kron(rng.choice(np.append(names, pq.VOID), (6, 8)), np.ones((5, 5))).astype(np.int32)
      ids[rng.random(ids.shape) < .1] = rng.choice(names)
      crowds = rng.permutation(3)  # one crowd of a class, as the data has it
      labels = [*crowds[:2], *rng.integers(3, size=5)]
      return ids, [dict(id=int(n), label=int(label), iscrowd=int(i < 2))
                   for i, (n, label) in enumerate(zip(names, labels))]
    truth, found = picture(), picture()
    shared = rng.random((6, 8)) < .6
    near = np.where(np.kron(shared, np.ones((5, 5), bool)), truth[0], found[0])
    labels = {s['id']: s['label'] for s in found[1]} | {s['id']: s['label'] for s in truth[1]}
    ours = [dict(id=n, label=label) for n, label in labels.items()]
    given = near, ours, *truth, 3
    np.testing.assert_allclose(pq.count(*given), counts_by_definition(*given))


@pytest.mark.parametrize('devices', [1, 8])
def test_every_image_counts_once(devices):
  truth = [halves(0, 1), halves(1, 0), halves(0, 0)]
  known = [(ids, [dict(id=s['id'], category_id=(7, 200)[s['label']]) for s in segments])
           for ids, segments in truth]
  guess = [halves(0, 1), halves(0, 1), halves(0, 1)]
  mesh = sharding.make_mesh(devices, devices=jax.devices()[:devices])
  evaluator = pq.PanopticQuality(
      lambda params, state, batch: dict(ids=batch['ids'] + 0),
      lambda row: (row['ids'], guess[int(row['index'])][1]), lambda index: known[index],
      ('a', 'b'), (7, 200), (True, False))
  total = None
  with jax.set_mesh(mesh):
    for rows in (np.array([0, 1, 2] + 5 * [-1]), np.array([2] + 7 * [-1])):
      batch = dict(index=rows, mask=(rows >= 0).astype(np.float32),
                   ids=np.stack([guess[i][0] for i in np.maximum(rows, 0)]))
      placed = jax.device_put(batch, jax.NamedSharding(mesh, sharding.BATCH))
      total = evaluator.update(total, jax.jit(evaluator.step)({}, {}, placed))
  want = sum(pq.count(*g, *t, 2) for g, t in zip(guess, truth))
  assert evaluator.finish(total) == pq.summarize(want, (True, False))
  rows = evaluator.tables(total)['panoptic_per_class']
  assert [row['class'] for row in rows] == ['a', 'b']
  assert [row['matched'] for row in rows] == want[:, pq.MATCHED].tolist() == [2, 1]


def test_damaged_truth_counts_on_neither_side_and_nothing_is_no_table():
  ids, _ = halves(0, 1)
  truth = {0: (ids, [dict(id=1, category_id=0), dict(id=2, category_id=1)]), 1: None}
  evaluator = pq.PanopticQuality(None, lambda row: halves(0, 1), truth.get, 'ab', (0, 1), (True, True))
  rows = {key: jax.numpy.asarray(value) for key, value in dict(index=[0, 1], mask=[1., 1.]).items()}
  total = evaluator.update(None, rows)
  assert evaluator.finish(total)['pq'] == 1. and set(total) == {0}
  assert evaluator.tables({}) == {} and np.isnan(evaluator.finish({})['pq'])
