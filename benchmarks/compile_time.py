"""CPU time to compile the train step of ViT-L/16 at several depths.

    python -m benchmarks.compile_time                 # layers scanned
    python -m benchmarks.compile_time --one_by_one
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time

from benchmarks import sides

DEPTHS = (12, 24, 48)


def measure(depth: int, scan: bool, batch: int = 8) -> None:
  """Prints the seconds to trace and to compile, and the peak memory in MB, as JSON."""
  import jax
  import jax.numpy as jnp

  import vit_jax
  from vit_jax.optim import optimizers
  from vit_jax import sharding
  from vit_jax.training import step as step_lib
  from vit_jax.data.info import Info
  from vit_jax.tasks.classification import Classification
  model = vit_jax.create_model('vit_l16', depth=depth, scan=scan)
  task = Classification(model, Info('', tuple(map(str, range(1000))), 3, (224, 224)))
  schedule = lambda step: jnp.asarray(1e-3)
  example = dict(image=jax.ShapeDtypeStruct((batch, 224, 224, 3), jnp.uint8),
                 label=jax.ShapeDtypeStruct((batch,), jnp.int32),
                 mask=jax.ShapeDtypeStruct((batch,), jnp.float32))
  mesh, kept = sharding.make_mesh(), []

  def create():
    state, optimizer, _ = step_lib.create_state(
        task, lambda shapes: optimizers.make(shapes, schedule, name='adamw'), example, mesh,
        task.family.rules, 0, False)
    kept.append(optimizer)
    return state

  with jax.set_mesh(mesh):
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=sharding.replicated(mesh)), jax.eval_shape(create))
    train_step = step_lib.make(task, kept[0], schedule, state, seed=0)
    start = time.process_time()
    lowered = train_step.lower(state, example)
    traced = time.process_time()
    lowered.compile()
    ended = time.process_time()
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  print(json.dumps([traced - start, ended - traced, peak]))


def run(depth: int, scan: bool, rounds: int = 1) -> list[float]:
  """Returns the medians over `rounds` processes."""
  command = [sys.executable, '-m', 'benchmarks.compile_time', str(depth), str(int(scan))]
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_COMPILATION_CACHE_DIR': ''}
  found = [json.loads(subprocess.run(command, check=True, env=environment, text=True,
                                     stdout=subprocess.PIPE).stdout) for _ in range(rounds)]
  return [statistics.median(column) for column in zip(*found)]


def main() -> None:
  """Prints the table."""
  sides.pin(sides.last_core())
  scan = sys.argv[1:] != ['--one_by_one']
  print(f'| depth ({"scanned" if scan else "one by one"}) | trace, CPU s | compile, CPU s '
        '| process memory, MB |\n|---|---|---|---|')
  for depth in DEPTHS:
    traced, compiled, peak = run(depth, scan)
    print(f'| {depth} | {traced:.1f} | {compiled:.1f} | {peak:.0f} |', flush=True)


if __name__ == '__main__':
  if len(sys.argv) == 3:
    measure(int(sys.argv[1]), bool(int(sys.argv[2])))
  else:
    main()
