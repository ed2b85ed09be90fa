"""What was measured: runs whose config is that of a row."""

import json
import os
import statistics
from collections.abc import Mapping

from vit_jax import config as config_lib
from vit_jax.errors import UserError
from vit_jax.tables.base import Row

# What may differ between a run and its row: where the data and weights lie, how it was computed, the
# seed, and the learning rate, which is chosen on the held-out split.
FREE = ('seed', 'init_from', 'accumulate', 'mesh', 'log', 'evaluate', 'checkpoint', 'explore',
        'schedule.peak', 'task.teacher', 'data.data_dir', 'data.real', 'data.on_error',
        'model.dtype', 'model.remat', 'model.scan')


def key(config) -> str:
  """Returns what two configs of the same experiment share, as text."""
  found = {name: value for name, value in config_lib.leaves(json.loads(json.dumps(config))) if not any(
      name == free or name.startswith(f'{free}.') for free in FREE)}
  return json.dumps(found, sort_keys=True)


def find(folder: str) -> dict[str, list[dict]]:
  """Returns the results of the finished runs in a folder, by `key` of their config.

  Raises:
    UserError: when there is no such folder.
  """
  if not os.path.isdir(folder):
    raise UserError(f'no folder {folder!r} with runs; give --runs=FOLDER the folder that holds workdirs')
  out = {}
  for place, _, files in os.walk(folder):
    if {'config.json', 'results.json'} <= set(files):
      config, results = (_read(os.path.join(place, name)) for name in ('config.json', 'results.json'))
      if results.get('finished') and 'stages' not in config:
        out.setdefault(key(config), []).append(results)
  return out


def _read(path: str) -> dict:
  try:
    with open(path) as file:
      return json.load(file)
  except ValueError as error:
    raise UserError(f'{path} is damaged: {error}') from None


def measured(row: Row, runs: Mapping[str, list[dict]], keys: Mapping[str, str]) -> tuple | None:
  """Returns (mean in %, standard deviation or None, number of runs) of a row; None where one is missing.

  Args:
    row: whose `configs` are runs.
    runs: of `find`.
    keys: {config of a row: its `key`}.
  """
  means, values = [], []
  for alternatives in row.configs:
    found = [[100. * r[row.measure] for r in runs.get(keys[spec], ()) if row.measure in r]
             for spec in alternatives]
    found = [f for f in found if f]
    if not found:
      return None
    values = max(found, key=statistics.fmean)
    means.append(statistics.fmean(values))
  spread = statistics.stdev(values) if len(means) == 1 and len(values) > 1 else None
  return statistics.fmean(means), spread, len(values)
