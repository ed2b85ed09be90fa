"""The processes of a job: how they find each other, and what they decide together.

So that none goes on without the others, and none waits for ever.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from vit_jax.errors import UserError

_LENGTH = 4096  # bytes of a message that is told to all


def start(distributed: str, seconds: int = 300) -> None:
  """Connects the processes of a job.

  Args:
    distributed: 'auto': as SLURM, MPI or the TPU pod say; 'off': one process; or HOST:PORT,COUNT,INDEX.
    seconds: how long they wait for each other.

  Raises:
    UserError: for a value that says nothing, or a job that cannot be connected.
  """
  if distributed == 'off':
    return
  if distributed == 'auto':
    if _several():
      with _patience('as the cluster says', seconds):
        jax.distributed.initialize(initialization_timeout=seconds + 60)
    return
  try:
    address, count, index = distributed.split(',')
    count, index = int(count), int(index)
  except ValueError:
    count, index = 0, -1
  if not 0 <= index < count:
    raise UserError(f'--distributed={distributed} is neither auto, off, nor HOST:PORT,COUNT,INDEX with '
                    'INDEX from 0 to COUNT - 1')
  with _patience(f'process {index} of {count}, at {address}', seconds):
    jax.distributed.initialize(address, count, index, initialization_timeout=seconds + 60)


def _several() -> bool:
  """Tells whether the cluster says that this process is one of several.

  Raises:
    UserError: SLURM gave several tasks, but nothing started them.
  """
  of = lambda name: int(os.environ.get(name, '1')) if os.environ.get(name, '1').isdigit() else 1
  hosts = os.environ.get('TPU_WORKER_HOSTNAMES', '').split(',')
  if max(of('OMPI_COMM_WORLD_SIZE'), len(hosts)) > 1:
    return True
  tasks = of('SLURM_NTASKS')
  started = 'SLURM_STEP_NODELIST' in os.environ and os.environ.get('SLURM_STEP_NUM_TASKS', '') != '1'
  if tasks > 1 and not started:
    raise UserError(f'SLURM has {tasks} tasks for this job, but srun did not start this process; start '
                    'it with srun, or set --distributed=off for one process on one node')
  return tasks > 1


@contextlib.contextmanager
def _patience(who: str, seconds: int) -> Iterator[None]:
  """Says that a process waits for others, and ends it with one sentence when they do not come.

  From a thread: JAX waits in C++, and ends the process itself, with a stack trace, if it is let.
  """
  done, begin = threading.Event(), time.monotonic()

  def watch():
    while not done.wait(min(10., seconds)):
      waited = time.monotonic() - begin
      if waited >= seconds:
        print(f'vit_jax: the other processes did not connect within {seconds} s ({who}); start all of '
              'them, see that the address can be reached from each, or wait longer with '
              '--connect_seconds', file=sys.stderr, flush=True)
        os._exit(2)
      print(f'waiting for the other processes ({who}): {waited:.0f} of {seconds} s', flush=True)

  threading.Thread(target=watch, daemon=True).start()
  try:
    yield
  except (RuntimeError, ValueError) as error:
    raise UserError(f'cannot connect the processes ({who}): {str(error).splitlines()[0]}; see that the '
                    'address is free and can be reached, or set --distributed=off') from None
  finally:
    done.set()


def first(decide: Callable[[], str]) -> str:
  """Returns what the first process decides, to all of them.

  Args:
    decide: returns a short text; called by the first process alone.

  Raises:
    UserError: in every process, where the first one raised it.
  """
  if jax.process_count() == 1:
    return decide()
  from jax.experimental import multihost_utils
  text, failed = '', False
  if jax.process_index() == 0:
    try:
      text = decide()
    except UserError as error:
      text, failed = str(error), True
  content = text.encode(errors='backslashreplace')[:_LENGTH - 1]
  message = np.zeros(_LENGTH, np.uint8)
  message[0], message[1:1 + len(content)] = failed, np.frombuffer(content, np.uint8)
  message = np.asarray(multihost_utils.broadcast_one_to_all(message))
  text = message[1:].tobytes().rstrip(b'\0').decode(errors='replace')
  if message[0]:
    raise UserError(text)
  return text


def most(value: int) -> int:
  """Returns the largest of the values that the processes give; all of them wait for each other."""
  if jax.process_count() == 1:
    return value
  from jax.experimental import multihost_utils
  return int(np.max(multihost_utils.process_allgather(np.int32(value))))
