"""Forms of neighborhood attention at NAT-mini's maps: time per image, and memory, float32, 7x7 windows.

    python -m benchmarks.neighborhood
    python -m benchmarks.neighborhood --forms=auto,gather --maps=56x56x2 --batch=1

On a CPU, CPU time of one process with one thread, pinned to one core; else seconds of the device. The
forms: `gather`, each query's 49 keys, differentiated by JAX; `dense`, all pairs and a mask; `tN`, tiles
of N x N queries; `auto`, what `vit_jax.layers.neighborhood` chooses. The last three have its gradient. A
form is refused unless its output and gradients are those of `gather`.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.sides import last_core, pin
from vit_jax import compilation
from vit_jax.layers.neighborhood import Plan, Tiling, attend, tiling, window

KERNEL, HEAD_DIM = 7, 32


def gather(query, key, value, bias):
  """Attention of `[n, heads, h, w, c]` that gathers every window."""
  places, steps = zip(*([x[0] for x in window(n, n, KERNEL)] for n in query.shape[2:4]))
  at = lambda x, rows, columns: x[..., rows[:, None, :, None], columns[None, :, None, :], :]
  scores = jnp.einsum('nhyxc,nhyxijc->nhyxij', query, at(key, *places))
  scores += at(bias[..., None], *steps)[..., 0]
  weights = jax.nn.softmax(scores.reshape(*scores.shape[:4], -1)).reshape(scores.shape)
  return jnp.einsum('nhyxij,nhyxijc->nhyxc', weights, at(value, *places))


def cut(form: str, length: int) -> Tiling:
  """Returns the tiles of an axis in a form."""
  if form == 'dense':
    return Tiling(length, 1, 0, length)
  if form == 'auto':
    return tiling(length, KERNEL, (length,))
  size, radius = int(form.removeprefix('t')), KERNEL // 2
  before = radius * (1 + ((length - 1) % size < radius))
  return Tiling(size, -(-length // size), before, before + size + radius)


def function(form: str, size: tuple[int, int]):
  """Returns (query, key, value, bias) -> output in a form."""
  if form == 'gather':
    return gather
  plan, sizes = Plan(KERNEL, *(cut(form, n) for n in size)), [np.array([n]) for n in size]
  return lambda *args: attend(plan, *args, *sizes)


def spent(run, args, clock, least: float = .3) -> float:
  """Returns the median time of a call, over 5 rounds."""
  jax.block_until_ready(run(*args))
  start, times = clock(), []
  jax.block_until_ready(run(*args))
  calls = max(1, int(least / max(clock() - start, 1e-6)))
  for _ in range(5):
    start = clock()
    for _ in range(calls):
      out = run(*args)
    jax.block_until_ready(out)
    times.append((clock() - start) / calls)
  return statistics.median(times)


def measure(form: str, args, gradient, clock):
  """Returns times and temporary memory of forward, and of forward and gradient, and the results."""
  run = function(form, args[0].shape[2:4])
  both = lambda *args: (lambda out, back: (out, *back(gradient)))(*jax.vjp(run, *args))
  found = []
  for whole in (run, both):
    compiled = compilation.jit(whole).lower(*args).compile()
    memory = compiled.memory_analysis().temp_size_in_bytes
    found.append((spent(compiled, args, clock), memory))
  return found, compiled(*args)


def rows(text: str, forms: list[str], batch: int, clock) -> None:
  """Prints a row of the table for each form at a map such as '56x56x2', the heads last."""
  height, width, heads = map(int, text.split('x'))
  rng, cpu = np.random.default_rng(0), jax.default_backend() == 'cpu'
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  query, key, value, gradient = (draw(batch, heads, height, width, HEAD_DIM) for _ in range(4))
  args = query * HEAD_DIM ** -.5, key, value, draw(heads, 2 * KERNEL - 1, 2 * KERNEL - 1)
  with jax.default_matmul_precision('highest'):
    out, back = jax.vjp(gather, *args)
  want = out, *back(gradient)
  for form in forms:
    if form.startswith('t') and int(form[1:]) >= height:
      continue
    found, got = measure(form, args, gradient, clock)
    error = max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in zip(got, want))
    if error > (1e-5 if cpu else 1e-2):  # an accelerator's products may be coarse
      raise SystemExit(f'{form} at {text} is {error:.0e} from the definition')
    cells = [f'{1e3 * t / batch:.2f}' for t, _ in found] + [f'{m / batch / 1e6:.1f}' for _, m in found]
    print(f'| {text} | {form} | ' + ' | '.join(cells) + ' |', flush=True)


def main() -> None:
  """Prints a table."""
  flags = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('--forms', default='auto,dense,t7,t8,t10,t14,gather')
  flags.add_argument('--maps', default='56x56x2,28x28x4,14x14x8,7x7x16')
  flags.add_argument('--batch', type=int, default=4)
  flags = flags.parse_args()
  pin(last_core())
  clock = time.process_time if jax.default_backend() == 'cpu' else time.perf_counter
  print('| map, heads | form | forward ms/image | and gradient | temporary MB/image | and gradient |\n'
        '|---|---|---|---|---|---|')
  for text in flags.maps.split(','):
    rows(text, flags.forms.split(','), flags.batch, clock)


if __name__ == '__main__':
  main()
