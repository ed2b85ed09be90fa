"""Metrics are read back, from runs that were killed and resumed too."""

import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.visual.curves import read_metrics


def read(tmp_path, text: str):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(text)
  return read_metrics(path)


def assert_series(series, steps, values):
  np.testing.assert_array_equal(series[0], steps)
  np.testing.assert_array_equal(series[1], values)


def test_metrics_come_by_name(tmp_path):
  metrics = read(tmp_path, '{"step": 10, "train/loss": 2.5, "train/images_per_second": 812.0}\n'
                           '{"step": 20, "train/loss": 2.0}\n{"step": 20, "test/accuracy": 1}\n')
  assert list(metrics) == ['train/loss', 'train/images_per_second', 'test/accuracy']
  assert_series(metrics['train/loss'], [10, 20], [2.5, 2.])
  assert_series(metrics['test/accuracy'], [20], [1.])


def test_a_half_written_last_line_is_passed_over(tmp_path):
  whole = '{"step": 10, "train/loss": 2.5}\n'
  line = '{"step": 20, "train/loss": 2.0}'
  for length in range(len(line)):
    assert_series(read(tmp_path, whole + line[:length])['train/loss'], [10], [2.5])


def test_a_run_resumed_in_a_half_written_line_loses_nothing(tmp_path):
  metrics = read(tmp_path, '{"step": 20, "train/lo{"step": 10, "train/loss": 2.5}\n')
  assert_series(metrics['train/loss'], [10], [2.5])


def test_after_a_resume_the_later_line_counts(tmp_path):
  metrics = read(tmp_path, ''.join(f'{{"step": {step}, "a": {value}}}\n' for step, value in
                                   [(10, 1.), (20, 2.), (30, 3.), (20, 5.), (30, 6.), (40, 7.)]))
  assert_series(metrics['a'], [10, 20, 30, 40], [1, 5, 6, 7])


def test_not_a_number_stays_and_text_goes(tmp_path):
  metrics = read(tmp_path, '{"step": 1, "loss": NaN, "note": "hot", "flag": true}\n[3]\n\n7\n')
  assert list(metrics) == ['loss'] and np.isnan(metrics['loss'][1]).all()


def test_a_missing_file_is_told(tmp_path):
  with pytest.raises(UserError, match='no metrics'):
    read_metrics(tmp_path / 'metrics.jsonl')


def test_a_file_without_metrics_is_empty(tmp_path):
  assert read(tmp_path, '') == {}
