"""Checkpoints, through Orbax: written in the background, kept by age and merit, read on any mesh.

`workdir/checkpoints/STEP` holds a state, the measures of its parameters, and a checksum of each file.
"""

import errno
import functools
import json
import logging
import os
import shutil
import sys

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from vit_jax import files
from vit_jax.errors import UserError
from vit_jax.training import processes
from vit_jax.weights import integrity, runs
from vit_jax.weights.runs import METRICS, SCORE

# What the system says of a disk that is full.
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


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
    self._folder = runs.checkpoint_folder(workdir)
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
    steps = json.loads(processes.first(lambda: json.dumps(runs.steps_in(self._folder)[:200])))
    for step in steps:
      found = self._read(step, state)
      if found is not None:
        return found, step
    if steps or processes.most(runs.exists(os.path.dirname(self._folder))):
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
    return next(iter(runs.steps_in(self._folder)), None)

  def metrics(self, step: int) -> dict[str, float]:
    """Returns what was saved beside the state of a step."""
    return runs.metrics(os.path.join(self._folder, str(step)))

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
