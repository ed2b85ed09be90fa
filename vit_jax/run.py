"""A run's workdir: its config, logs, checkpoints, progress, and what stops it."""

import csv
import json
import math
import os
import resource
import signal
import sys
import threading
import time

from clu import parameter_overview
import jax
from jax.experimental import multihost_utils

from vit_jax import config as config_lib, metrics, trees
from vit_jax.checkpoint import Checkpoints
from vit_jax.data.info import Info
from vit_jax.errors import UserError

IN_FLIGHT = 1  # steps that the host may be ahead of the device


class NotFinite(UserError):
  """The loss or the gradient is NaN or infinite."""


# What may differ when a run is continued: where and how it runs, not what it computes.
_MAY_CHANGE = ('mesh', 'log', 'evaluate', 'checkpoint', 'explore', 'init_from', 'data.on_error')


def open_workdir(workdir: str, config, info: Info | None = None) -> None:
  """Makes the workdir, or checks that the run in it is this config's.

  Raises:
    UserError: when it cannot be written, or holds another config's run; names what differs.
  """
  path = os.path.join(workdir, 'config.json')
  new = config_lib.to_dict(config)
  try:
    if os.path.exists(path):
      with open(path) as file:
        _compare(dict(config_lib.leaves(json.load(file))), dict(config_lib.leaves(new)), workdir)
      if info and os.path.exists(os.path.join(workdir, 'info.json')):
        _compare_data(Info.load(workdir), info, workdir)
    if jax.process_index() == 0:
      os.makedirs(workdir, exist_ok=True)
      write_json(path, new)
      if info:
        info.save(workdir)
  except OSError as error:
    raise UserError(f'cannot write the workdir {workdir!r}: {error.strerror}; choose another '
                    '--workdir') from None


def write_json(path: str, content: dict) -> None:
  """Writes JSON that appears whole or not at all."""
  with open(f'{path}.part', 'w') as file:
    json.dump(content, file, indent=1)
  os.replace(f'{path}.part', path)


def write_tables(workdir: str, tables: dict[str, list[dict]]) -> None:
  """Writes each table of an evaluation as `NAME.csv`, or as JSON where the name ends with `.json`.

  The first process does, into a workdir.
  """
  if jax.process_index() or not os.path.isdir(workdir):
    return
  for name, rows in tables.items():
    if name.endswith('.json'):
      with open(os.path.join(workdir, name), 'w') as file:
        file.write(json.dumps(rows))  # at once: json.dump to a file takes many times as long
      continue
    with open(os.path.join(workdir, f'{name}.csv'), 'w', newline='') as file:
      writer = csv.DictWriter(file, rows[0])
      writer.writeheader()
      writer.writerows(rows)


def _compare(old: dict, new: dict, workdir: str) -> None:
  differ = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k)
            and not any(k == m or k.startswith(f'{m}.') for m in _MAY_CHANGE)]
  if differ:
    shown = ', '.join(f'{k} {old.get(k)!r} -> {new.get(k)!r}' for k in differ[:4])
    raise UserError(f'{workdir!r} holds the run of another config ({shown}'
                    f'{", ..." if len(differ) > 4 else ""}); choose another --workdir, or remove it')


def _compare_data(old: Info, new: Info, workdir: str) -> None:
  """Raises UserError when a run would go on in data that changed: its order would be another."""
  if (old.num_train, old.classes) != (new.num_train, new.classes):
    raise UserError(f'{workdir!r} was trained on {old.num_train:,} examples of {old.num_classes} '
                    f'classes, {new.source} now has {new.num_train:,} of {new.num_classes}; to go on '
                    'would repeat some and miss others: restore the data, or choose another --workdir')


