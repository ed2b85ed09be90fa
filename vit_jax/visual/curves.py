"""Reads back what a run has logged."""

import json
import os
from collections import defaultdict

import numpy as np

from vit_jax.errors import UserError


def read_metrics(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Reads a run's `metrics.jsonl`, one flat JSON object with a `step` per line.

  A half-written line (the run was killed) is passed over, also where a resumed run went on in the
  same line. Where a step was logged twice (before and after a resume) the later line counts.

  Args:
    path: the file.

  Returns:
    For each metric, in order of first appearance: `steps` int `[n]` rising, and `values` float
    `[n]`. Entries that are not numbers are left out.

  Raises:
    UserError: the file isn't there.
  """
  try:
    with open(path, encoding='utf-8', errors='replace') as file:
      records = [record for line in file if (record := _record(line))]
  except FileNotFoundError as error:
    raise UserError(f'no metrics at {os.fspath(path)}; is this the workdir of a run?') from error
  series = defaultdict(dict)
  for record in records:
    step = record.pop('step')
    for name, value in record.items():
      if _is_number(value):
        series[name][step] = value
  return {name: _columns(values) for name, values in series.items()}


def _record(line: str) -> dict | None:
  """The object in a line, or None. Objects are flat, so the last `{` starts the last whole one."""
  try:
    record = json.loads(line[max(line.rfind('{'), 0):])
  except json.JSONDecodeError:
    return None
  return record if isinstance(record, dict) and _is_number(record.get('step')) else None


def _is_number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _columns(values: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
  steps = sorted(values)
  return np.array(steps, np.int64), np.array([values[step] for step in steps], np.float64)
