"""Detection on the loop: resumed, split and padded, it is the same run; what cannot be is refused."""

import json
import os

import jax
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.training.test_loop import assert_bit_equal, final_params, losses, stop_after
from vit_jax import config as config_lib, sharding, task as task_lib
from vit_jax.training import step as step_lib, loop
from vit_jax.errors import UserError

SMALL = os.path.join(ROOT, 'configs', 'detr_small.py:smoke,denoising=2')
STEPS = 4


def config(spec=SMALL, **overrides):
  options = {
      'total_steps': STEPS, 'schedule.warmup_steps': 1, 'log.every': 1, 'mesh.data': 1,
      'model.width': 16, 'model.mlp_dim': 16, 'model.decoder_layers': 2,
      'model.backbone_fields.depths': '(1, 1)', 'data.test': 'test[:5]'}
  return config_lib.load(spec, {k: str(v) for k, v in {**options, **overrides}.items()})


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('detector'))
  return workdir, loop.train(config(), workdir)


def test_a_run_leaves_coco_numbers_and_detections(whole):
  workdir, results = whole
  assert results['test_examples'] == 5 and results['finished']
  assert {'test_ap', 'test_ap50', 'test_ar_100'} <= set(results)
  with open(os.path.join(workdir, 'test_detections.json')) as file:
    found = json.load(file)
  assert {d['image_id'] for d in found} and {'image_id', 'category_id', 'bbox', 'score'} == set(found[0])
  assert np.isfinite(list(losses(workdir).values())).all()


def test_a_run_that_was_stopped_goes_on_bit_for_bit(whole, tmp_path):
  stop_after(config(), str(tmp_path), 2)
  loop.train(config(), str(tmp_path))
  assert_bit_equal(final_params(str(tmp_path)), final_params(whole[0]))


def gradients(params=None, parts=1, **mesh):
  """Returns (parameters, loss, gradients) of the first batch, on a mesh; draws parameters if None."""
  options = config(SMALL.replace(',denoising=2', ''))  # noise is drawn for the rows at hand
  mesh = sharding.make_mesh(**mesh)
  with jax.set_mesh(mesh):
    data, task = task_lib.build(options, mesh)
    _, batch = next(iter(data.train.after(0, 1)))
    if params is None:
      params = jax.jit(lambda key: task.init(key, data.example))(jax.random.key(0))['params']
    batch = task.augment(batch, jax.random.key(1))
    found, sums, _ = jax.jit(lambda params, batch: step_lib.gradients(
        task, params, {}, batch, jax.random.key(2), parts))(params, batch)
    return jax.device_get((params, sums['loss'][0] / sums['loss'][1], found))


@pytest.fixture(scope='module')
def alone():
  return gradients(data=1)


@pytest.mark.parametrize('options', [dict(data=2, fsdp=2, model=2), dict(data=1, parts=4)],
                         ids=['eight devices', 'accumulated'])
def test_loss_and_gradients_are_those_of_one_device(alone, options, assert_close):
  params, want_loss, want = alone
  _, loss, found = gradients(params, **options)
  assert abs(loss - want_loss) < 1e-4
  scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(want))
  assert_close(found, want, atol=1e-5 * scale, rtol=1e-3)


def test_a_frozen_norm_without_weights_is_refused():
  mesh = sharding.make_mesh(1)
  with jax.set_mesh(mesh):
    _, task = task_lib.build(config(**{'model.backbone_fields.norm': 'frozen'}), mesh)
  with pytest.raises(UserError, match='start from weights .*init_from'):
    task.check_start()


@pytest.mark.parametrize('key, value, said', [
    ('task.bbox_cof', '1.', "did you mean 'bbox_coef'"), ('model.num_classes', '3', 'the data has 10'),
    ('model.queries', 'anchor', "did you mean 'anchors'"), ('data.source', 'nowhere', 'nowhere')])
def test_mistakes_are_named_before_anything_is_written(key, value, said, tmp_path):
  with pytest.raises(UserError, match=said):
    loop.train(config(**{key: value}), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