class Run:
  """Logs, checkpoints and stop signals of one training run."""

  def __init__(self, workdir: str, config, info: Info, total_steps: int, best: str):
    """Opens the workdir; see `open_workdir`."""
    open_workdir(workdir, config, info)
    self.workdir, self.total_steps = workdir, total_steps
    self._config = config
    self._checkpoints = Checkpoints(workdir, config.checkpoint.keep,
                                    best if config.checkpoint.best else '')
    self._pending, self._measures, self._images = [], {}, 0
    self._clock = self._started = time.monotonic()
    self._writer, self._profiling, self._stop = None, False, threading.Event()
    # Several processes must agree on the step to stop at: there JAX's own handler stays.
    if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
      signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
    if jax.process_index() == 0:
      from tensorboardX import SummaryWriter  # here: it imports protobuf
      self._writer = SummaryWriter(workdir, write_to_disk=True)

  def list_parameters(self, params) -> None:
    """Writes the table of all parameters, their shapes and types to `parameters.txt`."""
    if jax.process_index() == 0:
      with open(os.path.join(self.workdir, 'parameters.txt'), 'w') as file:
        file.write(parameter_overview.get_parameter_overview(params, include_stats=False) + '\n')

  def check_constants(self, constants) -> None:
    """Says what a task reads in every step; UserError when the run in the workdir began with other."""
    path, found = os.path.join(self.workdir, 'constants.json'), {}
    for name, tree in constants.items():
      found[name] = trees.fingerprint(tree)
      self.say(f'{name}: {trees.count(tree):,} numbers, fingerprint {found[name]}')
    if os.path.exists(path):
      with open(path) as file:
        old = json.load(file)
      for name in found:
        if found[name] != old.get(name):
          raise UserError(f'the run in {self.workdir!r} began with another {name} (fingerprint '
                          f'{old.get(name)}, now {found[name]}); give it that one, or choose another '
                          '--workdir')
    elif found and jax.process_index() == 0:
      write_json(path, found)

  def say(self, text: str) -> None:
    """Prints a line, from the first process alone."""
    if jax.process_index() == 0:
      print(text, flush=True)

  def restore(self, state):
    """Returns the state of the newest good checkpoint, or the state given where there is none."""
    found = self._checkpoints.restore(state)
    if found is None:
      return state
    state, step = found
    self.say(f'resumed from step {step}')
    return state

  def give_up(self, step: int, state, error: UserError) -> None:
    """Keeps what was learnt before an error; one of several processes ends at once instead.

    The others met no error, wait for it in their next step, and are ended by JAX when it is gone. What
    is not finite is not kept, and all processes know of it.
    """
    if isinstance(error, NotFinite):
      return
    if jax.process_count() == 1:
      self.save(step, state)
      return
    print(f'vit_jax: process {jax.process_index()}: {error}', file=sys.stderr, flush=True)
    os._exit(2)

  def stopping(self, step: int) -> bool:
    """Tells whether SIGTERM came; all processes get the same answer for the same step."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._stop.is_set()

  def due(self, section: str, step: int) -> bool:
    """Tells whether `config[section].every` steps are over, or all are."""
    every = self._config[section].every
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

  def flush(self) -> None:
    """Writes the mean of the metrics since the last line.

    Raises:
      NotFinite: names the first step whose loss or gradient is not finite.
    """
    if not self._pending:
      return
    pending = jax.device_get(self._pending)
    self._pending = []
    total = None
    for step, sums in pending:
      values = metrics.mean(sums)
      bad = [k for k in ('loss', 'gradient_norm') if not math.isfinite(values.get(k, 0.))]
      if bad:
        raise NotFinite(f'the {bad[0]} of step {step} is {values[bad[0]]}; the run stopped and its '
                        f'last good checkpoint stays. Lower schedule.peak, warm up longer, or set '
                        'optimizer.clip_norm=1.0')
      total = metrics.add(total, sums)
    values = metrics.mean(total)
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

  def report(self, step: int, measures: dict[str, float], tables: dict[str, list[dict]]) -> None:
    """Logs the measures of an evaluation and writes its tables; the next checkpoint carries them."""
    self.write(step, measures)
    write_tables(self.workdir, tables)
    self._measures = {k: float(v) for k, v in measures.items()}
    self.say(f'step {step}  ' + '  '.join(
        f'{k} {v if isinstance(v, int) else format(v, ".4g")}' for k, v in measures.items()))
    self._clock = time.monotonic()

  def save(self, step: int, state) -> None:
    """Saves the state in the background, once the steps up to it are known to be finite."""
    self.flush()
    self._checkpoints.save(step, state, self._measures)
    self._measures = {}

  def seconds(self) -> float:
    """Returns the time since the run was opened."""
    return time.monotonic() - self._started

  def close(self) -> None:
    """Waits for the checkpoints and closes the logs."""
    if self._profiling:
      jax.profiler.stop_trace()
    self._checkpoints.close()
    if self._writer:
      self._writer.close()

  def results(self, values: dict) -> dict:
    """Writes `results.json`, and returns what it holds."""
    if jax.process_index() == 0:
      write_json(os.path.join(self.workdir, 'results.json'), values)
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
