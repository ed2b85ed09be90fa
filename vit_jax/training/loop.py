"""THE loop, for every task."""

import jax
import jax.numpy as jnp

from vit_jax import config as config_lib, sharding, trees
from vit_jax.optim import optimizers, schedules
from vit_jax.training import processes
from vit_jax.training import step as step_lib, workdir as workdir_lib
from vit_jax.weights import runs
from vit_jax import task as task_lib
from vit_jax.errors import UserError
from vit_jax.training.scoring import Evaluation
from vit_jax.training.run import Run


def plan(config, mesh):
  """Returns (data, task, optimizer, schedule, total steps, evaluation) of a config; no array.

  Raises:
    UserError: whatever does not fit is found here, before any work and before a file is written.
  """
  data, task = task_lib.build(config, mesh)
  steps = config_lib.total_steps(config, data.info.num_train)
  step_lib.check_accumulate(config.data.batch_size, config.accumulate, sharding.batch_shards(mesh))
  config_lib.interval(config, 'checkpoint', data.info.num_train)
  if not config_lib.interval(config, 'evaluate', data.info.num_train) and config.evaluate.patience:
    raise UserError(f'evaluate.patience={config.evaluate.patience} counts evaluations; set '
                    'evaluate.every_epochs=1, or evaluate.every to some steps')
  schedule = schedules.make(**config.schedule, total_steps=steps,
                            steps_per_epoch=data.info.num_train / config.data.batch_size)
  optimizer = lambda params: optimizers.make(params, schedule, task.family.depth, **config.optimizer)
  shapes = jax.eval_shape(lambda rng: task.init(rng, data.example), jax.random.key(0))
  jax.eval_shape(lambda params: optimizer(params).init(params), shapes['params'])
  evaluation = Evaluation(task, data.splits, config, mesh, task_lib.eval_batch(config))
  return data, task, optimizer, schedule, steps, evaluation


def measure(config, task, splits) -> str:
  """Returns the name of the measure by which evaluations are compared."""
  split = 'validation' if 'validation' in splits else 'test'
  return config.evaluate.measure or f'{split}/{task.best}'


def start(config, task, state, info):
  """Returns the state that a run without checkpoint starts from, of `init_from` or else random, and the
  report on the weights, if there are any."""
  if not config.init_from:
    task.check_start()
    return state, None
  variables, report = task.weights.initialize(
      task.model, {'params': state.params, **state.model_state}, info, config.init_from,
      resampling=config.init_resampling, resize_patches=config.init_resize_patches,
      reset_head=config.reset_head, trained_size=tuple(config.init_image_size))
  ema = None if state.ema is None else jax.tree.map(jnp.copy, variables)
  params = variables.pop('params')
  return state.replace(params=params, model_state=variables, ema=ema), report


def train(config, workdir: str) -> dict:
  """Trains what a config describes and returns its results, also written to `results.json`.

  What a start uses: the run's newest good checkpoint, else `init_from`, else random parameters.
  After SIGTERM, Ctrl-C, SIGHUP or SIGUSR1 the run saves and returns early; the same call continues it.

  Returns:
    {'test_accuracy': ..., 'steps': ..., 'parameters': ..., 'seconds': ..., 'finished': ...,
    'best_step': ..., 'best_test_accuracy': ...}

  Raises:
    UserError: for all that the user can mend.
  """
  workdir_lib.check_free(workdir)
  mesh = sharding.make_mesh(**config.mesh)
  with jax.set_mesh(mesh):
    data, task, optimizer, schedule, steps, evaluation = plan(config, mesh)
    constants = task.constants(mesh)
    shapes, make_state, optimizer, undivided = step_lib.plan_state(
        task, optimizer, data.example, mesh, task.family.rules, config.seed, ema=config.ema_decay > 0.)
    train_step = make_step(config, task, optimizer, schedule, shapes)
    train_step.trace(shapes, data.example, **constants)  # what the model refuses shows now
    said = [f'stays whole on each device: {line}' for line in undivided[:1]]
    said += [f'(and {len(undivided) - 1} more)'] * (len(undivided) > 1)
    state, past = None, processes.most(runs.exists(workdir))
    if not past:
      state, report = start(config, task, make_state(), data.info)
      said += report.lines() if report else []
    with workdir_lib.locked(workdir):
      run = Run(workdir, config, data.info, steps, measure(config, task, data.splits))
      try:
        for line in [describe(data, shapes, mesh, steps, config), *said]:
          run.say(line)
        run.list_parameters(shapes.params)
        run.check_constants(constants)
        state = run.restore(shapes) if past else state  # no second state beside the one that is read
        return _loop(config, run, data, evaluation, state, train_step, constants)
      finally:
        run.close()


def make_step(config, task, optimizer, schedule, shapes):
  """Returns the jitted train step of a config, see `step.make`."""
  frozen = optimizers.matching(shapes.params, config.optimizer.freeze) if config.optimizer.get(
      'freeze') else None
  return step_lib.make(task, optimizer, schedule, shapes, seed=config.seed, frozen=frozen,
                       accumulate=config.accumulate, ema_decay=config.ema_decay,
                       ema_warmup=config.ema_warmup, sam_rho=config.sam_rho)


def _loop(config, run, data, evaluate, state, train_step, constants) -> dict:
  """Runs the steps that are left."""
  step = int(state.step)

  def measured(splits=()):
    with run.paused():
      found = evaluate(*step_lib.evaluated(state), splits)
    run.report(step, found, evaluate.tables)
    return found

  if run.owes(step):
    measured()
    run.amend(step)
  measures, last = {}, step if run.exhausted else run.total_steps
  try:
    for number, batch in data.train.after(step, last):
      run.profile(number)
      state, sums = train_step(state, batch, **constants)
      step = number + 1
      run.log(step, sums, config.data.batch_size)
      stopped, measures = run.stopping(step), {}
      if run.due('evaluate', step) and not stopped:
        measures = measured(() if step == run.total_steps else config.evaluate.splits)
      if run.due('checkpoint', step) or run.improved(step) or run.exhausted or stopped:
        run.save(step, state)
      if stopped or run.exhausted:
        run.say(f'stopped at step {step} of {run.total_steps}; ' + (
            'the same command continues' if stopped else run.why_exhausted()))
        break
  except Exception:  # an image that cannot be read, say
    run.give_up(step, state)
    raise
  done = step == run.total_steps and not run.owes(step) or run.exhausted
  if done and (not measures or config.evaluate.splits and run.exhausted):  # not all is measured
    measures = evaluate(*step_lib.evaluated(state))
  return finish(run, state, measures, step, done)


def finish(run, state, measures, step, done) -> dict:
  """Writes and returns the results."""
  return run.results({
      **{k.replace('/', '_'): v for k, v in measures.items()}, 'steps': step,
      'parameters': trees.count(state.params), 'seconds': round(run.seconds(), 1), 'finished': done,
      **({'stopped_early': True} if done and step < run.total_steps else {})})


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
