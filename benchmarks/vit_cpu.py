"""ViT on one CPU core next to timm: forward pass and train step, float32, the same weights.

    python -m benchmarks.vit_cpu forward
    python -m benchmarks.vit_cpu train --sizes=ti,s

Prints a table, after the outputs (forward) or the loss and every gradient (train) were found equal,
and those of deliberately wrong weights unequal. Needs torch and timm: pip install -e '.[peers]'.
"""

import argparse
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks import sides

MODES = dict(forward=('eager', 'compile', 'freeze'), train=('eager', 'compile'))
BATCH = dict(forward=dict(ti=8, s=8, b=4), train=dict(ti=8, s=8, b=4))
STEPS = dict(forward=dict(ti=6, s=3, b=2), train=dict(ti=3, s=1, b=1))
TOLERANCE = dict(forward=1e-5, train=1e-4)


def train_error(ours, theirs) -> float:
  """Returns the largest relative error of the loss and of all gradients, each in its L2 norm.

  Key biases have no gradient (softmax ignores what is added to a whole row): what rounding
  leaves there is measured against the gradient of the query biases.
  """
  assert set(ours) == set(theirs), set(ours) ^ set(theirs)
  norm = np.linalg.norm
  return max(float(norm(ours[k] - v) / norm(theirs[k.replace('/key/bias', '/query/bias')]))
             for k, v in theirs.items())


def measure(kind: str, size: str, rounds: int, core: int) -> str:
  """Returns a line of the table."""
  batch = str(BATCH[kind][size])
  error = dict(forward=sides.forward_error, train=train_error)[kind]
  with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.executable, '-m', 'benchmarks.timm_side', folder, size, kind, batch,
                    'write'], check=True)
    ours = sides.Side('our_side', folder, size, kind)
    peers = {m: sides.Side('timm_side', folder, size, kind, batch, m) for m in MODES[kind]}
    try:
      for side in (ours, *peers.values()):
        side.ask('check')
      found = sides.errors(folder, MODES[kind], error, TOLERANCE[kind])
      sides.alternate((ours, *peers.values()), rounds, STEPS[kind][size])
    finally:
      for side in (ours, *peers.values()):
        side.close()
  return sides.row(size.capitalize(), int(batch), ours, peers, found)


def main() -> None:
  """Prints the table for the sizes asked for."""
  flags = argparse.ArgumentParser(prog='python -m benchmarks.vit_cpu', description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('kind', choices=MODES)
  flags.add_argument('--sizes', default='ti,s,b')
  flags.add_argument('--rounds', type=int, default=7, help='timings of each side, in turn')
  flags.add_argument('--core', type=int, default=sides.last_core())
  flags = flags.parse_args()
  sides.pin(flags.core)
  sides.print_header('ViT', [f'timm {m}' for m in MODES[flags.kind]], flags.rounds)
  for size in flags.sizes.split(','):
    print(measure(flags.kind, size, flags.rounds, flags.core), flush=True)


if __name__ == '__main__':
  main()
