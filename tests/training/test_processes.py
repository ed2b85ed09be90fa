"""Several processes: one device each, what they agree on, and that none waits for ever."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from vit_jax.training import processes
from vit_jax.errors import UserError

TINY = os.path.join(ROOT, 'tests', 'configs', 'tiny.py')
PATIENCE = 240  # seconds after which a job counts as one that waits for ever


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def job(workdir, count: int, *flags, devices: int = 1, script: str = '', arguments: str = '',
        started: int | None = None):
  """Starts a job's processes, or the first `started`; `script` runs in each before the command."""
  port, out = free_port(), []
  for i in range(count if started is None else started):
    words = [f'--config={TINY}:{arguments}', f'--workdir={workdir}', f'--cpu_devices={devices}',
             f'--distributed=localhost:{port},{count},{i}', *flags]
    code = f'{script}\nfrom vit_jax import errors, main\nerrors.exit_cleanly("vit_jax", main.main)'
    out.append(subprocess.Popen([sys.executable, '-c', code, *words], cwd=ROOT, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env={**os.environ, 'INDEX': str(i)}))
  return out


def finish(started) -> tuple[list[int], list[str]]:
  """Returns (exit codes, outputs); fails where a process waits for ever."""
  outputs = []
  try:
    for process in started:
      outputs.append(process.communicate(timeout=PATIENCE)[0])
  except subprocess.TimeoutExpired:
    for process in started:
      process.kill()
    pytest.fail(f'a process waits for ever: {outputs}')
  return [p.returncode for p in started], outputs


def losses(workdir) -> dict[int, float]:
  with open(os.path.join(workdir, 'metrics.jsonl')) as file:
    lines = [json.loads(line) for line in file]
  return {line['step']: line['train/loss'] for line in lines if 'train/loss' in line}


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """Returns the workdir of the same run of one process."""
  workdir = str(tmp_path_factory.mktemp('alone'))
  codes, outputs = finish(job(workdir, 1, '--distributed=off', '--config.mesh.data=1'))
  assert codes == [0], outputs
  return workdir


@pytest.mark.slow
@pytest.mark.parametrize('count, mesh', [(2, 'model=2'), (4, 'fsdp=4')])
def test_one_device_per_process_trains_evaluates_saves_and_resumes(count, mesh, alone, tmp_path):
  flags = ['--config.mesh.data=1', f'--config.mesh.{mesh}']
  started = job(tmp_path, count, *flags, '--config.checkpoint.every=2', '--config.evaluate.every=4',
                '--config.evaluate.batch_size=24')
  wait_for_step(tmp_path, 5, started[0])
  started[-1].send_signal(signal.SIGINT)  # Ctrl-C in one of them stops all
  codes, outputs = finish(started)
  assert codes == [0] * count, outputs
  assert 'the same command continues' in outputs[0]
  codes, outputs = finish(job(tmp_path, count, *flags))
  assert codes == [0] * count and 'resumed from step' in outputs[0], outputs
  want, got = losses(alone), losses(tmp_path)
  assert set(want) == set(got)
  assert max(abs(want[step] - got[step]) for step in want) < 2e-5
  results, plain = (json.load(open(os.path.join(w, 'results.json'))) for w in (tmp_path, alone))
  assert results['finished'] and results['test_examples'] == 355
  assert results['test_loss'] == pytest.approx(plain['test_loss'], abs=1e-4)


def wait_for_step(workdir, step, process):
  path, begin = os.path.join(workdir, 'metrics.jsonl'), time.monotonic()
  while process.poll() is None and time.monotonic() - begin < PATIENCE:
    if os.path.exists(path) and f'"step": {step},' in open(path).read():
      return
    time.sleep(.02)
  raise AssertionError('the job ended, or did not begin')


GO_ON = ('--config.mesh.data=1', '--config.mesh.fsdp=2', '--config.total_steps=8',
         '--config.schedule.name=constant')


