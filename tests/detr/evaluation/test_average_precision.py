"""COCO's measures: what counts, how often, and under which ids. The numbers are golden files."""

import jax
import numpy as np
import pytest

from detr_jax.evaluation import average_precision as ap
from vit_jax import sharding
from vit_jax.errors import UserError

CATEGORIES = [dict(id=7, name='cat'), dict(id=90, name='dog')]  # ids with gaps
CLEAN = pytest.approx(dict(ap=1., ap50=1., ap75=1.))


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


def first(measures):
  return {key: measures[key] for key in ('ap', 'ap50', 'ap75')}


def numbers(truth, detections, **options):
  found = [{'image_id': truth['images'][index]['id'], **detection} for index, row in detections.items()
           for detection in ap.to_coco(row, (7, 90))]
  return ap.summarize(ap.evaluate(truth, found, **options))


@pytest.fixture
def truth():
  return make_truth(5, 6, np.random.default_rng(0))


def test_the_truth_is_perfect_whatever_its_ids(truth, capsys):
  found = numbers(truth, perfect(truth))
  assert list(found) == ['ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large', 'ar_1', 'ar_10',
                         'ar_100', 'ar_small', 'ar_medium', 'ar_large']
  assert first(found) == CLEAN  # also annotation 0
  assert found['ap_large'] == -1. and found['ar_large'] == -1.  # there are none
  assert capsys.readouterr().out == ''


def test_the_number_of_detections_is_free():
  truth = make_truth(1, 300, np.random.default_rng(0))
  detections = perfect(truth)
  assert numbers(truth, detections)['ap'] < .7  # a hundred of 150 of each class
  found = numbers(truth, detections, max_detections=300)
  assert first(found) == CLEAN and found['ar_300'] == 1.
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
  assert measures['examples'] == 5 and first(measures) == CLEAN
  tables = evaluator.tables(total)
  one = pytest.approx(1.)
  assert [list(row.values()) for row in tables['per_class']] == [
      ['cat', 15, one, one], ['dog', 15, one, one]]
  found = tables['detections.json']
  assert len(found) == 30 and set(found[0]) == {'image_id', 'category_id', 'bbox', 'score'}
  key = lambda a: (a['image_id'], a['category_id'], a['bbox'])
  assert sorted(map(key, found)) == sorted(map(key, truth['annotations']))


@pytest.mark.parametrize('lost', [(1, 4), (0, 1, 2, 3, 4)])
def test_images_that_were_not_read_count_on_neither_side(truth, lost, capsys):
  evaluator = ap.AveragePrecision(None, lambda: truth, (7, 90))
  total = {index: ap.to_coco(row, (7, 90)) for index, row in perfect(truth).items() if index not in lost}
  measures = evaluator.finish(total)
  assert measures['examples'] == 5 - len(lost)
  assert first(measures) == (CLEAN if measures['examples'] else dict(ap=-1., ap50=-1., ap75=-1.))
  assert f'{len(lost)} of 5 images of the evaluation split could not be read' in capsys.readouterr().err
  assert [row['objects'] for row in evaluator.tables(total)['per_class']] == 2 * [3 * (5 - len(lost))]


def test_the_area_of_a_detection_is_what_stock_pycocotools_takes(truth):
  """A results file as `COCO.loadRes` reads it: an own area, else that of the box, else of the mask."""
  from pycocotools import mask as coding
  from pycocotools.coco import COCO
  from pycocotools.cocoeval import COCOeval
  inside = np.zeros((2, 1000, 1000), np.uint8)
  inside[0, 10:110, 10:25] = inside[0, 95:110, 10:110] = 1  # a large box, a medium mask
  inside[1, 300:340, 300:340] = 1
  coded = [coding.encode(np.asfortranarray(mask)) for mask in inside]
  coded = [{**c, 'counts': c['counts'].decode()} for c in coded]
  box = lambda c: coding.toBbox(c).tolist()
  truth = dict(images=truth['images'][:1], categories=CATEGORIES, annotations=[
      dict(id=1, image_id=100, category_id=7, iscrowd=0, bbox=box(coded[1]), segmentation=coded[1],
           area=1600.)])
  both = [dict(image_id=100, category_id=7, score=score, bbox=box(c), segmentation=c)
          for score, c in zip((.9, .8), coded)]
  bare = [{k: v for k, v in one.items() if k != 'bbox'} for one in both]

  def stock(found):
    one, other = COCO(), COCO()
    one.dataset = truth
    one.createIndex()
    other = one.loadRes([dict(d) for d in found])
    evaluation = COCOeval(one, other, 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    return ap.summarize(evaluation)

  medium = {}
  for name, found in dict(both=both, bare=bare).items():
    measures = ap.summarize(ap.evaluate(truth, found, 'segm'))
    assert measures == pytest.approx(stock(found))
    medium[name] = measures['ap_medium']
  assert medium['bare'] == pytest.approx(.5) and medium['both'] == pytest.approx(1.)
  own = [dict(one, area=10.) for one in bare]
  assert ap.summarize(ap.evaluate(truth, own, 'segm'))['ap_medium'] == pytest.approx(1.)


def test_masks_are_measured_beside_boxes():
  y, x = np.mgrid[:40, :60]
  disks = [np.hypot(y - row, x - column) < 9 for row, column in ((12, 12), (20, 40))]
  corners = np.array([[4, 4, 21, 21], [32, 12, 49, 29]], np.float32)
  coded = ap.to_coco(dict(boxes=corners, labels=np.array([0, 1]), scores=np.ones(2)), (7, 90), disks)
  truth = dict(images=[dict(id=3, height=40, width=60)], categories=CATEGORIES, annotations=[
      dict(d, id=n, image_id=3, iscrowd=0, area=int(disks[n].sum())) for n, d in enumerate(coded)])
  squares = np.zeros((2, 40, 60), bool)
  for inside, (left, top, right, bottom) in zip(squares, corners.astype(int)):
    inside[top:bottom, left:right] = True  # the boxes are right; of a disk they cover too much
  found = dict(boxes=corners, labels=np.array([0, 1]), scores=np.ones(2, np.float32))
  evaluator = ap.AveragePrecision(None, lambda: truth, (7, 90), masks=lambda row: row['masks'])
  row = {key: jax.numpy.asarray(value)[None] for key, value in (
      *found.items(), ('masks', squares), ('index', 0), ('mask', 1.))}
  total = evaluator.update(None, row)
  measures = evaluator.finish(total)
  iou = disks[0].sum() / 17 ** 2
  assert first(measures) == CLEAN and measures['mask_ap50'] == pytest.approx(1.)
  assert measures['mask_ap'] == pytest.approx(np.mean(np.linspace(.5, .95, 10) <= iou))
  square = {k: v for k, v in truth['annotations'][1].items() if k != 'segmentation'}
  truth['annotations'][1] = square  # without a mask the box stands for it
  assert evaluator.finish(dict(total))['mask_ap'] == pytest.approx((measures['mask_ap'] + 1.) / 2)
  tables = evaluator.tables(total)
  assert set(tables['per_class'][0]) == {'class', 'objects', 'ap', 'ap50', 'mask_ap', 'mask_ap50'}
  assert tables['detections.json'][0]['segmentation']['size'] == [40, 60]
