"""Every field of every config is read by some code."""

import glob
import os

import jax
from ml_collections import ConfigDict
import pytest

from tests.conftest import ROOT
from tests.data import shards
from vit_jax import config as config_lib, files, main, sharding, weights
from vit_jax.training import run, loop
from vit_jax.data.sources import open_source
from vit_jax.errors import UserError


class Recording(ConfigDict):
  """A config that remembers which of its leaves were read."""

  def _note(self, key):
    read = object.__getattribute__(self, '_read')
    read.add(key)

  def __getattr__(self, key):
    value = super().__getattr__(key)
    self._note(key)
    return value

  def __getitem__(self, key):
    value = super().__getitem__(key)
    self._note(key)
    return value


def record(config: ConfigDict) -> Recording:
  out = Recording()
  object.__setattr__(out, '_read', set())
  with out.ignore_type():
    for key in config:
      value = config[key]
      ConfigDict.__setitem__(out, key, record(value) if isinstance(value, ConfigDict) else value)
  object.__getattribute__(out, '_read').clear()
  return out


def unread(config: Recording, prefix='') -> list[str]:
  read = set(object.__getattribute__(config, '_read'))
  out = []
  for key in list(config._fields):
    value = config._fields[key]
    if isinstance(value, Recording):
      out += unread(value, f'{prefix}{key}.')
    elif key not in read:
      out.append(prefix + key)
  return out


def fields(config: Recording) -> list[str]:
  return unread(record(config))


def prepared(spec) -> Recording:
  """Returns a config that records, made ready to run on one device for one step."""
  stage = record(config_lib.stages(config_lib.load(spec))[-1])
  with stage.unlocked():
    stage.mesh.data, stage.total_steps, stage.total_epochs = 1, 1, 0.
    stage.schedule.warmup_steps = 0
  clear(stage)
  return stage


def clear(config: Recording) -> None:
  object.__getattribute__(config, '_read').clear()
  for value in config._fields.values():
    if isinstance(value, Recording):
      clear(value)


# Read only where a run starts from weights, is evaluated alone, or has ended.
ELSEWHERE = {'explore': main.conclude, 'reset_head': loop.start, 'init_resampling': loop.start,
             'init_resize_patches': loop.start, 'init_image_size': loop.start,
             'evaluate.protocol': weights.follow_protocol}


@pytest.fixture(scope='module')
def read_by_the_loop(tmp_path_factory) -> set[str]:
  """Returns the fields that one run reads, or other sources of data, or what surrounds the loop.

  Of the sections that are passed on (model, task, optimizer, schedule, crops and augmentations) none
  is here: each config's own are read when it is planned, where their readers refuse unknown ones.
  """
  tmp = tmp_path_factory.mktemp('fields')
  stage = prepared(os.path.join(ROOT, 'tests', 'configs', 'tiny.py'))
  with pytest.MonkeyPatch.context() as patch:  # what compares and saves whole configs does not count
    patch.setattr(run, 'open_workdir', lambda workdir, config, info=None: files.write_json(
        f'{workdir}/config.json', {'model': {'name': 'vit_ti16'}}) or [])
    loop.train(stage, str(tmp / 'run'))
  with stage.unlocked():
    stage.data.source = shards.write(str(tmp / 'shards'), [3])
    open_source(stage.data).split('train')
    stage.data.source = 'of_tfds'
    with pytest.raises(UserError):
      open_source(stage.data)
  dead = set(unread(stage))  # before `fields`, which reads them all
  for name, function in ELSEWHERE.items():
    assert name in dead and name.rpartition('.')[2] in function.__code__.co_names, name
  alive = set(fields(stage)) - dead
  return {'name', *ELSEWHERE} | {f for f in alive if f.partition('.')[0] not in config_lib.OPEN}


@pytest.mark.parametrize('path', sorted(glob.glob(os.path.join(ROOT, 'configs', '*.py'))))
def test_no_field_is_dead(path, read_by_the_loop):
  stage = prepared(f'{path}:smoke')
  mesh = sharding.make_mesh(**stage.mesh)
  with jax.set_mesh(mesh):
    loop.plan(stage, mesh)
  of_the_loop = {field for field in read_by_the_loop
                 if 'detr_jax' not in stage.task.name or not field.startswith('data.')}
  assert not set(unread(stage)) - of_the_loop  # a detector's own pipeline reads all of its data


def test_the_recorder_finds_a_dead_field():
  config = record(ConfigDict(dict(a=1, b=dict(c=2, d=3))))
  assert config.b.c == 2
  assert sorted(unread(config)) == ['a', 'b.d']
