"""Time and memory of the augmentation that runs on the device, at 224x224.

    python -m benchmarks.augment                  # batch 64, one core
    python -m benchmarks.augment 1024 --any       # another batch, on whatever device JAX finds
"""

import os
import statistics
import sys
import time

from benchmarks import sides

RECIPES = {
    'flip': [dict(name='flip')],
    'RandAugment tf, 1 layer': [dict(name='randaugment', layers=1, magnitude=15)],
    'RandAugment tf, 2 layers (AugReg)': [dict(name='randaugment', layers=2, magnitude=15)],
    'RandAugment pil, 2 layers (DeiT, Swin)': [
        dict(name='randaugment', flavor='pil', magnitude=9, magnitude_std=.5, increasing=True)],
    'AutoAugment v0': [dict(name='autoaugment', policy='v0')],
    'three-augment + colour jitter (DeiT III)': [
        dict(name='three_augment'),
        dict(name='color_jitter', brightness=.3, contrast=.3, saturation=.3)],
    'random erasing': [dict(name='random_erasing')],
    'mixup + cutmix': [dict(name='mixup_cutmix')],
    'erasing + mixup + cutmix (DeiT)': [dict(name='random_erasing'), dict(name='mixup_cutmix')],
}


def measure(ops, batch: int, rounds: int = 7) -> tuple[list[float], float, float]:
  """Returns seconds per batch, seconds to compile and MB of working memory, inputs left out."""
  import jax
  import jax.numpy as jnp

  from vit_jax.data import augment
  images = jax.random.uniform(jax.random.key(0), (batch, 224, 224, 3))
  targets = jax.nn.one_hot(jnp.arange(batch), 1000)
  start = time.perf_counter()
  compiled = jax.jit(lambda x, t, k: augment.apply(x, t, k, ops)).lower(
      images, targets, jax.random.key(1)).compile()
  compile_seconds = time.perf_counter() - start
  clock = time.process_time if jax.default_backend() == 'cpu' else time.perf_counter
  seconds = []
  for i in range(rounds + 1):
    start = clock()
    jax.block_until_ready(compiled(images, targets, jax.random.key(i)))
    seconds.append(clock() - start)
  return seconds[1:], compile_seconds, compiled.memory_analysis().temp_size_in_bytes / 2 ** 20


def main(arguments: list[str]) -> None:
  """Prints a row of the table in README.md for each recipe."""
  if '--any' not in arguments:
    sides.pin(sides.last_core())
    os.environ['JAX_PLATFORMS'] = 'cpu'
  batch = int(next((a for a in arguments if a.isdigit()), 64))
  print('| augmentation | ms per image | images/s | compile, s | memory, MB per image |')
  print('|---|---|---|---|---|')
  for name, ops in RECIPES.items():
    seconds, compile_seconds, memory = measure(ops, batch)
    middle, low, high = (1e3 * f(seconds) / batch for f in (statistics.median, min, max))
    print(f'| {name} | {middle:.2f} ({low:.2f}-{high:.2f}) | {1e3 / middle:.0f} | '
          f'{compile_seconds:.1f} | {memory / batch:.2f} |', flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
