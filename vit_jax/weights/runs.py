"""Reading a run: what its workdir holds, which checkpoint is meant, and the parameters in it."""

import functools
import math
import os
import sys

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from vit_jax import files, trees
from vit_jax.errors import UserError
from vit_jax.weights import integrity

BEST = '@best'  # behind a workdir: its best checkpoint instead of the newest one
METRICS = ('metrics', 'metrics')  # Orbax's names
SCORE = 'score'  # among the metrics of a checkpoint: by which they are compared, larger is better


def checkpoint_folder(workdir: str) -> str:
  """Returns where a run keeps its checkpoints."""
  return os.path.join(os.path.abspath(workdir), 'checkpoints')


def steps_in(folder: str) -> list[int]:
  """Returns the steps in a folder of checkpoints, whole or not, the newest first."""
  if not os.path.isdir(folder):
    return []
  return sorted((int(e.name) for e in os.scandir(folder) if e.name.isdigit() and e.is_dir()),
                reverse=True)


def exists(workdir: str) -> bool:
  """Tells whether a run has a past: a checkpoint, readable or not, or one that was put aside."""
  folder = checkpoint_folder(workdir)
  return bool(steps_in(folder)) or os.path.isdir(folder) and any(
      name.startswith('damaged-') for name in os.listdir(folder))


def metrics(folder: str) -> dict[str, float]:
  """Returns what was saved beside the state in the folder of a step; {} where that is not known."""
  try:
    return dict(files.read_json(os.path.join(folder, *METRICS), ''))
  except (FileNotFoundError, UserError, TypeError, ValueError):
    return {}


def best_step(folder: str) -> int | None:
  """Returns the step with the best score in a folder of checkpoints, or None where none was measured."""
  scores = {step: metrics(os.path.join(folder, str(step))).get(SCORE) for step in steps_in(folder)}
  scores = {step: score for step, score in scores.items() if score is not None and math.isfinite(score)}
  return max(scores, key=lambda step: (scores[step], step), default=None)


def is_run(path: str) -> bool:
  """Tells whether a path names a run: a folder, if not one of weights alone, or WORKDIR@best."""
  return os.path.isdir(split_best(path)[0]) and not files.hub_file(path)


def split_best(path: str) -> tuple[str, bool]:
  """Returns (workdir, whether its best checkpoint is meant) of WORKDIR or WORKDIR@best."""
  path = os.fspath(path)
  if path.endswith(BEST) and not os.path.isdir(path):
    return path.removesuffix(BEST), True
  return path, False


def find(path: str) -> tuple[str, str]:
  """Returns (workdir, checkpoint folder of a step) for what a user may call a checkpoint.

  Args:
    path: a workdir (of its last stage the newest step that is whole), WORKDIR@best (its best step), or
      `workdir/checkpoints/STEP`.

  Raises:
    UserError: when there is no checkpoint.
  """
  named, best = split_best(path)
  path = os.path.abspath(named)
  if os.path.basename(os.path.dirname(path)) == 'checkpoints' and os.path.isdir(path):
    return os.path.dirname(os.path.dirname(path)), path
  if not os.path.isdir(path):
    raise UserError(f'no checkpoint {path!r}: it is no folder; give the workdir of a run')
  for stage in reversed(stages(path)):
    workdir = os.path.join(path, stage) if stage else path
    folder = checkpoint_folder(workdir)
    if steps := steps_in(folder):
      return workdir, os.path.join(folder, str(_best(named, folder) if best else _whole(folder, steps)))
  if files.hub_file(path):
    raise UserError(f'{named!r} holds weights and no run; give the workdir of a run')
  raise UserError(f'{named!r} is not a checkpoint: it holds no checkpoints/STEP, and no weights '
                  f'named {files.HUB[0]} or {files.HUB[2]}')


def _best(workdir: str, folder: str) -> int:
  step = best_step(folder)
  if step is None:
    raise UserError(f'{workdir!r} has no best checkpoint: none was saved at a step that was evaluated; '
                    f'give {workdir} for the newest one, and train with checkpoint.best=true')
  return step


@functools.lru_cache(64)
def _said_once(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def _whole(folder: str, steps: list[int]) -> int:
  """Returns the newest step that lacks no file; the newest where all do."""
  for step in steps:
    reason = integrity.damage(os.path.join(folder, str(step)), contents=False)
    if not reason:
      return step
    _said_once(f'checkpoint {step} in {folder} is damaged ({reason}); looking at the one before it')
  return steps[0]


def stages(workdir: str) -> list[str]:
  """Returns the folders of a run's stages in order; of a run without stages, ['']."""
  try:
    config = files.read_object(os.path.join(workdir, 'config.json'), '')
    return [stage['name'] for stage in config.get('stages', ())] or ['']
  except (FileNotFoundError, UserError, KeyError, TypeError):  # told where the config is read
    return ['']


def run_config(workdir: str) -> dict:
  """Returns the config that a run saved; UserError when there is none."""
  try:
    return files.read_object(
        os.path.join(workdir, 'config.json'),
        'start the run again with its --config after removing that file', 'model', 'task', 'data')
  except FileNotFoundError:
    raise UserError(f"{workdir!r} is not a run's workdir: it holds no config.json") from None


def read_params(folder: str) -> trees.Flat:
  """Returns the parameters (averaged ones where the run kept them) and model state of a checkpoint.

  Args:
    folder: `workdir/checkpoints/STEP`.

  Returns:
    {path: array} on the host, as saved: a stack of layers stays one; state as 'batch_stats/...'.

  Raises:
    UserError: when it is damaged, or cannot be read.
  """
  if reason := integrity.damage(folder):
    raise UserError(f'the checkpoint {folder} is damaged ({reason}); an older step may be whole')
  item = epath.Path(folder) / integrity.ITEM
  try:
    handler = ocp.PyTreeCheckpointHandler()
    saved = handler.metadata(item).tree
    average = saved.get('ema')
    own = {k: saved[k] for k in ('params', 'model_state') if saved.get(k)}
    kept = {'ema': average} if average else own
    want = jax.tree.map(lambda leaf: np.zeros(0, leaf.dtype), kept)
    args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), want)
    restored = handler.restore(item, args=ocp.args.PyTreeRestore(
        want, restore_args=args, partial_restore=True))
  except Exception as error:  # as in Checkpoints.restore
    remedy = 'is damaged' if integrity.is_damage(error) else 'cannot be read'
    raise UserError(f'the checkpoint {folder} {remedy} ({integrity.first_line(error)}); an older step '
                    'may be whole') from None
  restored = restored['ema'] if average else {'params': restored['params'],
                                              **restored.get('model_state', {})}
  params = trees.flatten(restored.pop('params'))
  return {**params, **trees.flatten(restored)}
