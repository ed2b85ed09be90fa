"""Checkpoints, through Orbax: written in the background, kept by age and merit, read on any mesh."""

import json
import os
import shutil
import sys

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from vit_jax import trees
from vit_jax.errors import UserError


def checkpoint_folder(workdir: str) -> str:
  """Returns where a run keeps its checkpoints."""
  return os.path.join(os.path.abspath(workdir), 'checkpoints')


def exists(workdir: str) -> bool:
  """Tells whether a run has a checkpoint, readable or not."""
  folder = checkpoint_folder(workdir)
  return os.path.isdir(folder) and any(name.isdigit() for name in os.listdir(folder))


class Checkpoints:
  """The checkpoints of one run: `workdir/checkpoints/STEP`.

  A checkpoint appears only when it is complete. The newest `keep` stay, and the best by `best`.
  """

  def __init__(self, workdir: str, keep: int = 2, best: str = ''):
    """Opens the folder.

    Args:
      workdir: of the run.
      keep: how many of the newest stay.
      best: name of a metric, larger is better, whose best checkpoint stays too; '' for none.
    """
    self._folder = checkpoint_folder(workdir)
    kept = [policies.LatestN(keep)]
    if best:
      kept.append(policies.BestN(get_metric_fn=lambda m: m.get(best, -np.inf), n=1,
                                 keep_checkpoints_without_metrics=False))
    self._manager = ocp.CheckpointManager(self._folder, options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(kept),
        save_decision_policy=policies.FixedIntervalPolicy(1), cleanup_tmp_directories=True))

  def save(self, step: int, state, metrics: dict[str, float] | None = None) -> None:
    """Copies the state and writes it in the background; does nothing for a step already saved."""
    if step not in self._manager.all_steps():
      self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics or {})

  def restore(self, state):
    """Returns (the newest state that can be read, its step), or None where there is none.

    A damaged checkpoint is put aside as `damaged-STEP`, with a line on stderr, and the one before
    it is read.

    Args:
      state: tree of `jax.ShapeDtypeStruct` with shardings, or of arrays: where each leaf goes.

    Raises:
      UserError: when there are checkpoints and none can be read.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      try:
        return self._manager.restore(step, args=ocp.args.StandardRestore(state)), step
      except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file.
        self._put_aside(step, error)
    if steps:
      raise UserError(f'none of the checkpoints in {self._folder} can be read; remove the folder to '
                      'start anew')
    return None

  def _put_aside(self, step: int, error: Exception) -> None:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    print(f'checkpoint {step} is damaged ({reason}); falling back to the one before it',
          file=sys.stderr, flush=True)
    if jax.process_index() == 0:
      aside = os.path.join(self._folder, f'damaged-{step}')
      shutil.rmtree(aside, ignore_errors=True)
      shutil.move(os.path.join(self._folder, str(step)), aside)
    self._manager.reload()

  def wait(self) -> None:
    """Returns when all that was saved is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and frees the background threads."""
    self._manager.close()


def find(path: str) -> tuple[str, str]:
  """Returns (workdir, checkpoint folder of a step) for what a user may call a checkpoint.

  Args:
    path: a workdir (its last stage and newest step count), or `workdir/checkpoints/STEP`.

  Raises:
    UserError: when there is no checkpoint.
  """
  path = os.path.abspath(path)
  if os.path.basename(os.path.dirname(path)) == 'checkpoints' and os.path.isdir(path):
    return os.path.dirname(os.path.dirname(path)), path
  if not os.path.isdir(path):
    raise UserError(f'no checkpoint {path!r}: it is no folder; give the workdir of a run')
  for stage in reversed(stages(path)):
    folder = checkpoint_folder(os.path.join(path, stage))
    steps = [int(s) for s in os.listdir(folder) if s.isdigit()] if os.path.isdir(folder) else []
    if steps:
      return os.path.join(path, stage), os.path.join(folder, str(max(steps)))
  raise UserError(f'{path!r} is not a checkpoint: it holds no checkpoints/STEP')


def stages(workdir: str) -> list[str]:
  """Returns the folders of a run's stages in order; of a run without stages, ['']."""
  try:
    with open(os.path.join(workdir, 'config.json')) as file:
      return [stage['name'] for stage in json.load(file).get('stages', ())] or ['']
  except (OSError, ValueError):
    return ['']


def read_params(folder: str) -> trees.Flat:
  """Returns the parameters (averaged ones where the run kept them) and model state of a checkpoint.

  Args:
    folder: `workdir/checkpoints/STEP`.

  Returns:
    {path: array} on the host, as saved: a stack of layers stays one; state as 'batch_stats/...'.

  Raises:
    UserError: when it cannot be read.
  """
  item = epath.Path(folder) / 'default'
  try:
    handler = ocp.PyTreeCheckpointHandler()
    saved = handler.metadata(item).tree
    key = 'ema' if saved.get('ema') else 'params'
    kept = [key] + ['model_state'] * bool(saved.get('model_state'))
    want = jax.tree.map(lambda leaf: np.zeros(0, leaf.dtype), {k: saved[k] for k in kept})
    args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), want)
    restored = handler.restore(item, args=ocp.args.PyTreeRestore(
        want, restore_args=args, partial_restore=True))
  except Exception as error:  # as in Checkpoints.restore
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    raise UserError(f'{folder} is not a readable checkpoint ({reason}); an older step may '
                    'be') from None
  return {k: v for part in kept for k, v in trees.flatten(restored[part]).items()}
