"""Optimizers, through optax: clip, direction, weight decay by name, learning rate, freezing."""

import inspect
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from vit_jax import trees
from vit_jax.errors import UserError, unknown

# Kernels only: biases, norms, the class token and position tables do not decay.
KERNELS = r'.*kernel'


def sgd(momentum: float = .9, nesterov: bool = False, momentum_dtype: str = 'float32'):
  """Gradient descent with momentum, kept in `momentum_dtype` (ViT fine-tuning, appendix B.1.1)."""
  return optax.trace(momentum, nesterov, accumulator_dtype=jnp.dtype(momentum_dtype))


def adam(b1: float = .9, b2: float = .999, eps: float = 1e-8, momentum_dtype: str = 'float32'):
  """Adam (arXiv:1412.6980), the first moment kept in `momentum_dtype`."""
  return optax.scale_by_adam(b1, b2, eps, mu_dtype=jnp.dtype(momentum_dtype))


# adamw differs from adam by its default weight decay alone: the decay is decoupled in all of them
# (arXiv:1711.05101), multiplied by the learning rate, and not mixed into the moments.
OPTIMIZERS = dict(sgd=(sgd, 0.), adam=(adam, 0.), adamw=(adam, .01))


def matching(params, patterns: str | Sequence[str], strict: bool = True):
  """Returns the tree of booleans: does a parameter's path match one of the patterns in full?

  Raises:
    UserError: when a pattern matches no parameter, if `strict`.
  """
  patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
  names = [trees.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  for pattern in patterns if strict else ():
    if not any(re.fullmatch(pattern, name) for name in names):
      raise UserError(f'the pattern {pattern!r} matches no parameter; paths look like {names[0]!r}')
  return jax.tree_util.tree_map_with_path(
      lambda path, _: any(re.fullmatch(p, trees.path_name(path)) for p in patterns), params)


def make(params, schedule, *, name: str, weight_decay: float | None = None, decay: str = KERNELS,
         clip_norm: float = 0., freeze: Sequence[str] = (), **options
         ) -> optax.GradientTransformation:
  """Returns the optimizer of that name.

  Args:
    params: tree of parameters or shapes, for the masks.
    schedule: step -> learning rate.
    name: one of `OPTIMIZERS`.
    weight_decay: decoupled; None takes the optimizer's own default.
    decay: pattern of the parameters that decay.
    clip_norm: bound on the gradient's global norm before anything else; 0 for none.
    freeze: patterns of parameters that stay as they are; they have no optimizer slots and do not
      count in the gradient's norm.
    **options: of the optimizer itself.

  Raises:
    UserError: for an unknown name or option, or a pattern that matches nothing.
  """
  if name not in OPTIMIZERS:
    raise unknown('optimizer', name, OPTIMIZERS)
  direction, default_decay = OPTIMIZERS[name]
  for option in options:
    if option not in inspect.signature(direction).parameters:
      raise unknown(f'option of optimizer {name!r}:', option, inspect.signature(direction).parameters)
  weight_decay = default_decay if weight_decay is None else weight_decay
  chain = [direction(**options)]
  if clip_norm:
    chain.insert(0, optax.clip_by_global_norm(clip_norm))
  if weight_decay:
    matching(params, decay)  # complains; the mask itself may see the parameters that are not frozen
    chain.append(optax.add_decayed_weights(weight_decay, lambda p: matching(p, decay, strict=False)))
  optimizer = optax.chain(*chain, optax.scale_by_learning_rate(schedule))
  if not freeze:
    return optimizer
  labels = jax.tree.map(lambda frozen: 'frozen' if frozen else 'trained', matching(params, freeze))
  return optax.partition({'trained': optimizer, 'frozen': optax.set_to_zero()}, labels)
