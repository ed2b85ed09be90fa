"""COCO's measures: what counts, how often, and under which ids. The numbers are golden files."""

import jax
import numpy as np
import pytest

from detr_jax.evaluation import average_precision as ap
from vit_jax import sharding
from vit_jax.errors import UserError

CATEGORIES = [dict(id=7, name='cat'), dict(id=90, name='dog')]  # ids with gaps
CLEAN = dict(ap=1., ap50=1., ap75=1.)


def make_truth(images: int, each: int, rng) -> dict:
  """Images with boxes on a grid, so that none overlaps another; annotation ids from 0."""
  annotations = []
  for image in range(images):
    for n in range(each):
      x, y = 50 * (n % 20), 50 * (n // 20)
      box = [x, y, int(rng.integers(10, 45)), int(rng.integers(10, 45))]
      annotations.append(dict(id=len(annotations), image_id=100 + image, category_id=(7, 90)[n % 2],
                              bbox=box, area=box[2] * box[3], iscrowd=0))
  return dict(images=[dict(id=100 + i, height=1000, width=1000) for i in range(images)],
              annotations=annotations, categories=CATEGORIES)


def perfect(truth) -> dict:
  """Detections that are the truth."""
  out = {}
  for index, image in enumerate(truth['images']):
    own = [a for a in truth['annotations'] if a['image_id'] == image['id']]
    boxes = np.float32([a['bbox'] for a in own]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    out[index] = dict(boxes=boxes, labels=np.array([(7, 90).index(a['category_id']) for a in own]),
                      scores=np.linspace(.9, .5, len(own), dtype=np.float32))
  return out


def numbers(truth, detections, **options):
  found = ap.to_coco(detections, [image['id'] for image in truth['images']], (7, 90))
  return ap.summarize(ap.evaluate(truth, found, **options))


@pytest.fixture
def truth():
  return make_truth(5, 6, np.random.default_rng(0))


def test_the_truth_is_perfect_whatever_its_ids(truth, capsys):
  found = numbers(truth, perfect(truth))
  assert list(found) == ['ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large', 'ar_1', 'ar_10',
                         'ar_100', 'ar_small', 'ar_medium', 'ar_large']
  assert found | CLEAN == found  # also annotation 0
  assert found['ap_large'] == -1. and found['ar_large'] == -1.  # there are none
  assert capsys.readouterr().out == ''


def test_the_number_of_detections_is_free():
  truth = make_truth(1, 300, np.random.default_rng(0))
  detections = perfect(truth)
  assert numbers(truth, detections)['ap'] < .7  # a hundred of 150 of each class
  found = numbers(truth, detections, max_detections=300)
  assert found | CLEAN == found and found['ar_300'] == 1.
  with pytest.raises(UserError, match='max_detections=10'):
    ap.AveragePrecision(None, None, (7, 90), 10)


def test_nothing_found_and_nothing_to_find(truth):
  nothing = {0: dict(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), scores=np.zeros(0))}
  assert numbers(truth, nothing)['ap'] == 0.
  assert numbers({**truth, 'annotations': []}, perfect(truth))['ap'] == -1.


@pytest.fixture
def evaluated(truth):
  """The evaluator, and its total after batches of four on eight devices or one."""
  def run(devices: int):
    detections = perfect(truth)
    mesh = sharding.make_mesh(devices, devices=jax.devices()[:devices])
    evaluator = ap.AveragePrecision(lambda params, state, batch: batch, lambda: truth, (7, 90))
    total = None
    with jax.set_mesh(mesh):
      for start in (0, 4, 4):  # the last batch twice
        rows = np.arange(start, start + 8)
        real = rows < 5
        batch = {key: np.stack([detections[i if i < 5 else 0][key] for i in rows])
                 for key in ('boxes', 'labels', 'scores')}
        batch |= dict(index=np.where(real, rows, -1), mask=real.astype(np.float32))
        batch['labels'][~real] = 1
        placed = jax.device_put(batch, jax.NamedSharding(mesh, sharding.BATCH))
        total = evaluator.update(total, jax.jit(evaluator.step)({}, {}, placed))
    return evaluator, total
  return run


@pytest.mark.parametrize('devices', [1, 8])
def test_every_image_counts_once(evaluated, truth, devices):
  evaluator, total = evaluated(devices)
  measures = evaluator.finish(total)
  assert measures['examples'] == 5 and measures | CLEAN == measures
  tables = evaluator.tables(total)
  assert tables['per_class'] == [{'class': 'cat', 'objects': 15, 'ap': 1., 'ap50': 1.},
                                 {'class': 'dog', 'objects': 15, 'ap': 1., 'ap50': 1.}]
  found = tables['detections.json']
  assert len(found) == 30 and set(found[0]) == {'image_id', 'category_id', 'bbox', 'score'}
  key = lambda a: (a['image_id'], a['category_id'], a['bbox'])
  assert sorted(map(key, found)) == sorted(map(key, truth['annotations']))
