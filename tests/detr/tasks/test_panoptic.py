"""The panoptic task: masks are learnt from, pictures are counted, and what lacks masks is refused."""

import os

import jax
import pytest

from tests.conftest import ROOT
from vit_jax import config as config_lib, sharding, task as task_lib
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
