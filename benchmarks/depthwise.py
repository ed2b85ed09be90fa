"""Forms of the depthwise 7x7 convolution at ConvNeXt-T's maps: time per image, float32.

    python -m benchmarks.depthwise

On a CPU, CPU time of one process with one thread, pinned to one core; else seconds of the device. The
forms: `convolution`, XLA's with a group per channel, differentiated by JAX; `own`, what
`vit_jax.layers.depthwise` chooses, with its gradient.
"""

import argparse
import time

import jax
import jax.numpy as jnp

from benchmarks.neighborhood import spent
from benchmarks.sides import last_core, pin
from vit_jax import compilation
from vit_jax.layers import depthwise

FORMS = dict(convolution=depthwise._grouped, own=depthwise.depthwise)
MAPS = ((56, 96), (28, 192), (14, 384), (7, 768))


def main() -> None:
  """Prints a line for each map and form."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--batch', type=int, default=4, help='images of a call')
  options = parser.parse_args()
  cpu = jax.default_backend() == 'cpu'
  clock = time.process_time if cpu else time.perf_counter
  if cpu:
    pin(last_core())
  for side, channels in MAPS:
    x = jax.random.normal(jax.random.key(0), (options.batch, side, side, channels))
    kernel = jax.random.normal(jax.random.key(1), (7, 7, channels))
    for name, form in FORMS.items():
      both = compilation.jit(jax.value_and_grad(
          lambda x, k, form=form: jnp.square(form(x, k)).sum(), (0, 1)))
      times = [spent(run, (x, kernel), clock) / options.batch for run in (compilation.jit(form), both)]
      print(f'{side:3}x{side:<3} {channels:4} {name:12} forward {1e3 * times[0]:8.3f} ms, '
            f'with gradient {1e3 * times[1]:8.3f} ms', flush=True)


if __name__ == '__main__':
  main()
