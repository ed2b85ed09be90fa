"""Evaluation on its own: of a run's weights, or of a published file's, without training."""

import jax
import optax

from vit_jax.training import step as step_lib
from vit_jax.weights import origin
from vit_jax import sharding, task as task_lib
from vit_jax.errors import UserError
from vit_jax.training.loop import plan, start
from vit_jax.training.workdir import write_tables


def evaluate(config, workdir: str = '') -> dict[str, float]:
  """Evaluates `config.init_from` on the splits of a config; writes tables into a workdir that exists.

  A published file is evaluated as it wants to be (`config.evaluate.protocol`). Which weights are scored
  is printed. No optimizer slots are made.

  Raises:
    UserError: without weights, or when the classes of the weights are not those of the data.
  """
  if not config.init_from:
    raise UserError('nothing to evaluate: set config.init_from to a workdir, a checkpoint or a file')
  weights = task_lib.find(config).weights
  config, protocol = weights.follow_protocol(config)
  mesh = sharding.make_mesh(**config.mesh)
  with jax.set_mesh(mesh):
    data, task, *_, evaluation = plan(config, mesh)
    weights.check_classes(config.init_from, data.info)
    state, *_ = step_lib.create_state(task, lambda params: optax.identity(), data.example, mesh,
                                      task.family.rules, config.seed, ema=False)
    state, report = start(config, task, state, data.info)
    if jax.process_index() == 0:
      print('\n'.join([f'scores {origin(config.init_from)}', *protocol, *report.lines()]), flush=True)
    weights.check_head(config.init_from, data.info, report)
    measures = evaluation(state.params, state.model_state)
  write_tables(workdir, evaluation.tables)
  return measures
