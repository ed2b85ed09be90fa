"""What windows that slide cost beside the network: a Segmenter on one CPU core, float32.

    python -m benchmarks.sliding
    python -m benchmarks.sliding --model=segmenter_b16_linear --size=512x1024

CPU time of the classes of one image by `Inference`, beside that of the network on the same windows, in
turn, the median of 5 rounds of a process pinned to one core.
"""

import argparse
import os
import statistics
import time

from benchmarks import sides

ROUNDS = 5


def main() -> None:
  """Prints both times and their ratio."""
  flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  flags.add_argument('--model', default='segmenter_s16_linear')
  flags.add_argument('--size', default='480x640', help='of the image')
  flags.add_argument('--window', type=int, default=480)
  flags.add_argument('--stride', type=int, default=320)
  flags.add_argument('--core', type=int, default=sides.last_core())
  flags = flags.parse_args()
  sides.pin(flags.core)
  os.environ.update({'JAX_PLATFORMS': 'cpu', **sides.ONE_THREAD})
  import jax
  import jax.numpy as jnp

  from detr_jax.models import pixels
  from detr_jax.ops.windows import Inference
  from vit_jax import compilation
  compilation.keep_freed_memory()
  height, width = map(int, flags.size.split('x'))
  model, window = pixels.create_model(flags.model), flags.window
  image = jax.random.normal(jax.random.key(0), (1, height, width, 3))
  part = image[:, :window, :window]
  variables = jax.jit(model.init)(jax.random.key(1), part)
  logits = lambda variables, x: model.apply(variables, x).logits
  how, size = Inference(window=window, stride=flags.stride), jnp.asarray([[height, width]])
  count = 1
  for n in (height, width):
    count *= 1 + max(-(-(n - window) // flags.stride), 0)
  calls = dict(
      network=compilation.jit(lambda v: jax.lax.map(lambda x: logits(v, x), jnp.stack([part] * count))),
      sliding=compilation.jit(lambda v: how.classes(lambda x: logits(v, x), image, size)))
  times = {name: [] for name in calls}
  for i in range(ROUNDS + 1):
    for name, call in calls.items():
      start = time.process_time()
      call(variables).block_until_ready()
      times[name].append(time.process_time() - start) if i else None
  network, sliding = (statistics.median(t) for t in times.values())
  print(f'{flags.model}, {flags.size}, {count} windows of {window}: network {1e3 * network:.0f} ms, '
        f'sliding {1e3 * sliding:.0f} ms, {sliding / network - 1.:+.1%}')


if __name__ == '__main__':
  main()
