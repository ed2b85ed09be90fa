"""Killed at random moments and moved to other numbers of processes, a run reads every example once."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import ledger
from tests.conftest import ROOT
from tests.data.shards import write
from tests.training.test_loop import free_port

STEPS, BATCH, EXAMPLES = 60, 8, 52  # 480 draws: 9.2 epochs, and none ends with a step


def start(folder, source, workdir, *flags):
  config = os.path.join(ROOT, 'tests', 'configs', 'tiny.py')
  return subprocess.Popen(
      [sys.executable, '-m', 'tests.ledger', folder,
       f'--config={config}:dataset={source},steps={STEPS},resolution=8', f'--workdir={workdir}',
       f'--config.data.batch_size={BATCH}', '--config.data.test=train', *flags],
      cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def kill(processes, folder, step: int):
  """Kills when the ledger has come to a step, and a moment more."""
  while not any(at >= step for at, _ in ledger.read(folder)):
    assert all(process.poll() is None for process in processes), processes[0].stdout.read()
    time.sleep(.02)
  time.sleep(random.uniform(0., .1))
  for process in processes:
    process.send_signal(signal.SIGKILL)
  assert {process.wait() for process in processes} == {-signal.SIGKILL}


def finish(processes):
  outputs = [process.communicate(timeout=300)[0] for process in processes]
  assert all(process.returncode == 0 for process in processes), outputs


def check(folder):
  """Every row of every step was read, always as the same example, and each epoch holds each once."""
  found = ledger.read(folder)
  assert set(found) == {(step, row) for step in range(STEPS) for row in range(BATCH)}
  assert all(len(examples) == 1 for examples in found.values())
  lanes, rows = 4, BATCH // 4
  stream = [next(iter(found[at // BATCH, (at % BATCH % lanes) * rows + at % BATCH // lanes]))
            for at in range(STEPS * BATCH)]
  epochs = np.asarray(stream[:len(stream) // EXAMPLES * EXAMPLES]).reshape(-1, EXAMPLES)
  np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(EXAMPLES), (len(epochs), 1)))
  rest = stream[epochs.size:]
  assert len(set(rest)) == len(rest)


@pytest.fixture
def place(tmp_path):
  os.makedirs(tmp_path / 'ledger')
  source = write(tmp_path / 'data', [20, 7, 12, 13])
  return str(tmp_path / 'ledger'), source, str(tmp_path / 'run')


@pytest.mark.slow
def test_no_replay_and_no_gap_over_kills_at_random_moments(place):
  for low, high in ((5, 15), (20, 30), (35, 45)):
    kill([start(*place, '--cpu_devices=2')], place[0], random.randrange(low, high))
  finish([start(*place, '--cpu_devices=2')])
  check(place[0])


@pytest.mark.slow
def test_none_when_the_number_of_processes_changes(place):
  for count, low, high in ((1, 5, 20), (2, 25, 40)):
    address = f'localhost:{free_port()}'
    kill([start(*place, f'--cpu_devices={2 // count}', f'--distributed={address},{count},{i}')
          for i in range(count)], place[0], random.randrange(low, high))
  address = f'localhost:{free_port()}'
  finish([start(*place, '--cpu_devices=2', f'--distributed={address},2,{i}') for i in range(2)])
  finish([start(*place, '--cpu_devices=1')])  # finished already: reads nothing, still ends well
  check(place[0])
