"""CPU time and memory of reading a file of weights, next to the plain reader of its container.

    python -m benchmarks.load_weights
    python -m benchmarks.load_weights --model=vit_b16

Writes a model's random weights as `.npz`, `.safetensors` and, with torch, `.pth`, and reads them by
NumPy, safetensors or torch, by `vit_jax.weights`, and by `vit_jax.load` up to a model that is ready.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from benchmarks import sides

FILES = dict(npz='w.npz', safetensors='w.safetensors', pth='w.pth')


def write(folder: str, model: str) -> None:
  """Writes the files."""
  import jax

  import vit_jax
  from vit_jax import weights
  module, rng = vit_jax.create_model(model), np.random.default_rng(0)
  shapes = weights.variable_shapes(module, (224, 224), 3)
  variables = jax.tree.map(lambda s: rng.standard_normal(s.shape, np.float32), shapes)
  for kind, to in dict(npz='npz', safetensors='timm').items():
    weights.export(os.path.join(folder, FILES[kind]), module, variables, to)
  try:
    import torch
    from safetensors.torch import load_file
  except ImportError:
    return
  torch.save(load_file(os.path.join(folder, FILES['safetensors'])), os.path.join(folder, FILES['pth']))


def plain(kind: str):
  """Returns the function that reads a file of a kind to arrays or tensors, as everyone does."""
  if kind == 'npz':
    def read(path):
      with np.load(path) as file:
        return {name: file[name] for name in file.files}
    return read
  if kind == 'safetensors':
    from safetensors.numpy import load_file
    return load_file
  import torch
  return lambda path: torch.load(path, weights_only=True)


def reader(side: str, kind: str, model: str):
  """Returns the function of a side: 'plain', 'read' or 'load'."""
  if side == 'plain':
    return plain(kind)
  if side == 'read':
    from vit_jax.weights import containers
    return containers.read
  import jax

  from vit_jax.weights import loading
  def load(path):
    return jax.block_until_ready(loading.load(model, path, verbose=False).variables)
  jax.numpy.zeros(1).block_until_ready()  # the device is up
  return load


class Peak:
  """Follows the anonymous memory of this process: what it holds, without the file's cached pages."""

  def __enter__(self):
    self.start, self.most, self._stop = self._now(), 0, threading.Event()
    self._thread = threading.Thread(target=self._watch)
    self._thread.start()
    return self

  def __exit__(self, *_):
    self._stop.set()
    self._thread.join()

  def _now(self) -> int:
    with open('/proc/self/statm') as file:
      _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * resource.getpagesize()

  def _watch(self):
    while not self._stop.wait(.005):
      self.most = max(self.most, self._now() - self.start)


def once(side: str, kind: str, path: str, model: str) -> tuple[float, float]:
  """Returns (CPU seconds, largest memory in bytes) of one reading in this process."""
  function = reader(side, kind, model)
  before = time.process_time()
  with Peak() as peak:
    kept = function(path)
    spent = time.process_time() - before
  assert kept
  return spent, peak.most


def ask(*arguments: str) -> tuple[float, float]:
  """Returns what `once` gives in a fresh process."""
  out = subprocess.run([sys.executable, '-m', 'benchmarks.load_weights', '--once', *arguments],
                       check=True, text=True, stdout=subprocess.PIPE,
                       env={**os.environ, 'JAX_PLATFORMS': 'cpu', **sides.ONE_THREAD})
  seconds, memory = out.stdout.split()[-2:]
  return float(seconds), float(memory)


def row(kind: str, path: str, model: str, rounds: int) -> str:
  """Returns a line of the table."""
  found = {side: [ask(side, kind, path, model) for _ in range(rounds)]
           for side in ('plain', 'read', 'load')}
  seconds = {side: statistics.median(s for s, _ in values) for side, values in found.items()}
  size = os.path.getsize(path)
  memory = {side: max(m for _, m in values) / size for side, values in found.items()}
  cells = (f'`.{kind}`', *(f'{seconds[s]:.2f}' for s in found),
           f'**{seconds["read"] / seconds["plain"]:.2f}**', f'{seconds["load"] / seconds["plain"]:.2f}',
           *(f'{memory[s]:.2f}' for s in found))
  return '| ' + ' | '.join(cells) + ' |'


def main() -> None:
  """Prints the table."""
  flags = argparse.ArgumentParser(prog='python -m benchmarks.load_weights', description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('--model', default='vit_l16')
  flags.add_argument('--rounds', type=int, default=3)
  flags.add_argument('--once', nargs=4, help=argparse.SUPPRESS)
  flags = flags.parse_args()
  if flags.once:
    print(*once(*flags.once))
    return
  sides.pin(sides.last_core())
  with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.executable, '-c', 'import sys; from benchmarks import load_weights; '
                    'load_weights.write(*sys.argv[1:])', folder, flags.model], check=True)
    print('| file | plain, CPU s | `weights` | `vit_jax.load` | weights / plain | load / plain '
          '| memory / file: plain | weights | load |\n|' + '---|' * 9)
    for kind, name in FILES.items():
      path = os.path.join(folder, name)
      if os.path.exists(path):
        print(row(kind, path, flags.model, flags.rounds), flush=True)


if __name__ == '__main__':
  main()
