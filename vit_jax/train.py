"""THE loop, for every task."""

import functools

import jax
import jax.numpy as jnp

from vit_jax import checkpoint, compilation, optimizers, schedules, sharding, trees
from vit_jax import config as config_lib, step as step_lib, task as task_lib
from vit_jax.data import pipeline
from vit_jax.errors import UserError
from vit_jax.evaluation import fewshot
from vit_jax.run import Run, write_tables


class Evaluation:
  """Evaluates a state on every split and few-shot; `tables`: {name: rows} of the latest evaluation."""

  def __init__(self, task: task_lib.Task, data: pipeline.Data, config, mesh):
    self._splits, self.tables = data.splits, {}
    self._evaluators = [(e, compilation.jit(e.step)) for e in task.evaluators()]
    self._probes = fewshot.open_probes(config.evaluate.fewshot, config.data, task, mesh)

  def __call__(self, params, model_state) -> dict[str, float]:
    """Returns {'test/accuracy': ...}; every example counts once on any number of devices."""
    measures = {}
    for split, batches in self._splits.items():
      totals = [None] * len(self._evaluators)
      for batch in batches:
        for i, (evaluator, step) in enumerate(self._evaluators):
          totals[i] = evaluator.update(totals[i], step(params, model_state, batch))
      for (evaluator, _), total in zip(self._evaluators, totals):
        measures |= {f'{split}/{k}': v for k, v in evaluator.finish(total).items()}
        self.tables |= {f'{split}_{k}': rows for k, rows in evaluator.tables(total).items()}
    for name, probe in self._probes.items():
      measures |= {f'fewshot/{name}_{k}': v for k, v in probe(params, model_state).items()}
    return measures


def plan(config, mesh):
  """Returns (data, task, optimizer, schedule, total steps, evaluation) of a config; no array.

  Raises:
    UserError: whatever does not fit is found here, before any work and before a file is written.
  """
  data, task = task_lib.build(config, mesh)
  steps = config_lib.total_steps(config, data.info.num_train)
  step_lib.check_accumulate(config.data.batch_size, config.accumulate, sharding.batch_shards(mesh))
  schedule = schedules.make(**config.schedule, total_steps=steps,
                            steps_per_epoch=data.info.num_train / config.data.batch_size)
  optimizer = functools.partial(optimizers.make, schedule=schedule, **config.optimizer)
  shapes = jax.eval_shape(lambda rng: task.init(rng, data.example), jax.random.key(0))
  jax.eval_shape(lambda params: optimizer(params).init(params), shapes['params'])
  return data, task, optimizer, schedule, steps, Evaluation(task, data, config, mesh)


def start(config, task, state, info):
  """Returns the state that a run without checkpoint starts from: `init_from`, else random."""
  if not config.init_from:
    task.check_start()
    return state, []
  variables, report = task.weights.initialize(
      task.model, {'params': state.params, **state.model_state}, info, config.init_from,
      resampling=config.init_resampling, resize_patches=config.init_resize_patches,
      reset_head=config.reset_head, trained_size=tuple(config.init_image_size))
  params = variables.pop('params')
  ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
  return state.replace(params=params, model_state=variables, ema=ema), report.lines()


def train(config, workdir: str) -> dict:
  """Trains what a config describes and returns its results, also written to `results.json`.

  What a start uses: the run's newest good checkpoint, else `init_from`, else random parameters.
  After SIGTERM the run saves and returns early; the same call continues it.

  Returns:
    {'test_accuracy': ..., 'steps': ..., 'parameters': ..., 'seconds': ..., 'finished': ...}

  Raises:
    UserError: for all that the user can mend.
  """
  mesh = sharding.make_mesh(**config.mesh)
  with jax.set_mesh(mesh):
    data, task, optimizer, schedule, steps, evaluation = plan(config, mesh)
    constants = task.constants(mesh)
    state, optimizer, undivided = step_lib.create_state(
        task, optimizer, data.example, mesh, task.rules, config.seed, ema=config.ema_decay > 0.)
    said = [f'stays whole on each device: {line}' for line in undivided[:1]]
    said += [f'(and {len(undivided) - 1} more)'] * (len(undivided) > 1)
    if not checkpoint.exists(workdir):
      state, report = start(config, task, state, data.info)
      said += report
    run = Run(workdir, config, data.info, steps, task.best)
    for line in [describe(data, state, mesh, steps, config), *said]:
      run.say(line)
    run.list_parameters(state.params)
    run.check_constants(constants)
    try:
      return _loop(config, run, data, task, evaluation, run.restore(state), optimizer, schedule,
                   constants)
    finally:
      run.close()


