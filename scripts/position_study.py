"""What interpolated position embeddings are worth: one checkpoint, fine-tuned at a higher resolution.

    python scripts/position_study.py runs/pretrain runs/study --resolution=48 --steps=120 --seeds=3

From the weights of a run three files are written that differ in the position table alone: interpolated
in 2-D (as `init_from` always does), not interpolated (the old table in the upper left corner, zeros
elsewhere), and fresh (random, as a new model's). Each is evaluated as it is and then fine-tuned by
configs/vit_finetune.py with every seed. Prints a table.
"""

import argparse
import os

import numpy as np

from vit_jax import compilation, config as config_lib, errors, models, weights
from vit_jax.training import evaluate, loop
from vit_jax.layers.positions import resample

WAYS = ('interpolated', 'not interpolated', 'fresh')


def parser() -> argparse.ArgumentParser:
  """Returns the flags of this command line."""
  flags = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('run', help='workdir of a run with learned positions')
  flags.add_argument('workdir', help='where the files and runs go')
  flags.add_argument('--resolution', type=int, default=48)
  flags.add_argument('--steps', type=int, default=120)
  flags.add_argument('--batch_size', type=int, default=128)
  flags.add_argument('--lr', type=float, default=.01)
  flags.add_argument('--seeds', type=int, default=3)
  flags.add_argument('--test', default='test', help="split that is scored, such as 'test[:20%%]'")
  return flags


def table(way: str, old: np.ndarray, grid, new, extra: int) -> np.ndarray:
  """Returns the position table `[1, extra + new patches, width]` of a way.

  Args:
    way: one of `WAYS`.
    old: `[1, extra + patches, width]`.
    grid, new: (height, width) in patches of the old table and of the new one.
    extra: positions of tokens that are no patches, which are kept.
  """
  if way == 'interpolated':
    return resample(old, grid, new, extra)
  out = np.zeros((1, extra + new[0] * new[1], old.shape[-1]), np.float32)
  if way == 'fresh':
    return np.random.default_rng(0).normal(0., .02, out.shape).astype(np.float32)
  out[:, :extra] = old[:, :extra]
  patches = out[:, extra:].reshape(*new, -1)
  patches[:grid[0], :grid[1]] = old[0, extra:].reshape(*grid, -1)
  return out


def write_ways(run: str, workdir: str, resolution: int) -> dict[str, str]:
  """Writes the three weight files and returns {way: path}."""
  loaded = weights.load(run, verbose=False)
  shapes = [models.family(loaded.model).grid(loaded.model, size)
            for size in (loaded.info.image_size, (resolution, resolution))]
  paths = {}
  for way in WAYS:
    flat = dict(weights.flatten(loaded.variables))
    flat[weights.POSITIONS] = table(way, np.asarray(flat[weights.POSITIONS]), shapes[0].size,
                                    shapes[1].size, shapes[0].positions)
    paths[way] = os.path.join(workdir, f'{way.replace(" ", "_")}.npz')
    weights.export(paths[way], loaded.model, weights.unflatten(flat))
  return paths


def configure(run: str, path: str, flags, seed: int):
  """Returns the fine-tuning config: vit_finetune's recipe for the run's model and data."""
  old = weights.run_config(run)
  spec = (f'configs/vit_finetune.py:model={old["model"]["name"]},dataset={old["data"]["source"]},'
          f'init_from={path},resolution={flags.resolution},batch_size={flags.batch_size},'
          f'steps={flags.steps},lr={flags.lr}')
  config = config_lib.load(spec, {'seed': str(seed)})
  with config.unlocked():
    own = ('scan', 'remat', 'dropout_rate')
    config.model.update({k: v for k, v in old['model'].items() if k not in own})
    config.schedule.warmup_steps = flags.steps // 6
    config.evaluate.every = config.checkpoint.every = 0
    for key in ('channels', 'train', 'data_dir', 'classes'):
      config.data[key] = old['data'][key]
    config.data.test = flags.test
  return config


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  compilation.enable_cache()
  compilation.keep_freed_memory()
  os.makedirs(flags.workdir, exist_ok=True)
  lines = ['| position table | before fine-tuning | after: mean, standard deviation | seeds |',
           '|---|---|---|---|']
  for way, path in write_ways(flags.run, flags.workdir, flags.resolution).items():
    before = evaluate.evaluate(configure(flags.run, path, flags, 0))['test/accuracy']
    after = []
    for seed in range(flags.seeds):
      workdir = os.path.join(flags.workdir, f'{way.replace(" ", "_")}_{seed}')
      after.append(loop.train(configure(flags.run, path, flags, seed), workdir)['test_accuracy'])
    seeds = ', '.join(f'{100. * a:.1f}' for a in after)
    lines.append(f'| {way} | {100. * before:.1f} % | {100. * np.mean(after):.1f} ± '
                 f'{100. * np.std(after, ddof=min(1, len(after) - 1)):.1f} % | {seeds} |')
  print('\n'.join(lines))


if __name__ == '__main__':
  errors.exit_cleanly('position_study', main)
