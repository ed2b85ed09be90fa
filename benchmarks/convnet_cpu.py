"""ResNet-50 and BiT-R50x1 on one CPU core next to torchvision and timm: forward pass, float32, 224x224.

    python -m benchmarks.convnet_cpu
    python -m benchmarks.convnet_cpu --models=resnet50 --batches=1

Prints a table, after the logits of the same weights were found equal to those in float64, and those of
deliberately wrong weights unequal. Needs torch, torchvision and timm: pip install -e '.[peers]'.
"""

import argparse
import subprocess
import sys
import tempfile

from benchmarks import sides

MODES = dict(eager='eager', nhwc='eager, channels last', freeze='compile + freezing')


def measure(name: str, batch: int, rounds: int) -> str:
  """Returns a line of the table."""
  with tempfile.TemporaryDirectory() as folder:
    peer = (folder, name, str(batch))
    subprocess.run([sys.executable, '-m', 'benchmarks.convnet_side', *peer, 'write'], check=True)
    ours = sides.Side('our_side', folder, name, 'convnet')
    peers = {mode: sides.Side('convnet_side', *peer, mode) for mode in MODES}
    try:
      for side in (ours, *peers.values()):
        side.ask('check')
      sides.errors(folder, tuple(MODES), tolerance=1e-4)  # compiled, timm's BiT itself is off by 1e-5
      found = sides.errors(folder, ('exact',))
      sides.alternate((ours, *peers.values()), rounds, 2 if batch == 1 else 1)
    finally:
      for side in (ours, *peers.values()):
        side.close()
  return sides.row(name, batch, ours, peers, found)


def main() -> None:
  """Prints the table for the models and batches asked for."""
  flags = argparse.ArgumentParser(prog='python -m benchmarks.convnet_cpu', description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('--models', default='resnet50,bit_r50x1')
  flags.add_argument('--batches', default='1,8')
  flags.add_argument('--rounds', type=int, default=5, help='timings of each side, in turn')
  flags.add_argument('--core', type=int, default=sides.last_core())
  flags = flags.parse_args()
  sides.pin(flags.core)
  sides.print_header('model', tuple(MODES.values()), flags.rounds)
  for name in flags.models.split(','):
    for batch in flags.batches.split(','):
      print(measure(name, int(batch), flags.rounds), flush=True)


if __name__ == '__main__':
  main()
