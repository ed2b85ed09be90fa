"""A detector for tests: tiny, as its parameters start, saved as a run leaves it."""

import json
import os
import shutil

import jax
import pytest

from detr_jax.data.config import detection_data
from vit_jax.training import checkpoint, workdir as workdir_lib
from vit_jax import config as config_lib, sharding, task as task_lib


@pytest.fixture(scope='session')
def untrained(tmp_path_factory) -> str:
  """Returns the workdir of a detector with masks, on scenes of digits, that has learnt nothing yet."""
  config = config_lib.base()
  config.total_steps = 1
  config.task = dict(name='detr_jax.tasks.detection.Detection')
  config.model = dict(
      name='detr_r50', backbone='resnet18', encoder_layers=1, decoder_layers=1, width=128, num_heads=8,
      mlp_dim=32, num_queries=6, masks=True, backbone_fields=dict(
          depths=(1, 1, 1, 1), width=16, bottleneck=False, small_images=True))
  config.data = detection_data('digit_scenes', 1, ((64, 64), (48, 96)), train='test[5:21]',
                               test='test[:5]', test_transforms=[dict(name='resize', size=48)])
  config.optimizer = dict(name='adamw')
  config.schedule = dict(name='cosine', peak=1e-3)
  workdir = str(tmp_path_factory.mktemp('untrained'))
  mesh = sharding.make_mesh(1, devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    data, task = task_lib.build(config, mesh)
    state = jax.jit(lambda key: task.init(key, data.example))(jax.random.key(0))
  workdir_lib.open_workdir(workdir, config, data.info)
  saved = checkpoint.Checkpoints(workdir)
  saved.save(1, dict(params=state.pop('params'), model_state=state))
  saved.close()
  return workdir


@pytest.fixture(scope='session')
def panoptic(untrained, tmp_path_factory) -> str:
  """Returns the workdir of the same detector, as a panoptic one: even digits are things."""
  workdir = str(tmp_path_factory.mktemp('panoptic') / 'run')
  shutil.copytree(untrained, workdir)
  for name, change in (('config', lambda c: c['task'].update(name='detr_jax.tasks.panoptic.Panoptic')),
                       ('info', lambda c: c.update(panoptic=True, is_thing=[True, False] * 5))):
    path = os.path.join(workdir, f'{name}.json')
    with open(path) as file:
      content = json.load(file)
    change(content)
    with open(path, 'w') as file:
      json.dump(content, file)
  return workdir
