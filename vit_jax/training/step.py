"""The train state and one train step: gradient, accumulation, clipping, update, average."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from vit_jax import compilation, sharding
from vit_jax.errors import UserError
from vit_jax.metrics import Pair
from vit_jax.task import Batch, Task, keys


@flax.struct.dataclass
class TrainState:
  """All that a run needs to go on.

  Attributes:
    step: number of updates made.
    params, model_state: of the model.
    opt_state: of the optimizer.
    ema: exponential average of the parameters and of what else the model keeps, such as running
      statistics: {'params': ..., 'batch_stats': ...}; or None.
  """
  step: jax.Array
  params: Any
  model_state: Any
  opt_state: Any
  ema: Any


def evaluated(state: TrainState) -> tuple[Any, Any]:
  """Returns (parameters, model state) that are evaluated: the averages where a run keeps them."""
  if state.ema is None:
    return state.params, state.model_state
  return state.ema['params'], {k: v for k, v in state.ema.items() if k != 'params'}


def plan_state(task: Task, optimizer: Callable, example: Batch, mesh, rules: sharding.Rules, seed: int,
               ema: bool) -> tuple[TrainState, Callable, optax.GradientTransformation, list[str]]:
  """Returns what a state will be, and what makes a fresh one where it lies.

  Args:
    task: makes the variables.
    optimizer: (shapes of the parameters) -> optimizer.
    example: shapes of a batch.
    mesh: with axes data, fsdp, model.
    rules: where parameters lie.
    seed: of the parameters.
    ema: whether to keep an average.

  Returns:
    (state of `jax.ShapeDtypeStruct` with shardings, () -> fresh state: no device ever holds it whole if
    rules split it, optimizer, sentences on what could not be split).
  """
  shapes = jax.eval_shape(lambda rng: task.init(rng, example), jax.random.key(0))
  transform = optimizer(shapes['params'])

  def init(key):
    variables = dict(task.init(key, example))
    # A copy: two leaves of a donated state must not share a buffer.
    average = jax.tree.map(jnp.copy, variables) if ema else None
    params = variables.pop('params')
    return TrainState(jnp.zeros((), jnp.int32), params, variables, transform.init(params), average)

  key = jax.random.key(seed)
  shapes = jax.eval_shape(init, key)
  where, undivided = sharding.shardings(shapes, rules, mesh)
  placed = jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at),
                        shapes, where)
  return placed, lambda: jax.jit(init, out_shardings=where)(key), transform, undivided


def create_state(*args, **kwargs) -> tuple[TrainState, optax.GradientTransformation, list[str]]:
  """Returns (fresh state, optimizer, what could not be split) of what `plan_state` takes."""
  _, make_state, transform, undivided = plan_state(*args, **kwargs)
  return make_state(), transform, undivided


def split(batch: Batch, parts: int) -> Batch:
  """Returns `[parts, batch / parts, ...]`: every part takes the same share of each device's rows."""
  def cut(x):
    return jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)
  return jax.tree.map(cut, batch)


def gradients(task: Task, params, model_state, batch: Batch, rng, parts: int):
  """Returns (gradients, metrics, model state) of a batch, computed in `parts` equal parts."""
  grad = jax.grad(task.loss, has_aux=True)
  if parts == 1:
    grads, aux = grad(params, model_state, batch, rng)
    return grads, aux.metrics, aux.model_state

  def body(carry, xs):
    total, weight, state = carry
    part, number = xs
    grads, aux = grad(params, state, jax.tree.map(sharding.constrain, part),
                      jax.random.fold_in(rng, number))
    total = jax.tree.map(lambda t, g: t + g * aux.weight, total, grads)
    return (total, weight + aux.weight, aux.model_state), aux.metrics

  zeros = jax.tree.map(jnp.zeros_like, params)
  (total, weight, state), sums = jax.lax.scan(
      body, (zeros, 0., model_state), (split(batch, parts), jnp.arange(parts)))
  return (jax.tree.map(lambda t: t / jnp.maximum(weight, 1.), total),
          jax.tree.map(lambda x: x.sum(axis=0), sums), state)


def ascend(params, grads, rho: float):
  """Returns the parameters a distance `rho` up the gradient (SAM, arXiv:2010.01412, equation 2).

  The gradient there replaces the one here (equation 3), for the same batch and the same dropout.
  The step is that of the whole batch; the paper's (section 4.1) is that of each device's part.
  """
  scale = rho / jnp.maximum(optax.global_norm(grads), 1e-12)
  return jax.tree.map(lambda p, g: p + scale * g, params, grads)


def make(task: Task, optimizer: optax.GradientTransformation, schedule: Callable, state: TrainState,
         *, seed: int, accumulate: int = 1, ema_decay: float = 0., ema_warmup: bool = True,
         sam_rho: float = 0., frozen=None
         ) -> Callable[..., tuple[TrainState, dict[str, Pair]]]:
  """Returns the jitted train step: (state, batch, **constants) -> (state, metrics).

  The state is donated; constants are those of the task.

  Args:
    task: gives augmentation and loss.
    optimizer: turns gradients into updates.
    schedule: step -> learning rate, for the log.
    state: gives the shardings, which stay as they are; arrays or shapes.
    seed: all randomness is a function of (seed, step, index in the global batch).
    accumulate: parts in which a batch is computed; the update is that of the whole.
    ema_decay: of the average: average = decay * average + (1 - decay) * parameters; running statistics
      are averaged as the parameters are, whole numbers are taken as they are.
    ema_warmup: whether that decay starts lower, as min(decay, (1 + step) / (10 + step)), so that
      the first parameters are soon forgotten.
    sam_rho: radius of sharpness-aware minimisation; 0 for none, see `ascend`.
    frozen: tree of booleans: parameters whose gradient nobody needs, so that it is not computed.
  """
  def train_step(state, batch, **constants):
    augment_key, model_key = keys(seed, state.step)
    batch = jax.tree.map(sharding.constrain, task.augment(batch, augment_key, **constants))

    def gradients_at(params):
      grads, *rest = gradients(task, params, state.model_state, batch, model_key, accumulate)
      if frozen is not None:
        grads = jax.tree.map(lambda g, f: jnp.zeros_like(g) if f else g, grads, frozen)
      return grads, *rest

    grads, sums, model_state = gradients_at(state.params)
    if sam_rho:
      grads, *_ = gradients_at(ascend(state.params, grads, sam_rho))
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
      warm = (1. + state.step) / (10. + state.step) if ema_warmup else 1.
      decay = jnp.minimum(ema_decay, warm)
      ema = average({'params': params, **model_state}, ema, decay)
    one = jnp.ones(())
    sums = {**sums, 'gradient_norm': (optax.global_norm(grads), one),
            'learning_rate': (schedule(state.step), one)}
    return TrainState(state.step + 1, params, model_state, opt_state, ema), sums

  where = jax.tree.map(lambda x: x.sharding, state)
  return compilation.jit(train_step, donate_argnums=0, out_shardings=(where, None))


def average(new, old, decay):
  """Returns decay * old + (1 - decay) * new of floating leaves, and the other leaves of `new`."""
  return jax.tree.map(lambda n, o: decay * o + (1. - decay) * n
                      if jnp.issubdtype(n.dtype, jnp.floating) else n, new, old)


def check_accumulate(batch_size: int, accumulate: int, shards: int) -> None:
  """Raises UserError unless the parts of a batch are equal on every device."""
  if accumulate < 1 or batch_size % (accumulate * shards):
    raise UserError(f'accumulate={accumulate} does not divide the {batch_size // shards} examples '
                    f'that each of the {shards} shards of the batch holds')
