"""What matrix products run at on one CPU core, in XLA and in PyTorch: the rate that a network can reach.

    python -m benchmarks.products

GFLOP/s (two operations a multiply-add) of float32 products `[rows, inner] @ [inner, columns]` of the
shapes of a ViT-S and a ViT-B, CPU time of one thread pinned to one core, the median of 7 rounds in turn;
the last line weighs all by their operations. PyTorch is left out where it is not installed.
"""

import argparse
import os
import statistics
import time

import numpy as np

from benchmarks import sides

SHAPES = [(1024, 384, 1536), (1024, 1536, 384), (1024, 384, 384), (197, 768, 3072), (197, 3072, 768),
          (197, 768, 768), (1576, 768, 2304)]
ROUNDS, SECONDS = 7, .3


def rate(call, operations: int) -> float:
  """Returns operations per second of CPU time of a function."""
  call()
  start, calls = time.process_time(), 0
  while time.process_time() - start < SECONDS:
    call()
    calls += 1
  return operations * calls / (time.process_time() - start)


def ours(a: np.ndarray, b: np.ndarray):
  """Returns a call of XLA's product, compiled as users compile."""
  import jax

  from vit_jax import compilation
  a, b = jax.device_put(a), jax.device_put(b)
  product = compilation.jit(lambda a, b: a @ b)
  return lambda: product(a, b).block_until_ready()


def theirs(a: np.ndarray, b: np.ndarray):
  """Returns a call of PyTorch's product."""
  import torch
  torch.set_num_threads(1)
  a, b = torch.from_numpy(a), torch.from_numpy(b)
  return lambda: a @ b


def main() -> None:
  """Prints a line for each shape."""
  flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  flags.add_argument('--core', type=int, default=sides.last_core())
  sides.pin(flags.parse_args().core)
  os.environ.update({'JAX_PLATFORMS': 'cpu', **sides.ONE_THREAD})
  kinds, random = {'XLA': ours, 'PyTorch': theirs}, np.random.default_rng(0)
  try:
    import torch  # noqa: F401
  except ImportError:
    del kinds['PyTorch']
  print('| rows x inner x columns | ' + ' | '.join(kinds) + ' |\n|' + '---|' * (1 + len(kinds)))
  time_of = dict.fromkeys(kinds, 0.)
  for shape in SHAPES:
    rows, inner, columns = shape
    arrays = (random.normal(size=(rows, inner)).astype(np.float32),
              random.normal(size=(inner, columns)).astype(np.float32))
    calls, operations = {kind: make(*arrays) for kind, make in kinds.items()}, 2 * rows * inner * columns
    found = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
      for kind, call in calls.items():
        found[kind].append(rate(call, operations))
    medians = {kind: statistics.median(values) for kind, values in found.items()}
    for kind, value in medians.items():
      time_of[kind] += operations / value
    print(f'| {rows} x {inner} x {columns} | '
          + ' | '.join(f'{value / 1e9:.0f}' for value in medians.values()) + ' |', flush=True)
  total = sum(2 * r * i * c for r, i, c in SHAPES)
  print('| all | ' + ' | '.join(f'{total / t / 1e9:.0f}' for t in time_of.values()) + ' |')


if __name__ == '__main__':
  main()
