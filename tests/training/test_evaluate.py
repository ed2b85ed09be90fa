"""Evaluation in and after a run: splits, tables, few-shot, one reading of the data."""

import csv
import os
import types

import numpy as np
import pytest

from vit_jax import config as config_lib, fewshot
from vit_jax.training import evaluate, loop
from vit_jax.errors import UserError
from vit_jax.training.scoring import Evaluation

from tests.conftest import ROOT

TINY = os.path.join(ROOT, 'tests', 'configs', 'tiny.py')


def tiny(**overrides):
  return config_lib.load(f'{TINY}:steps=3', {'mesh.data': '1', **overrides})


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(workdir, results) of a run that is followed by few-shot regression."""
  workdir = str(tmp_path_factory.mktemp('evaluate') / 'run')
  entries = "[{'source': 'digits', 'train': 'train[:50%]'}]"
  return workdir, loop.train(tiny(**{'evaluate.fewshot': entries}), workdir)


def table(workdir):
  with open(os.path.join(workdir, 'test_per_class.csv'), newline='') as file:
    return list(csv.DictReader(file))


def test_results_have_every_measure(run):
  assert {f'test_{k}' for k in ('accuracy', 'top5_accuracy', 'loss', 'brier_score', 'examples',
                                'calibration_error')} <= set(run[1])
  assert run[1]['fewshot_digits_1_shot'] < run[1]['fewshot_digits_25_shot'] <= 1.


def test_the_table_of_classes_adds_up_to_the_accuracy(run):
  rows = table(run[0])
  assert [row['class'] for row in rows] == list('0123456789')
  assert sum(int(row['examples']) for row in rows) == 355
  right = sum(int(row['examples']) * float(row['accuracy']) for row in rows)
  assert right / 355 == pytest.approx(run[1]['test_accuracy'])


def test_evaluating_later_gives_the_same_and_writes_the_table(run, tmp_path):
  found = evaluate.evaluate(tiny(init_from=run[0]), str(tmp_path))
  assert found['test/accuracy'] == pytest.approx(run[1]['test_accuracy'])
  assert table(tmp_path) == table(run[0])


def test_the_command_line_scores_a_run_on_any_data_set(run, capsys, monkeypatch):
  monkeypatch.setattr('sys.argv', ['fewshot', run[0], 'digits', '--train=train[:50%]'])
  fewshot.main()
  said = dict(line.split() for line in capsys.readouterr().out.splitlines())
  assert list(said) == ['1_shot', '5_shot', '10_shot', '25_shot']
  for name, value in said.items():
    assert float(value) == pytest.approx(run[1][f'fewshot_digits_{name}'], abs=.01)


def test_an_unusable_entry_is_named_before_anything_is_written(tmp_path):
  with pytest.raises(UserError, match='tset'):
    loop.train(tiny(**{'evaluate.fewshot': "[{'source': 'digits', 'tset': ''}]"}),
                str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


class Counting:
  """An evaluator that counts batches."""

  def step(self, params, model_state, batch):
    return batch['number']

  def update(self, total, outputs):
    return (total or 0) + int(outputs)

  def finish(self, total):
    return {'sum': total}

  def tables(self, total):
    return {'all': [{'sum': total}]}


def test_all_evaluators_share_one_reading_of_each_split():
  reads = []

  class Split:
    def __iter__(self):
      reads.append(self)
      return iter([dict(number=n, mask=np.asarray([1., n > 1])) for n in (1, 2)])

    def __len__(self):
      return 4  # of which the mask shows 3

  class Other(Counting):
    def finish(self, total):
      return {'twice': 2 * total}

  task = types.SimpleNamespace(evaluators=lambda split: [Counting(), Other()])
  evaluation = Evaluation(task, dict(test=Split(), minival=Split()), tiny(), None, 2)
  measures = {'sum': 3, 'twice': 6, 'unreadable': 1}
  assert evaluation({}, {}) == {f'{split}/{k}': v for split in ('test', 'minival')
                                for k, v in measures.items()}
  assert len(reads) == 2
  assert evaluation.tables['minival_all'] == [{'sum': 3}]