@pytest.fixture(scope='module')
def halved(tmp_path_factory):
  """Returns a function that gives a new workdir of a job of two processes with checkpoints 4 and 8."""
  workdir = str(tmp_path_factory.mktemp('halved') / 'run')
  codes, outputs = finish(job(workdir, 2, *GO_ON))
  assert codes == [0, 0], outputs

  def copy(name):
    target = os.path.join(os.path.dirname(workdir), name)
    shutil.copytree(workdir, target)
    return target
  return copy


def largest_file(folder: str) -> str:
  paths = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
  return max(paths, key=os.path.getsize)


@pytest.mark.slow
def test_processes_agree_that_a_checkpoint_is_damaged(halved):
  workdir = halved('damaged')
  path = largest_file(os.path.join(workdir, 'checkpoints', '8'))
  with open(path, 'r+b') as file:  # one bit, which no reader of the format notices
    file.seek(os.path.getsize(path) // 2)
    byte = file.read(1)
    file.seek(-1, os.SEEK_CUR)
    file.write(bytes([byte[0] ^ 16]))
  codes, outputs = finish(job(workdir, 2, *GO_ON))
  assert codes == [0, 0], outputs
  assert 'resumed from step 4' in outputs[0]
  assert {'4', '8', 'damaged-8'} <= set(os.listdir(os.path.join(workdir, 'checkpoints')))


FAILING = '''
import os
import orbax.checkpoint as ocp
def fail(*args, **kwargs):
  raise RuntimeError('RESOURCE_EXHAUSTED: out of memory')
if os.environ['INDEX'] == '1':
  ocp.StandardCheckpointHandler.restore = fail
'''


@pytest.mark.slow
def test_an_error_in_one_process_that_is_no_damage_stops_all_and_touches_nothing(halved):
  workdir = halved('failing')
  before = sorted(os.listdir(os.path.join(workdir, 'checkpoints')))
  codes, outputs = finish(job(workdir, 2, *GO_ON, script=FAILING))
  assert codes == [2, 2], outputs
  assert 'another process failed' in outputs[0] and 'out of memory' in outputs[1]
  assert sorted(os.listdir(os.path.join(workdir, 'checkpoints'))) == before
  codes, outputs = finish(job(workdir, 2, *GO_ON))
  assert codes == [0, 0] and 'resumed from step 8' in outputs[0], outputs


@pytest.mark.slow
def test_another_config_is_refused_in_every_process(halved):
  codes, outputs = finish(job(halved('other'), 2, *GO_ON, '--config.seed=3'))
  assert codes == [2, 2]
  assert all('holds the run of another config' in t and 'seed 0 -> 3' in t for t in outputs), outputs


def test_a_process_whose_others_never_come_says_so_and_ends(tmp_path):
  codes, outputs = finish(job(tmp_path / 'run', 2, '--connect_seconds=1', started=1))
  assert codes == [2] and 'did not connect within 1 s (process 0 of 2' in outputs[0], outputs
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('value', ['localhost:1', 'localhost:1,two,0', 'localhost:1,2,2', 'host:1,0,0'])
def test_an_address_that_says_nothing_is_refused(value):
  with pytest.raises(UserError, match='INDEX from 0 to COUNT - 1'):
    processes.start(value)


@pytest.mark.parametrize('step', [{}, dict(SLURM_STEP_NODELIST='a', SLURM_STEP_NUM_TASKS='1')])
def test_tasks_of_slurm_that_srun_did_not_start_are_told(step, monkeypatch):
  for name in ('SLURM_STEP_NODELIST', 'SLURM_STEP_NUM_TASKS'):
    monkeypatch.delenv(name, raising=False)
  for name, value in dict(step, SLURM_NTASKS='4').items():
    monkeypatch.setenv(name, value)
  with pytest.raises(UserError, match='SLURM has 4 tasks .* srun'):
    processes.start('auto')
  processes.start('off')


def test_one_process_decides_alone():
  assert processes.first(lambda: 'text') == 'text' and processes.most(3) == 3
