"""The train step of ViT-B/16 at 224 and ViT-L/16 at 384 on one GPU in bfloat16, next to timm.

    python -m benchmarks.gpu_train

Images per second, and the share that the step's operations are of the rate that large matrix
products reach on the same GPU. timm: torch.compile, autocast to bfloat16, fused AdamW. One process
per side and turn, median of 20 steps after 5; weights are random and the outputs not compared,
which `benchmarks.vit_cpu` does. Needs JAX for CUDA, torch and timm.
"""

import json
import statistics
import subprocess
import sys
import time

CASES = (('vit_b16', 'vit_base_patch16_224', 224, 256),
         ('vit_l16', 'vit_large_patch16_384', 384, 64))
TURNS, WARM, STEPS = 3, 5, 20


def median_seconds(step, wait) -> float:
  """Returns the median time of a step; `wait` blocks until its results are there."""
  seconds = []
  for i in range(WARM + STEPS):
    start = time.perf_counter()
    wait(step(i))
    seconds.append(time.perf_counter() - start)
  return statistics.median(seconds[WARM:])


def matrix() -> float:
  """Returns the operations per second of a large bfloat16 matrix product."""
  import jax
  import jax.numpy as jnp
  size = 8192
  a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.bfloat16)
  product = jax.jit(lambda a, b: a @ b)
  return 2. * size ** 3 / median_seconds(lambda i: product(a, b), jax.block_until_ready)


def ours(name: str, size: int, batch: int) -> float:
  """Returns the seconds of the project's own train step on images that lie on the device."""
  import jax
  import jax.numpy as jnp

  import vit_jax
  from vit_jax.optim import optimizers
  from vit_jax import sharding
  from vit_jax.training import step as step_lib
  from vit_jax.data.info import Info
  from vit_jax.tasks.classification import Classification
  task = Classification(vit_jax.create_model(name, scan=True, dtype='bfloat16'),
                        Info('', tuple(map(str, range(1000))), 3, (size, size)))
  schedule = lambda step: jnp.asarray(1e-4)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    keys = jax.random.split(jax.random.key(0), 3)
    batches = [dict(image=jax.random.bits(k, (batch, size, size, 3), jnp.uint8),
                    label=jax.random.randint(k, (batch,), 0, 1000), mask=jnp.ones(batch))
               for k in keys]
    state, optimizer, _ = step_lib.create_state(
        task, lambda shapes: optimizers.make(shapes, schedule, name='adamw', weight_decay=.05),
        batches[0], mesh, task.family.rules, 0, False)
    train_step, kept = step_lib.make(task, optimizer, schedule, state, seed=0), [state]

    def step(i):
      kept[0], sums = train_step(kept[0], batches[i % 3])
      return kept[0], sums

    return median_seconds(step, jax.block_until_ready)


def timm(name: str, size: int, batch: int) -> float:
  """Returns the seconds of a train step of timm's model, compiled."""
  import timm as timm_lib
  import torch
  torch.set_float32_matmul_precision('high')
  model = timm_lib.create_model(name).cuda().train()
  adam = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=.05, fused=True)
  images = torch.randn(3, batch, 3, size, size, device='cuda')
  labels = torch.randint(0, 1000, (3, batch), device='cuda')
  call = torch.compile(model, mode='max-autotune-no-cudagraphs')

  def step(i):
    with torch.autocast('cuda', torch.bfloat16):
      loss = torch.nn.functional.cross_entropy(call(images[i % 3]), labels[i % 3])
    adam.zero_grad(set_to_none=True)
    loss.backward()
    adam.step()

  return median_seconds(step, lambda _: torch.cuda.synchronize())


def child(*arguments) -> float:
  """Returns what a fresh process with these arguments prints last."""
  command = [sys.executable, '-m', 'benchmarks.gpu_train', *map(str, arguments)]
  output = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
  return json.loads(output.splitlines()[-1])


def has_gpu() -> bool:
  """Tells whether JAX sees a GPU; asked in another process, which gives its memory back."""
  command = 'import jax; raise SystemExit(jax.default_backend() != "gpu")'
  return subprocess.run([sys.executable, '-c', command]).returncode == 0


def main() -> None:
  """Prints the table."""
  if not has_gpu():
    raise SystemExit('JAX sees no GPU: nothing measured.')
  import vit_jax
  from benchmarks import flops
  rate = child('matrix')
  print(f'matrix products: {rate / 1e12:.0f} TFLOP/s\n\n| model | batch | vit_jax, images/s | '
        'share | timm compiled, images/s | share | ours / timm |\n|---|---|---|---|---|---|---|')
  for name, theirs, size, batch in CASES:
    seconds = [(child('ours', name, size, batch), child('timm', theirs, size, batch))
               for _ in range(TURNS)]
    speeds = [batch / statistics.median(column) for column in zip(*seconds)]
    work = flops.train(vit_jax.create_model(name), (size, size)) / rate
    cells = ' | '.join(f'{s:.0f} | {s * work:.0%}' for s in speeds)
    print(f'| {name} at {size} | {batch} | {cells} | **{speeds[0] / speeds[1]:.2f}** |', flush=True)


if __name__ == '__main__':
  if len(sys.argv) > 1:
    side, *rest = sys.argv[1:]
    rest = [int(a) if a.isdigit() else a for a in rest]
    print(json.dumps({'matrix': matrix, 'ours': ours, 'timm': timm}[side](*rest)))
  else:
    main()
