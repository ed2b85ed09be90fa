"""Checkpoints: damage is proven, all else is left alone, and the best step has a name."""

import errno
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.conftest import ROOT
from vit_jax.weights import runs
from vit_jax.weights import integrity
from vit_jax.training.checkpoint import Checkpoints
from vit_jax.weights.runs import SCORE
from vit_jax.errors import UserError

STATE = dict(params=dict(kernel=jnp.arange(20_000.).reshape(100, 200), bias=jnp.ones(7)),
             step=jnp.asarray(3, jnp.int32), model_state={}, ema=None)


def shapes(state=STATE):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def scaled(state, factor):
  return jax.tree.map(lambda x: x * factor, state)


def equal(a, b) -> bool:
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """Returns a function that gives a new workdir with the steps 1 (STATE) and 2 (twice STATE)."""
  workdir = str(tmp_path_factory.mktemp('saved') / 'run')
  kept = Checkpoints(workdir)
  for step in (1, 2):
    kept.save(step, scaled(STATE, step), {SCORE: float(step)})
  kept.close()
  copies = iter(range(1000))

  def copy() -> str:
    target = f'{workdir}_{next(copies)}'
    shutil.copytree(workdir, target)
    return target
  return copy


def listed(workdir):
  return sorted(os.listdir(runs.checkpoint_folder(workdir)))


