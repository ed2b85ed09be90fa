"""Two or more programs measured in turn: one process each, pinned to one core, CPU time."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

ONE_THREAD = {name: '1' for name in (
    'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'TORCHINDUCTOR_COMPILE_THREADS')}


def last_core() -> int:
  """Returns the number of the last core that this process may use."""
  return max(os.sched_getaffinity(0))


def pin(core: int) -> None:
  """Keeps this process, and what it starts, on one core."""
  os.sched_setaffinity(0, {core})


class Side:
  """A module of this package that runs `serve` in a process of its own."""

  def __init__(self, module: str, *arguments: str):
    """Starts `python -m benchmarks.MODULE ARGUMENTS`."""
    self.name = ' '.join((module, *arguments))
    self.seconds: list[float] = []
    self._process = subprocess.Popen(
        [sys.executable, '-m', f'benchmarks.{module}', *arguments], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env={**os.environ, 'JAX_PLATFORMS': 'cpu', **ONE_THREAD})

  def ask(self, question: str):
    """Sends a line and returns the answer."""
    self._process.stdin.write(question + '\n')
    self._process.stdin.flush()
    answer = self._process.stdout.readline()
    if not answer:
      raise SystemExit(f'{self.name} ended early; see above')
    return json.loads(answer)

  def close(self) -> None:
    """Ends the process."""
    self._process.kill()
    self._process.wait()

  @property
  def median(self) -> float:
    """Seconds of CPU time per step."""
    return statistics.median(self.seconds)


def serve(check: Callable[[], None], step: Callable[[int], None], ahead: bool = False) -> None:
  """Answers `check` by what it writes for comparison, a number by the CPU seconds of a step.

  Args:
    check: see above.
    step: (number of the step) -> None.
    ahead: whether threads work ahead of the steps: then what they did since the last answer counts.
  """
  answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
  end = 0.
  for line in sys.stdin:
    if line.strip() == 'check':
      answer = check()
    else:
      count, start = int(line), end if ahead else time.process_time()
      for i in range(count):
        step(i)
      end = time.process_time()
      answer = (end - start) / count
    print(json.dumps(answer), file=answers, flush=True)


def alternate(sides: Sequence[Side], rounds: int, steps: int) -> None:
  """Warms every side up, then times them in turn."""
  for side in sides:
    side.ask('2')
  for _ in range(rounds):
    for side in sides:
      side.seconds.append(side.ask(str(steps)))


def forward_error(ours, theirs) -> float:
  """Returns the largest error over the largest logit."""
  return float(np.abs(ours['logits'] - theirs['logits']).max() / np.abs(theirs['logits']).max())


def errors(folder: str, modes: Sequence[str], measure=forward_error,
           tolerance: float = 1e-5) -> tuple[float, float]:
  """Returns (largest error, error with wrong weights), and stops unless they are as they must."""
  files = {}
  for name in (*modes, 'ours', 'wrong'):
    with np.load(os.path.join(folder, f'{name}.npz')) as file:
      files[name] = dict(file)
  error = max(measure(files['ours'], files[mode]) for mode in modes)
  control = measure(files['wrong'], files[modes[0]])
  if not error <= tolerance < control:
    raise SystemExit(f'the two sides do not compute the same: error {error:.1e}, control '
                     f'{control:.1e}, tolerance {tolerance}')
  return error, control


def measure(kind: str, modes: Sequence[str], name: str, batch: int, rounds: int) -> str:
  """Returns a line of the table of a forward pass, whose outputs are right on all sides.

  Args:
    kind: `KIND_side` writes weights and inputs, and runs them as each of the modes; `our_side` knows it.
    modes: of the peer, eager first.
    name: of the model.
    batch: number of images.
    rounds: timings of each side.
  """
  with tempfile.TemporaryDirectory() as folder:
    peer = (f'{kind}_side', folder, name, str(batch))
    subprocess.run([sys.executable, '-m', f'benchmarks.{peer[0]}', *peer[1:], 'write'], check=True)
    ours = Side('our_side', folder, name, kind)
    peers = {mode: Side(*peer, mode) for mode in modes}
    try:
      for side in (ours, *peers.values()):
        side.ask('check')
      errors(folder, tuple(modes), tolerance=1e-4)  # compiled, timm's BiT itself is off by 1e-5
      found = errors(folder, ('exact',))
      alternate((ours, *peers.values()), rounds, 2 if batch == 1 else 1)
    finally:
      for side in (ours, *peers.values()):
        side.close()
  return row(name, batch, ours, peers, found)


def row(name: str, batch: int, ours: Side, peers: dict[str, Side], found: tuple[float, float]) -> str:
  """Returns a line of the table, times in ms per image; the first of the peers is the eager one."""
  ms = lambda seconds: f'{1e3 * seconds / batch:.1f}'
  shown = [f'{ms(s.median)} ({ms(min(s.seconds))}-{ms(max(s.seconds))})'
           for s in (ours, *peers.values())]
  medians = [s.median for s in peers.values()]
  cells = (name, str(batch), *shown, f'**{min(medians) / ours.median:.2f}**',
           f'{medians[0] / ours.median:.2f}', *(f'{e:.0e}' for e in found))
  return '| ' + ' | '.join(cells) + ' |'


def print_header(name: str, peers: Sequence[str], rounds: int) -> None:
  """Prints what stands above the lines of `row`."""
  titles = (name, 'batch', 'vit_jax', *peers, 'best peer / ours', 'eager / ours', 'error', 'control')
  print(f'CPU ms per image: median (least-most) of {rounds} timings; load average '
        f'{os.getloadavg()[0]:.1f}')
  print('| ' + ' | '.join(titles) + ' |\n|' + '---|' * len(titles), flush=True)


def main(program: str, text: str, kind: str, modes: dict[str, str], models: str, batches: str) -> None:
  """Prints the table of `measure` for the models and batches asked for on the command line.

  Args:
    program: dotted name of the module.
    text: of its help.
    kind: see `measure`.
    modes: of the peer, and their titles.
    models, batches: separated by commas, unless others are asked for.
  """
  flags = argparse.ArgumentParser(prog=f'python -m {program}', description=text,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('--models', default=models)
  flags.add_argument('--batches', default=batches)
  flags.add_argument('--rounds', type=int, default=5, help='timings of each side, in turn')
  flags.add_argument('--core', type=int, default=last_core())
  flags = flags.parse_args()
  pin(flags.core)
  print_header('model', tuple(modes.values()), flags.rounds)
  for name in flags.models.split(','):
    for batch in flags.batches.split(','):
      print(measure(kind, modes, name, int(batch), flags.rounds), flush=True)