def _loop(config, run, data, task, evaluate, state, optimizer, schedule, constants) -> dict:
  """Runs the steps that are left."""
  frozen = optimizers.matching(state.params, config.optimizer.freeze) if config.optimizer.get(
      'freeze') else None
  train_step = step_lib.make(task, optimizer, schedule, state, seed=config.seed, frozen=frozen,
                             accumulate=config.accumulate, ema_decay=config.ema_decay,
                             ema_warmup=config.ema_warmup, sam_rho=config.sam_rho)
  measures, step, stopped = {}, int(state.step), False
  try:
    for number, batch in data.train.after(step, run.total_steps):
      run.profile(number)
      state, sums = train_step(state, batch, **constants)
      step = number + 1
      run.log(step, sums, config.data.batch_size)
      stopped = run.stopping(step)
      if run.due('evaluate', step):
        measures = evaluate(state.params if state.ema is None else state.ema, state.model_state)
        run.report(step, measures, evaluate.tables)
      if run.due('checkpoint', step) or stopped:
        run.save(step, state)
      if stopped:
        run.say(f'stopped at step {step} of {run.total_steps}; the same command continues')
        break
  except UserError as error:  # an image that cannot be read, say
    run.give_up(step, state, error)
    raise
  if not measures and step == run.total_steps:  # a finished run was started again
    measures = evaluate(state.params if state.ema is None else state.ema, state.model_state)
  return finish(run, state, measures, step)


def finish(run, state, measures, step) -> dict:
  """Writes and returns the results."""
  return run.results({
      **{k.replace('/', '_'): v for k, v in measures.items()}, 'steps': step,
      'parameters': trees.count(state.params), 'seconds': round(run.seconds(), 1),
      'finished': step == run.total_steps})


def describe(data, state, mesh, steps: int, config) -> str:
  """Returns the line that says what is about to run."""
  info = data.info
  axes = ' x '.join(f'{name}={size}' for name, size in mesh.shape.items())
  return ('{} on {}: {:,} parameters, {} steps of {} images {}x{}x{}, {} classes, {} training and {} '
          'test images; {} process(es), mesh {} of {} {} device(s)').format(
              config.model.name, info.source, trees.count(state.params), steps,
              config.data.batch_size, *info.image_size, info.channels, info.num_classes,
              info.num_train, info.num_test, jax.process_count(), axes, mesh.size,
              mesh.devices.flat[0].platform)


def evaluate(config, workdir: str = '') -> dict[str, float]:
  """Evaluates `config.init_from` on the splits of a config; writes tables into a workdir that is.

  A published file is evaluated as it wants to be (`config.evaluate.protocol`).

  Raises:
    UserError: without weights, or when the classes of the weights are not those of the data.
  """
  if not config.init_from:
    raise UserError('nothing to evaluate: set config.init_from to a workdir, a checkpoint or a file')
  weights = task_lib.find(config).weights
  config, protocol = weights.follow_protocol(config)
  mesh = sharding.make_mesh(**config.mesh)
  with jax.set_mesh(mesh):
    data, task, optimizer, *_, evaluation = plan(config, mesh)
    weights.check_classes(config.init_from, data.info)
    state, *_ = step_lib.create_state(task, optimizer, data.example, mesh, task.rules, config.seed,
                                      ema=False)
    state, said = start(config, task, state, data.info)
    print('\n'.join([*protocol, *said]))
    weights.check_head(config.init_from, data.info, said)
    measures = evaluation(state.params, state.model_state)
  write_tables(workdir, evaluation.tables)
  return measures