def harmed(path, kind):
  size = os.path.getsize(path)
  if kind == 'missing':
    os.remove(path)
  elif kind in ('cut', 'empty'):
    os.truncate(path, size // 2 if kind == 'cut' else 0)
  else:
    with open(path, 'r+b') as file:
      content = bytearray(file.read())
      content[size // 2] ^= 16
      file.seek(0)
      file.write(content)


@pytest.mark.parametrize('kind', ['missing', 'cut', 'empty', 'altered'])
def test_harm_to_any_file_of_a_checkpoint_is_noticed_and_never_read(kind, saved, capfd):
  whole = saved()
  folder = os.path.join(runs.checkpoint_folder(whole), '2')
  names = [os.path.relpath(os.path.join(place, name), folder)
           for place, _, files in os.walk(folder) for name in files]
  assert len(names) > 8
  for name in names:
    workdir = saved()
    harmed(os.path.join(runs.checkpoint_folder(workdir), '2', name), kind)
    state, step = Checkpoints(workdir).restore(shapes())
    assert equal(state, scaled(STATE, step)), name
    of_the_state = name.startswith('default') and not name.endswith('commit_success.txt')
    assert step == (1 if of_the_state else 2), (kind, name)
    assert ('damaged-2' in listed(workdir)) == of_the_state and '1' in listed(workdir)
    assert ('checkpoint 2 is damaged' in capfd.readouterr().err) == of_the_state
    shutil.rmtree(workdir)


def test_what_lies_beside_the_steps_is_left_alone(saved):
  workdir = saved()
  folder = runs.checkpoint_folder(workdir)
  for name in ('9', '7.orbax-checkpoint-tmp', '1 (copy)'):
    os.makedirs(os.path.join(folder, name))
  for name in ('.DS_Store', '8'):
    with open(os.path.join(folder, name), 'w') as file:
      file.write('x')
  state, step = Checkpoints(workdir).restore(shapes())
  assert step == 2 and equal(state, scaled(STATE, 2))
  assert {'1', '2', 'damaged-9', '8', '.DS_Store', '1 (copy)'} <= set(listed(workdir))
  kept = Checkpoints(workdir)
  kept.save(3, scaled(STATE, 3))
  kept.close()
  assert Checkpoints(workdir).restore(shapes())[1] == 3


@pytest.mark.parametrize('error', [
    RuntimeError('RESOURCE_EXHAUSTED: out of memory'), OSError(errno.EIO, 'Input/output error'),
    PermissionError(errno.EACCES, 'Permission denied'), ValueError('UNAVAILABLE: try again'),
    ValueError('tree structures do not match')])
def test_an_error_that_proves_no_damage_stops_and_touches_nothing(error, saved, monkeypatch):
  def fail(*args, **kwargs):
    raise error
  workdir = saved()
  before = listed(workdir)
  with monkeypatch.context() as patch:
    patch.setattr(ocp.StandardCheckpointHandler, 'restore', fail)
    with pytest.raises(UserError, match='cannot read the checkpoint .*nothing was changed'):
      Checkpoints(workdir).restore(shapes())
  assert listed(workdir) == before
  assert Checkpoints(workdir).restore(shapes())[1] == 2


def test_another_tree_is_no_damage(saved):
  workdir = saved()
  other = shapes({**STATE, 'params': dict(STATE['params'], more=jnp.ones(3))})
  with pytest.raises(UserError, match='nothing was changed'):
    Checkpoints(workdir).restore(other)
  assert listed(workdir) == ['1', '2']


def test_damage_is_noticed_without_checksums_too(saved):
  workdir = saved()
  folder = os.path.join(runs.checkpoint_folder(workdir), '2')
  os.remove(os.path.join(folder, integrity.CHECKSUMS))
  shutil.rmtree(os.path.join(folder, 'default', 'd'))
  assert Checkpoints(workdir).restore(shapes())[1] == 1
  assert listed(workdir) == ['1', 'damaged-2']


def test_a_run_whose_checkpoints_are_all_damaged_has_a_past(saved):
  workdir = saved()
  for step in '12':
    shutil.rmtree(os.path.join(runs.checkpoint_folder(workdir), step, 'default'))
  for _ in range(2):  # the second time nothing but what was put aside is there
    with pytest.raises(UserError, match='no checkpoint in .* can be read.*bring one back'):
      Checkpoints(workdir).restore(shapes())
    assert listed(workdir) == ['damaged-1', 'damaged-2'] and runs.exists(workdir)


def test_a_run_without_a_past_restores_nothing(tmp_path):
  assert not runs.exists(str(tmp_path))
  assert Checkpoints(str(tmp_path)).restore(shapes()) is None


def test_the_best_step_stays_over_restarts_and_has_a_name(tmp_path):
  workdir = str(tmp_path)
  for first, scores in ((1, [.1, .9, .3]), (4, [.2, .4])):  # of two starts
    kept = Checkpoints(workdir, keep=1, best=True)
    for step, score in enumerate(scores, first):
      kept.save(step, STATE, {SCORE: score})
    kept.close()
  assert [s for s in listed(workdir) if s.isdigit()] == ['2', '5']
  assert runs.find(workdir)[1].endswith('/5')
  assert runs.find(f'{workdir}@best')[1].endswith('/2')
  assert runs.is_run(f'{workdir}@best') and not runs.is_run(f'{workdir}x@best')


def test_a_folder_may_be_named_like_the_best_of_another(tmp_path):
  kept = Checkpoints(str(tmp_path / 'run@best'))
  kept.save(1, STATE)
  kept.close()
  assert runs.find(str(tmp_path / 'run@best'))[1].endswith('run@best/checkpoints/1')


def test_a_best_step_that_was_not_measured_is_a_sentence(tmp_path):
  kept = Checkpoints(str(tmp_path))
  kept.save(1, STATE, {SCORE: float('nan')})
  kept.close()
  with pytest.raises(UserError, match='no best checkpoint'):
    runs.find(f'{tmp_path}@best')
  with pytest.raises(UserError, match='give the workdir of a run'):
    runs.find(f'{tmp_path}/none@best')


def test_the_newest_step_that_is_whole_is_found(saved, capfd):
  workdir = saved()
  os.makedirs(os.path.join(runs.checkpoint_folder(workdir), '9'))
  assert runs.find(workdir)[1].endswith('/2')
  assert 'checkpoint 9' in capfd.readouterr().err


def test_parameters_of_an_altered_checkpoint_are_not_read(saved):
  workdir = saved()
  folder = runs.find(workdir)[1]
  np.testing.assert_array_equal(runs.read_params(folder)['bias'], 2.)
  sizes = {os.path.join(place, name): os.path.getsize(os.path.join(place, name))
           for place, _, names in os.walk(os.path.join(folder, 'default')) for name in names}
  harmed(max(sizes, key=sizes.get), 'altered')
  with pytest.raises(UserError, match='is damaged .*does not have its checksum'):
    runs.read_params(folder)


def test_the_average_is_read_with_its_statistics(tmp_path):
  kept = Checkpoints(str(tmp_path))
  average = dict(params=dict(kernel=jnp.full(2, 5.)), batch_stats=dict(mean=jnp.full(2, 7.)))
  kept.save(1, dict(STATE, ema=average, model_state=dict(batch_stats=dict(mean=jnp.zeros(2)))))
  kept.close()
  found = runs.read_params(runs.find(str(tmp_path))[1])
  assert {k: float(v[0]) for k, v in found.items()} == {'kernel': 5., 'batch_stats/mean': 7.}


FULL = '''
import resource, signal, sys
import jax.numpy as jnp, numpy as np
from vit_jax import errors
from vit_jax.training import checkpoint
def main():
  checkpoint.keep_threads_quiet()
  kept = checkpoint.Checkpoints(sys.argv[1])
  kept.save(1, dict(a=jnp.ones(3)))
  kept.wait()
  signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
  kept.save(2, dict(a=np.random.default_rng(0).random(100_000)))
  kept.close()
errors.exit_cleanly('full', main)
'''


def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(tmp_path):
  found = subprocess.run([sys.executable, '-c', FULL, str(tmp_path)], cwd=ROOT, text=True,
                         capture_output=True)
  assert found.returncode == 2 and found.stderr.count('\n') == 1, found.stderr
  assert 'cannot write the checkpoint of step 2' in found.stderr and 'too large' in found.stderr
  assert listed(str(tmp_path)) == ['1']
  assert json.load(open(tmp_path / 'checkpoints' / '1' / integrity.CHECKSUMS))
