"""Every field of every config is read by some code."""

import glob
import os

from ml_collections import ConfigDict
import pytest

from vit_jax import config as config_lib, main, run

from tests.conftest import ROOT


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


@pytest.mark.parametrize('path', sorted(glob.glob(os.path.join(ROOT, 'configs', '*.py'))))
def test_no_field_is_dead(path, tmp_path, monkeypatch):
  config = config_lib.load(f'{path}:smoke')
  stages = [record(stage) for stage in config_lib.stages(config)]
  for stage in stages:
    with stage.unlocked():
      stage.mesh.data, stage.total_steps, stage.total_epochs = 1, 1, 0.
      stage.schedule.warmup_steps = 0
    object.__getattribute__(stage, '_read').clear()
  # What compares and saves whole configs reads every field; it does not count.
  monkeypatch.setattr(run, 'open_workdir', lambda workdir, config, info=None: (
      os.makedirs(workdir), run.write_json(f'{workdir}/config.json', {'model': {'name': 'vit_ti16'}})))
  monkeypatch.setattr(config_lib, 'stages', lambda config: stages)
  from vit_jax import train
  for i, stage in enumerate(stages):
    train.train(stage, str(tmp_path / str(i)))
  dead = {name for stage in stages for name in unread(stage)}
  # Read by the command line around the loop, and where a run starts from other weights.
  assert dead <= {'name', 'explore', 'reset_head'}, dead
  assert 'explore' in main.conclude.__code__.co_names
  assert 'name' in main.train_stages.__code__.co_names


def test_the_recorder_finds_a_dead_field():
  config = record(ConfigDict(dict(a=1, b=dict(c=2, d=3))))
  assert config.b.c == 2
  assert sorted(unread(config)) == ['a', 'b.d']
