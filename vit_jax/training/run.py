"""A training run while it goes: its logs, checkpoints, progress, and what stops it."""

import contextlib
import json
import math
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping

from clu import parameter_overview
import jax

from vit_jax import config as config_lib, files, metrics, trees
from vit_jax.training.checkpoint import Checkpoints
from vit_jax.weights.runs import SCORE
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.training.signals import Stop
from vit_jax.training.workdir import check_constants, open_workdir, write_tables

IN_FLIGHT = 1  # steps that the host may be ahead of the device
KEPT = 1000  # steps whose metrics wait on the device for a line of the log
SMALLER_IS_BETTER = ('loss', 'error', 'brier_score')  # what such names end with


class NotFinite(UserError):
  """The loss or the gradient is NaN or infinite."""


def better_score(measure: str, measures: Mapping[str, float]) -> float:
  """Returns a measure so that larger is better.

  Raises:
    UserError: when the evaluation has no such measure.
  """
  if measure not in measures:
    raise UserError(f'evaluate.measure={measure!r} is no measure of this run; choose one of: '
                    + ', '.join(measures))
  value = float(measures[measure])
  return -value if measure.endswith(SMALLER_IS_BETTER) else value


class Run:
  """Logs, checkpoints and stop signals of one training run."""

  def __init__(self, workdir: str, config, info: Info, total_steps: int, measure: str):
    """Opens the workdir, which `workdir.locked` keeps; see `open_workdir`.

    Args:
      workdir: of the run.
      config: of the run.
      info: facts of its data.
      total_steps: when it ends.
      measure: by which evaluations are compared, such as 'test/accuracy'.
    """
    said = open_workdir(workdir, config, info)
    self.workdir, self.total_steps = workdir, total_steps
    self._config, self._measure = config, measure
    self._every = {section: config_lib.interval(config, section, info.num_train)
                   for section in ('evaluate', 'checkpoint')} | {'log': config.log.every}
    self._checkpoints = Checkpoints(workdir, config.checkpoint.keep, config.checkpoint.best)
    # {best: score, step of it, evaluations since then}, and the measures of a step.
    self._progress, self._measured = {}, (-1, {})
    self._pending, self._total, self._images = [], None, 0
    self._clock = self._started = time.monotonic()
    self._writer, self._profiling = None, False
    self._stop = Stop()
    if jax.process_index() == 0:
      from tensorboardX import SummaryWriter  # here: it imports protobuf
      self._writer = SummaryWriter(workdir, write_to_disk=True)
    for line in said:
      self.say(line)

  def list_parameters(self, params) -> None:
    """Writes the table of all parameters, their shapes and types to `parameters.txt`."""
    if jax.process_index() == 0:
      with files.replacing(os.path.join(self.workdir, 'parameters.txt')) as file:
        file.write(parameter_overview.get_parameter_overview(params, include_stats=False) + '\n')

  def check_constants(self, constants) -> None:
    """Says what a task reads in every step; see `workdir.check_constants`."""
    found = {name: trees.fingerprint(tree) for name, tree in constants.items()}
    for name, tree in constants.items():
      self.say(f'{name}: {trees.count(tree):,} numbers, fingerprint {found[name]}')
    check_constants(self.workdir, found)

  def say(self, text: str) -> None:
    """Prints a line, from the first process alone."""
    if jax.process_index() == 0:
      print(text, flush=True)

  def restore(self, shapes):
    """Returns the state of the newest good checkpoint, or None without one; see `Checkpoints`."""
    found = self._checkpoints.restore(shapes)
    if found is None:
      return None
    state, step = found
    saved = self._checkpoints.metrics(step)
    self._progress = {k: saved[k] for k in ('best', 'best_step', 'stale') if k in saved}
    if SCORE in saved:
      self._measured = step, saved
    self.say(f'resumed from step {step}')
    return state

  def give_up(self, step: int, state) -> None:
    """Keeps what was learnt before an error; one of several processes ends at once instead.

    The others met no error, wait for it in their next step, and are ended by JAX when it is gone. What
    is not finite is not kept, and all processes know of it. A step that failed took its state along.
    """
    error = sys.exception()
    if isinstance(error, NotFinite) or any(x.is_deleted() for x in jax.tree.leaves(state)):
      return
    if jax.process_count() == 1:
      try:
        self.save(step, state)
      except UserError as second:
        print(f'vit_jax: {second}', file=sys.stderr)
      return
    print(f'vit_jax: process {jax.process_index()}: {error}', file=sys.stderr, flush=True)
    os._exit(2)

  def stopping(self, step: int) -> bool:
    """Tells whether a stop signal came; all processes get the same answer for the same step."""
    return self._stop.asked(step)

  def owes(self, step: int) -> bool:
    """Tells whether an evaluation was due at a step and not done: a signal came, saving went first."""
    return step > 0 and self.due('evaluate', step) and self._measured[0] != step

  def amend(self, step: int) -> None:
    """Adds the measures of a step to its checkpoint, which is saved already."""
    self._checkpoints.amend(step, self._metrics(step))

  @property
  def exhausted(self) -> bool:
    """Tells whether the measure has not become better for `evaluate.patience` evaluations."""
    patience = self._config.evaluate.patience
    return patience > 0 and self._progress.get('stale', 0) >= patience

  def why_exhausted(self) -> str:
    """Returns what an early stop is told by."""
    return (f'{self._measure} has not become better for {self._progress["stale"]} evaluations '
            f'(evaluate.patience); the best step is {self._progress.get("best_step")}')

  def improved(self, step: int) -> bool:
    """Tells whether this step is the best one so far, and to be kept."""
    return self._config.checkpoint.best and self._progress.get('best_step') == step

  def due(self, section: str, step: int) -> bool:
    """Tells whether the steps between two evaluations, checkpoints or lines are over, or all are."""
    every = self._every[section]
    return step == self.total_steps or bool(every) and step % every == 0

  def profile(self, step: int) -> None:
    """Starts and stops the profile of the steps that `config.log.profile` names."""
    first, last = self._config.log.profile
    if step == first and last > first:
      jax.profiler.start_trace(os.path.join(self.workdir, 'profile'))
      self._profiling = True
    elif self._profiling and step >= last:
      jax.profiler.stop_trace()
      self._profiling = False
      self.say(f'wrote the profile of steps {first} to {last} to {self.workdir}/profile')

  def log(self, step: int, sums, batch_size: int) -> None:
    """Keeps a step's metrics on the device; prints and writes them when a line is due."""
    self._pending.append((step, sums))
    if len(self._pending) > IN_FLIGHT:  # each step that is queued holds its batch and its activations
      jax.block_until_ready(self._pending[-1 - IN_FLIGHT][1])
    self._images += batch_size
    if self.due('log', step):
      self.flush()
    elif len(self._pending) >= KEPT:
      self._gather()

  def _gather(self):
    """Adds the metrics that wait to the total since the last line; returns those of the last step.

    Raises:
      NotFinite: names the first step whose loss or gradient is not finite.
    """
    pending = jax.device_get(self._pending)
    self._pending = []
    for step, sums in pending:
      values = metrics.mean(sums)
      bad = [k for k in ('loss', 'gradient_norm') if not math.isfinite(values.get(k, 0.))]
      if bad:
        saved = self._checkpoints.newest()
        where = ('no checkpoint was kept: the mended command may take the same workdir' if saved is None
                 else f'the checkpoint of step {saved} stays: start another --workdir, with init_from='
                 f'{self.workdir} or from the beginning')
        raise NotFinite(f'the {bad[0]} of step {step} is {values[bad[0]]}, the run stopped; lower '
                        f'schedule.peak, warm up longer, or set optimizer.clip_norm=1.0; {where}')
      self._total = metrics.add(self._total, sums)
    return pending[-1]

  def flush(self) -> None:
    """Writes the mean of the metrics since the last line; raises as `_gather`."""
    if not self._pending:
      return
    step, sums = self._gather()
    values, self._total = metrics.mean(self._total), None
    values['learning_rate'] = float(sums['learning_rate'][0])
    now = time.monotonic()
    rate = self._images / max(now - self._clock, 1e-9)
    self._clock, self._images = now, 0
    self.write(step, {**{f'train/{k}': v for k, v in values.items()},
                      'train/images_per_second': rate})
    left = (self.total_steps - step) * self._config.data.batch_size / rate
    self.say(f'step {step:>{len(str(self.total_steps))}}/{self.total_steps}  '
             + '  '.join(f'{k} {v:.4g}' for k, v in values.items())
             + f'  {rate:.0f} images/s  ETA {_duration(left)}  {_memory()}')

  def write(self, step: int, values: dict[str, float]) -> None:
    """Adds a line to `metrics.jsonl` and to TensorBoard's events."""
    if self._writer is None:
      return
    with open(os.path.join(self.workdir, 'metrics.jsonl'), 'a') as file:
      file.write(json.dumps({'step': step, **values}) + '\n')
    for name, value in values.items():
      self._writer.add_scalar(name, value, step)

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Keeps what is done meanwhile, an evaluation, out of the images/s of training."""
    begin = time.monotonic()
    yield
    self._clock += time.monotonic() - begin

  def report(self, step: int, measures: dict[str, float], tables: dict[str, list[dict]]) -> None:
    """Logs the measures of an evaluation and writes its tables; this step's checkpoint carries them.

    Raises:
      UserError: when `evaluate.measure` is not among them.
    """
    self.write(step, measures)
    write_tables(self.workdir, tables)
    self.say(f'step {step}  ' + '  '.join(
        f'{k} {v if isinstance(v, int) else format(v, ".4g")}' for k, v in measures.items()))
    score = better_score(self._measure, measures)
    best, stale = self._progress.get('best', -math.inf), self._progress.get('stale', 0)
    if math.isfinite(score) and score >= best:  # of equals the last, as `Checkpoints` keeps them
      self._progress = dict(best=score, best_step=step, stale=0 if score > best else stale + 1)
    else:
      self._progress['stale'] = stale + 1
    self._measured = step, {**{k: float(v) for k, v in measures.items()}, SCORE: score}

  def save(self, step: int, state) -> None:
    """Saves the state in the background, once the steps up to it are known to be finite.

    Raises:
      UserError: when it cannot be written.
    """
    self.flush()
    self._checkpoints.save(step, state, self._metrics(step))

  def _metrics(self, step: int) -> dict[str, float]:
    measured, measures = self._measured
    return {**(measures if measured == step else {}), **self._progress}

  def seconds(self) -> float:
    """Returns the time since the run was opened."""
    return time.monotonic() - self._started

  def close(self) -> None:
    """Waits for the checkpoints, closes the logs and gives the signals back.

    Raises:
      UserError: when the last checkpoint cannot be written.
    """
    self._stop.close()
    if self._profiling:
      jax.profiler.stop_trace()
    if self._writer:
      self._writer.close()
    self._checkpoints.close()

  def results(self, values: dict) -> dict:
    """Writes `results.json`, with the best step, and returns what it holds."""
    if 'best_step' in self._progress:
      best = self._progress['best']
      name = f'best_{self._measure.replace("/", "_")}'
      values = {**values, 'best_step': self._progress['best_step'],
                name: -best if self._measure.endswith(SMALLER_IS_BETTER) else best}
    self._checkpoints.wait()  # results without their checkpoint would be a claim
    if jax.process_index() == 0:
      files.write_json(os.path.join(self.workdir, 'results.json'), values)
    return values


def _duration(seconds: float) -> str:
  hours, rest = divmod(int(seconds), 3600)
  return f'{hours}:{rest // 60:02d}:{rest % 60:02d}' if hours else f'{rest // 60}:{rest % 60:02d}'


def _memory() -> str:
  """Returns the peak memory of the fullest local device, or of the process where it has none."""
  peaks = [(d.memory_stats() or {}).get('peak_bytes_in_use') for d in jax.local_devices()]
  if all(peaks):
    return f'device memory {max(peaks) / 2**30:.1f} GiB'
  unit = 1 if sys.platform == 'darwin' else 1024
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  return f'host memory {peak / 2**30:.1f} GiB'
