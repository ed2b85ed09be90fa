"""CPU time until a command line or an import is ready.

    python -m benchmarks.startup
"""

import resource
import statistics
import subprocess
import sys

from benchmarks import sides

COMMANDS = {
    'python -c pass': ('-c', 'pass'),
    'import vit_jax': ('-c', 'import vit_jax'),
    'vit_jax.create_model, vit_jax.load': (
        '-c', 'import vit_jax; vit_jax.create_model; vit_jax.load'),
    'import jax, flax.linen, optax': ('-c', 'import jax, flax.linen, optax'),
    'python -m vit_jax.main --help': ('-m', 'vit_jax.main', '--help'),
    'import vit_jax.training.loop': ('-c', 'import vit_jax.training.loop'),
}


def cpu_seconds(arguments) -> float:
  """Returns the CPU time of one run."""
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
  """Prints the table: medians of five runs after a first one."""
  sides.pin(sides.last_core())
  print('| what | CPU s |\n|---|---|')
  for name, arguments in COMMANDS.items():
    cpu_seconds(arguments)
    print(f'| `{name}` | {statistics.median(cpu_seconds(arguments) for _ in range(5)):.2f} |')


if __name__ == '__main__':
  main()
