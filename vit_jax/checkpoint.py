"""Checkpoints, through Orbax: written in the background, kept by age and merit, read on any mesh.

`workdir/checkpoints/STEP` holds a state, the measures of its parameters, and a checksum of each file.
"""

import errno
import functools
import json
import logging
import math
import os
import shutil
import sys

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from vit_jax import files, integrity, processes, trees
from vit_jax.errors import UserError

BEST = '@best'  # behind a workdir: its best checkpoint instead of the newest one
METRICS = ('metrics', 'metrics')  # Orbax's names
SCORE = 'score'  # among the metrics of a checkpoint: by which they are compared, larger is better
# What the system says of a disk that is full.
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


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


def keep_threads_quiet() -> None:
  """Lets an error of a save be told once, by `Checkpoints`; only command lines call this.

  Orbax logs it in each of its threads, and TensorStore calls back into an event loop that has ended.
  """
  for name in ('absl', 'asyncio'):
    logging.getLogger(name).setLevel(logging.CRITICAL)
  shown = sys.unraisablehook
  sys.unraisablehook = lambda found: None if 'Event loop is closed' in str(
      found.exc_value) else shown(found)


class Checkpoints:
  """The checkpoints of one run: `workdir/checkpoints/STEP`.

  A checkpoint appears only when it is complete. The newest `keep` stay, and the one of the best score.
  """

  def __init__(self, workdir: str, keep: int = 2, best: bool = False):
    """Opens nothing yet.

    Args:
      workdir: of the run.
      keep: how many of the newest stay.
      best: whether the one with the largest metric `SCORE` stays too.
    """
    self._folder = checkpoint_folder(workdir)
    self._keep, self._best, self._saving, self._failed = keep, best, -1, False

  @functools.cached_property
  def _manager(self) -> ocp.CheckpointManager:
    """Orbax's manager; opened after what is damaged was put aside, for it trusts what it finds."""
    kept, score = [policies.LatestN(self._keep)], lambda m: m.get(SCORE, -np.inf)
    if self._best:
      kept.append(policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False))
    return ocp.CheckpointManager(self._folder, options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(kept),
        best_fn=score,  # else no metrics are written
        save_decision_policy=policies.FixedIntervalPolicy(1), cleanup_tmp_directories=True,
        async_options=ocp.options.AsyncOptions(post_finalization_callback=self._write_checksums)))

  def save(self, step: int, state, metrics: dict[str, float] | None = None) -> None:
    """Copies the state and writes it in the background; does nothing for a step already saved.

    Raises:
      UserError: this checkpoint or the one before it cannot be written; those before stay.
    """
    if self._failed:
      return
    try:
      if step not in self._manager.all_steps():
        self._manager.wait_until_finished()
        self._saving = step
        self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics or {})
    except Exception as error:  # Orbax and TensorStore raise many kinds
      raise self._cannot_write(error) from error

  def _write_checksums(self) -> None:
    """Writes the checksums into the folder of the step that is being saved, before it gets its name."""
    if jax.process_index():
      return
    for entry in os.scandir(self._folder):
      if entry.is_dir() and entry.name.startswith(f'{self._saving}.'):
        integrity.write_checksums(entry.path)

  def _cannot_write(self, error: Exception) -> UserError:
    self._failed = True
    if jax.process_index() == 0:  # what is unfinished takes space that may be needed
      for name in os.listdir(self._folder) if os.path.isdir(self._folder) else ():
        if name.startswith(f'{self._saving}.'):
          shutil.rmtree(os.path.join(self._folder, name), ignore_errors=True)
    text = '; '.join(str(e) for e in integrity.causes(error))
    reason = next((full for full in _FULL if full in text), integrity.first_line(error))
    return UserError(f'cannot write the checkpoint of step {self._saving} into {self._folder}: '
                     f'{reason}; those before it stay. Mend that, and the same command continues')

  def restore(self, state):
    """Returns (the newest state that can be read, its step), or None where there is none.

    What is proven damaged (a file is missing, cut or does not have its checksum) is put aside as
    `damaged-STEP`, with a line on stderr, and the checkpoint before it is read. All processes agree.

    Args:
      state: tree of `jax.ShapeDtypeStruct` with shardings: where each leaf goes.

    Raises:
      UserError: when there are checkpoints and none is whole, or one cannot be read for another reason
        than damage; then nothing is changed.
    """
    steps = json.loads(processes.first(lambda: json.dumps(steps_in(self._folder)[:200])))
    for step in steps:
      found = self._read(step, state)
      if found is not None:
        return found, step
    if steps or processes.most(exists(os.path.dirname(self._folder))):
      raise UserError(f'no checkpoint in {self._folder} can be read, damaged ones were put aside as '
                      'damaged-STEP; bring one back from a copy, choose another --workdir, or remove '
                      'that folder to start from step 0')
    return None

  def _read(self, step: int, state):
    """Returns the state of a step, or None after it was put aside."""
    folder = os.path.join(self._folder, str(step))
    found = None
    try:
      reason = integrity.damage(folder, jax.process_index(), jax.process_count())
      verdict = 1 if reason else 0
    except UserError as error:
      reason, verdict = str(error), 2
    verdict = processes.most(verdict)
    if not verdict:
      try:
        found = ocp.StandardCheckpointHandler().restore(
            epath.Path(folder) / integrity.ITEM, args=ocp.args.StandardRestore(state))
      except Exception as error:  # Orbax and TensorStore raise many kinds
        reason = integrity.first_line(error)
        verdict = 1 if integrity.is_damage(error) else 2
      verdict = processes.most(verdict)
    if verdict == 2:
      raise UserError(f'cannot read the checkpoint {folder}: {reason or "another process failed"}; '
                      'nothing was changed. If the cause passes, the same command continues')
    if verdict == 1:
      print(f'checkpoint {step} is damaged ({reason or "as another process says"}); falling back to the '
            'one before it', file=sys.stderr, flush=True)
      processes.first(lambda: self._put_aside(step))
      return None
    return found

  def _put_aside(self, step: int) -> str:
    aside = os.path.join(self._folder, f'damaged-{step}')
    try:
      shutil.rmtree(aside, ignore_errors=True)
      os.rename(os.path.join(self._folder, str(step)), aside)
    except OSError as error:
      raise UserError(f'cannot rename the damaged checkpoint {step} in {self._folder}: '
                      f'{error.strerror}; rename it') from None
    return ''

  def amend(self, step: int, found: dict[str, float]) -> None:
    """Writes what is saved beside the state of a step anew, when the state is on disk."""
    self.wait()
    folder = os.path.join(self._folder, str(step), *METRICS)
    if jax.process_index() == 0 and os.path.isfile(folder):
      files.write_json(folder, found)

  def newest(self) -> int | None:
    """Returns the newest step that is saved, or None."""
    return next(iter(steps_in(self._folder)), None)

  def metrics(self, step: int) -> dict[str, float]:
    """Returns what was saved beside the state of a step."""
    return metrics(os.path.join(self._folder, str(step)))

  def wait(self) -> None:
    """Returns when all that was saved is on disk; raises as `save`."""
    if '_manager' in self.__dict__ and not self._failed:
      try:
        self._manager.wait_until_finished()
      except Exception as error:  # as in `save`
        raise self._cannot_write(error) from error

  def close(self) -> None:
    """Waits and frees the background threads; raises as `save`."""
    self.wait()
    if '_manager' in self.__dict__ and not self._failed:
      self._manager.close()


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
