"""A workdir belongs to one run at a time, and what is written in it is whole."""

import csv
import json
import os
import re

import pytest

from tests.conftest import ROOT
from vit_jax import config as config_lib, files, main
from vit_jax.training import workdir as workdir_lib
from vit_jax.training.checkpoint import Checkpoints
from vit_jax.weights.runs import stages
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.weights.runs import run_config

TINY = os.path.join(ROOT, 'tests', 'configs', 'tiny.py')
INFO = Info('digits', ('a', 'b'), 1, (16, 16), num_train=10)


def tiny(**overrides):
  return config_lib.load(TINY, {k: str(v) for k, v in overrides.items()})


@pytest.fixture
def run(tmp_path):
  """Returns a workdir with a checkpoint."""
  workdir = str(tmp_path / 'run')
  workdir_lib.open_workdir(workdir, tiny(), INFO)
  kept = Checkpoints(workdir)
  kept.save(1, dict(a=1.))
  kept.close()
  return workdir


@pytest.mark.parametrize('key, value', [
    ('accumulate', 4), ('model.remat', 'full'), ('mesh.fsdp', 2), ('log.every', 7),
    ('checkpoint.every', 9), ('checkpoint.keep', 5), ('evaluate.every', 3), ('evaluate.batch_size', 16),
    ('data.source', '/elsewhere/digits'), ('data.data_dir', '/elsewhere'), ('data.classes', 'x.txt'),
    ('explore', 8), ('init_from', 'other'), ('data.on_error', 'skip')])
def test_what_changes_no_result_may_change_and_is_told(key, value, run):
  said = workdir_lib.open_workdir(run, tiny(**{key: value}), INFO)
  assert len(said) == 1 and said[0].startswith(f'goes on with another {key} ')
  assert not workdir_lib.open_workdir(run, tiny(**{key: value}), INFO)


@pytest.mark.parametrize('key, value', [
    ('seed', 1), ('model.width', 64), ('data.batch_size', 64), ('data.train', 'train[:50%]'),
    ('schedule.peak', 1.), ('optimizer.weight_decay', .5), ('ema_decay', .9), ('total_steps', 99)])
def test_what_changes_a_result_is_refused_and_named(key, value, run):
  before = open(os.path.join(run, 'config.json')).read()
  with pytest.raises(UserError, match=f'another config \\({re.escape(key)} '):
    workdir_lib.open_workdir(run, tiny(**{key: value}), INFO)
  assert open(os.path.join(run, 'config.json')).read() == before


def test_a_workdir_without_a_checkpoint_takes_another_config(tmp_path):
  workdir = str(tmp_path)
  workdir_lib.open_workdir(workdir, tiny(), INFO)
  workdir_lib.check_constants(workdir, dict(teacher='a'))
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
  workdir_lib.open_workdir(workdir, tiny(seed=9), INFO)
  workdir_lib.check_constants(workdir, dict(teacher='b'))
  assert run_config(workdir)['seed'] == 9 and not (tmp_path / 'metrics.jsonl').exists()


def test_a_run_with_another_teacher_is_refused(run):
  workdir_lib.check_constants(run, dict(teacher='a'))
  with pytest.raises(UserError, match='another teacher .fingerprint a, now b'):
    workdir_lib.check_constants(run, dict(teacher='b'))


@pytest.mark.parametrize('change', [dict(num_train=11), dict(classes=('a', 'c'))])
def test_data_that_changed_is_refused(change, run):
  import dataclasses
  with pytest.raises(UserError, match='restore the data'):
    workdir_lib.open_workdir(run, tiny(), dataclasses.replace(INFO, **change))


def test_two_runs_cannot_write_one_workdir(tmp_path):
  workdir = str(tmp_path / 'run')
  with workdir_lib.locked(workdir):
    for second in (workdir_lib.locked(workdir).__enter__, lambda: workdir_lib.check_free(workdir)):
      with pytest.raises(UserError, match=f'in use by process {os.getpid()} on '):
        second()
  workdir_lib.check_free(workdir)
  with workdir_lib.locked(workdir):
    pass


@pytest.mark.parametrize('address', ['gs://bucket/run', 's3://bucket/run', 'hdfs://x/y'])
def test_an_address_is_no_workdir(address, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match='is an address.*mount'):
    main.main([f'--config={TINY}', f'--workdir={address}'])
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('content', [b'', b'{"model": {"na', b'\xff\xfe\x00', b'[' * 100_000,
                                     b'[3]', b'7'])
@pytest.mark.parametrize('name', ['config.json', 'info.json', 'constants.json'])
def test_json_that_is_damaged_is_named_with_a_remedy_that_works(name, content, run):
  workdir_lib.check_constants(run, dict(teacher='a'))

  def start():
    workdir_lib.open_workdir(run, tiny(), INFO)
    workdir_lib.check_constants(run, dict(teacher='a'))
  path = os.path.join(run, name)
  with open(path, 'wb') as file:
    file.write(content)
  with pytest.raises(UserError, match=f'{re.escape(path)} is damaged .*remov'):
    start()
  os.remove(path)  # the remedy
  start()
  assert stages(run) == [''] and json.load(open(path))


@pytest.mark.parametrize('content', ['', '[3]', '{}', '{"model": {}}', '{"stages": [3]}'])
def test_a_config_that_describes_no_run_is_named(content, run):
  with open(os.path.join(run, 'config.json'), 'w') as file:
    file.write(content)
  assert stages(run) == ['']
  with pytest.raises(UserError, match='config.json is damaged .*after removing that file'):
    run_config(run)


@pytest.mark.parametrize('name', ['config.json', 'info.json'])
def test_a_mark_of_byte_order_is_no_damage(name, run):
  path = os.path.join(run, name)
  content = open(path, 'rb').read()
  with open(path, 'wb') as file:
    file.write(b'\xef\xbb\xbf' + content)
  assert not workdir_lib.open_workdir(run, tiny(), INFO)


def test_a_file_that_cannot_be_finished_leaves_the_one_before(tmp_path):
  path = str(tmp_path / 'a.json')
  files.write_json(path, dict(a=1))
  with pytest.raises(RuntimeError), files.replacing(path) as file:
    file.write('{"a": ')
    raise RuntimeError
  assert json.load(open(path)) == dict(a=1) and os.listdir(tmp_path) == ['a.json']


def test_tables_without_rows_and_with_odd_names_are_written(tmp_path):
  workdir_lib.write_tables(str(tmp_path), {
      'empty': [], 'odd': [{'class': 'caf\udce9', 'examples': 1}], 'list.json': [1, 2]})
  assert list(csv.reader(open(tmp_path / 'odd.csv'))) == [['class', 'examples'], ['caf\\udce9', '1']]
  assert json.load(open(tmp_path / 'list.json')) == [1, 2]
  assert not (tmp_path / 'empty.csv').read_text().strip()
