"""The evaluation of a state: every split once, by all evaluators of a task."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax import compilation
from vit_jax.errors import unknown
from vit_jax.evaluation import fewshot


class Evaluation:
  """Evaluates a state on the splits of the data and few-shot.

  Attributes:
    tables: {name: rows} of the latest evaluation.
  """

  def __init__(self, task, splits: Mapping[str, Any], config, mesh, eval_batch: int):
    """Compiles nothing yet.

    Args:
      task: a `vit_jax.task.Task`.
      splits: {name: batches}, see `vit_jax.data.pipeline.Data`.
      config: of the run.
      mesh: on which the batches lie.
      eval_batch: rows of a batch.

    Raises:
      UserError: for a name in `evaluate.splits` that the data has no split for.
    """
    for name in config.evaluate.splits:
      if name not in splits:
        raise unknown('split in evaluate.splits:', name, splits)
    self._splits, self.tables = splits, {}
    self._evaluators = {split: [(e, compilation.jit(e.step)) for e in task.evaluators(split)]
                        for split in splits}
    self._probes = fewshot.open_probes(config.evaluate.fewshot, config.data, task, mesh, eval_batch)

  def __call__(self, params, model_state, splits: Sequence[str] = ()) -> dict[str, float]:
    """Returns {'test/accuracy': ...}; every example counts once on any number of devices.

    Examples that cannot be read count on neither side; `SPLIT/unreadable` is their number.

    Args:
      params, model_state: what is evaluated.
      splits: those that are evaluated; () for all.
    """
    measures = {}
    for split in splits or self._splits:
      totals, read = [None] * len(self._evaluators[split]), 0
      for batch in self._splits[split]:
        read += int(np.asarray(batch['mask'].sum()))
        for i, (evaluator, step) in enumerate(self._evaluators[split]):
          totals[i] = evaluator.update(totals[i], step(params, model_state, batch))
      for (evaluator, _), total in zip(self._evaluators[split], totals):
        measures |= {f'{split}/{k}': v for k, v in evaluator.finish(total).items()}
        self.tables |= {f'{split}_{k}': rows for k, rows in evaluator.tables(total).items()}
      if read < len(self._splits[split]):
        measures[f'{split}/unreadable'] = len(self._splits[split]) - read
    for name, probe in self._probes.items():
      measures |= {f'fewshot/{name}_{k}': v for k, v in probe(params, model_state).items()}
    return measures
