"""The panoptic task: masks are learnt from, pictures are counted, and what lacks masks is refused."""

import os

import jax
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.detr.data import coco
from vit_jax import config as config_lib, sharding, task as task_lib
from vit_jax.training import loop
from vit_jax.errors import UserError


def load(folder, **overrides):
  spec = (f'{ROOT}/configs/detr.py:model=detr_r50_panoptic,dataset={folder},train=val2017,test=val2017,'
          'joint,smoke')
  options = {'data.canvases': '((32,32),)', 'data.batch_size': '1', 'model.width': '128',
             'model.num_heads': '8', 'mesh.data': '1', **overrides}
  return config_lib.load(spec, options)


@pytest.fixture(scope='module')
def photos(shared):
  return shared('data/coco_panoptic_sample')


@pytest.fixture(scope='module')
def built(photos):
  mesh = sharding.make_mesh(1, devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    yield task_lib.build(load(photos), mesh)


def test_masks_are_terms_of_the_loss(built):
  data, task = built
  _, batch = next(iter(data.train.after(0, 1)))
  variables = jax.eval_shape(lambda key: task.init(key, data.example), jax.random.key(0))

  def loss(params, key):
    return task.loss(params, {}, task.augment(batch, key), key)[1].metrics

  found = jax.eval_shape(loss, variables['params'], jax.random.key(1))
  assert {'loss_mask', 'loss_dice', 'loss_ce', 'loss_bbox', 'loss_giou'} <= set(found)
  assert os.path.basename(data.info.source.rstrip('/')) == 'coco_panoptic_sample'


def test_every_picture_is_counted_beside_its_boxes(built):
  data, task = built
  variables = jax.jit(lambda key: task.init(key, data.example))(jax.random.key(0))
  measures = {}
  for evaluator in task.evaluators():
    step, total = jax.jit(evaluator.step), None
    for batch in data.splits['test']:
      total = evaluator.update(total, step(variables['params'], {}, batch))
    measures |= evaluator.finish(total)
    assert set(evaluator.tables(total))
  assert measures['examples'] == 2 and {'ap', 'pq', 'sq', 'rq', 'pq_things', 'pq_stuff'} <= set(measures)
  assert measures['pq'] <= .05  # it has learnt nothing


@pytest.mark.parametrize('overrides, said', [
    ({'model.masks': 'false'}, 'has no mask head'),
    ({'data.panoptic': 'false', 'data.masks': 'false', 'data.source': 'digit_scenes',
      'data.train': 'train[:8]', 'data.test': 'test[:2]'}, 'set data.panoptic=true')])
def test_what_has_no_segments_is_refused(photos, overrides, said):
  mesh = sharding.make_mesh(1, devices=jax.devices()[:1])
  with jax.set_mesh(mesh), pytest.raises(UserError, match=said):
    task_lib.build(load(photos, **overrides), mesh)


def scene(root, **options):
  """Returns the segments of panoptic images, and the evaluator of AP on them."""
  images, kinds = coco.panoptic_scene(root, 'val2017', **options)
  mesh = sharding.make_mesh(1, devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    _, task = task_lib.build(load(root), mesh)
  return images, kinds, task.evaluators()[0]


def measured(images, kinds, evaluator, crowds=0, shift=0):
  """Returns the measures where the segments are found, but `crowds` small ones in place of the crowd."""
  total = None
  for index, ids in enumerate(images.values()):
    found = [(kinds[n][0], ids == n) for n in np.unique(ids) if not kinds[n][1]]
    for n in range(crowds):
      found.append((7, (ids == 2) & (np.arange(32) // 2 == 7 + n)))
    found = [(category, mask) for category, mask in found if mask.any()]
    masks = np.full((1, len(found), 32, 32), -9., np.float32)
    for mask, (_, inside) in zip(masks[0], found):
      mask[:ids.shape[0]][np.roll(inside, shift, axis=1)] = 9.
    corners = [[x.min(), y.min(), x.max() + 1, y.max() + 1]
               for y, x in (np.nonzero(inside) for _, inside in found)]
    labels = [(1, 7, 200).index(category) for category, _ in found]
    rows = dict(masks=masks, boxes=[corners], labels=[labels], scores=[np.linspace(.5, .9, len(found))],
                canvas=[[32, 32]], size=[ids.shape], original_size=[ids.shape], index=[index], mask=[1.])
    total = evaluator.update(total, {key: jax.numpy.asarray(value) for key, value in rows.items()})
  return evaluator.finish(total), evaluator.tables(total)


def test_masks_are_counted_against_the_instances(tmp_path, capsys):
  images, kinds, evaluator = scene(tmp_path)
  assert 'instance' not in capsys.readouterr().err
  found, tables = measured(images, kinds, evaluator, crowds=3)  # which cost nothing
  assert [found[key] for key in ('ap', 'mask_ap', 'mask_ap75', 'mask_ar_100')] == [pytest.approx(1.)] * 4
  assert [(row['class'], row['objects']) for row in tables['per_class']] == [('cat', 1), ('dog', 1)]
  moved, _ = measured(images, kinds, evaluator, shift=2)
  assert moved['ap'] == pytest.approx(1.) and moved['mask_ap75'] < .1 < moved['mask_ap'] < .6


def test_small_segments_in_what_is_no_crowd_cost(tmp_path):
  images, kinds, evaluator = scene(tmp_path)
  evaluator._ground_truth()['annotations'][1]['iscrowd'] = 0
  assert measured(images, kinds, evaluator, crowds=3)[0]['mask_ap'] < .8


def test_without_instances_boxes_of_all_segments_count(tmp_path, capsys):
  images, kinds, evaluator = scene(tmp_path, instances=False)
  assert 'no instance annotations of val2017' in capsys.readouterr().err
  found, tables = measured(images, kinds, evaluator)
  assert found['ap'] == pytest.approx(1.) and not any(key.startswith('mask_') for key in found)
  assert [row['class'] for row in tables['per_class']] == ['cat', 'dog', 'sky']


def test_instances_that_do_not_fit_are_told_before_anything_is_computed(tmp_path):
  coco.panoptic_scene(tmp_path, 'val2017')
  (tmp_path / 'annotations' / 'instances_val2017.json').write_text('{"images": [')
  mesh = sharding.make_mesh(1, devices=jax.devices()[:1])
  with jax.set_mesh(mesh), pytest.raises(UserError, match='instances_val2017.json is no JSON'):
    loop.plan(load(tmp_path), mesh)
