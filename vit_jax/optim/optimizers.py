"""Optimizers, through optax: clip, direction, decay by name, learning rate, depth, freezing."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from vit_jax.optim import layer_decay as layers
from vit_jax import ranges, trees
from vit_jax.errors import UserError, unknown

# Which parameters decay, by published rule: (pattern, whether vectors may).
DECAYED = dict(
    kernels=(r'.*kernel', True),  # vision_transformer, big_vision
    timm=(r'(?!(.*/)?(bias|cls|dist|pos_embedding)$).*', False),
    deit=(r'(?!(.*/)?(bias|cls|pos_embedding)$).*', False),  # timm 0.3.2 did not know dist_token
    all=(r'.*', True))


RANGES = {'momentum|b1|b2|b2_cap': '[0, 1)', 'layer_decay': '(0, 1]'}


def _dtype(name: str) -> jnp.dtype:
  if name not in ('float32', 'bfloat16'):
    raise unknown('optimizer.momentum_dtype', name, ('float32', 'bfloat16'))
  return jnp.dtype(name)


def sgd(momentum: float = .9, nesterov: bool = False, momentum_dtype: str = 'float32'):
  """Gradient descent with momentum, kept in `momentum_dtype` (ViT fine-tuning, appendix B.1.1)."""
  return optax.trace(momentum, nesterov, accumulator_dtype=_dtype(momentum_dtype))


def adam(b1: float = .9, b2: float = .999, eps: float = 1e-8, momentum_dtype: str = 'float32'):
  """Adam (arXiv:1412.6980), the first moment kept in `momentum_dtype`."""
  return optax.scale_by_adam(b1, b2, eps, mu_dtype=_dtype(momentum_dtype))


def adafactor(momentum: float = .9, b2_power: float = .8, b2_cap: float = .999, eps: float = 1e-30,
              clip_threshold: float = 0., min_size_to_factor: int = 32,
              momentum_dtype: str = 'bfloat16'):
  """Adafactor (arXiv:1804.04235) as ViT-G was trained (Scaling ViT, arXiv:2106.04560, section 3.4).

  Against the original: the learning rate is not scaled by the parameters' norm, a first moment is
  kept in `momentum_dtype`, and beta2 = 1 - step ** -b2_power stops at `b2_cap`. A leaf whose second
  largest axis has at least `min_size_to_factor` entries keeps two vectors in place of its second
  moment; so does a scanned stack, over its two largest axes. `clip_threshold` bounds the root mean
  square of each leaf's update (section 6 of the original); 0, as big_vision has it, for none.
  """
  cap = lambda step, power: jnp.minimum(b2_cap, 1. - (step + 1.) ** -power)
  return optax.chain(
      optax.scale_by_factored_rms(True, b2_power, 0, min_size_to_factor, eps, cap),
      optax.clip_by_block_rms(clip_threshold) if clip_threshold else optax.identity(),
      optax.ema(momentum, debias=False, accumulator_dtype=_dtype(momentum_dtype)))


def lamb(b1: float = .9, b2: float = .999, eps: float = 1e-6, momentum_dtype: str = 'float32'):
  """LAMB's direction (arXiv:1904.00962, algorithm 2); `trust_ratio` follows after the decay."""
  return adam(b1, b2, eps, momentum_dtype)


def trust_ratio() -> optax.GradientTransformation:
  """Scales the update of each layer to the norm of its parameters; a stack holds many layers."""
  ratio = optax.scale_by_trust_ratio()

  def scale(path, update, param):
    alone = lambda u, p: ratio.update(u, optax.EmptyState(), p)[0]
    return (jax.vmap(alone) if trees.STACK.match(trees.path_name(path)) else alone)(update, param)

  return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(
      scale, updates, params))


def lion(b1: float = .9, b2: float = .99, momentum_dtype: str = 'float32'):
  """Lion: the sign of an interpolated momentum (arXiv:2302.06675, algorithm 2)."""
  return optax.scale_by_lion(b1, b2, mu_dtype=_dtype(momentum_dtype))


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """A published optimizer: its direction, default decay, and what comes after the decay."""
  direction: Callable[..., optax.GradientTransformation]
  weight_decay: float = 0.
  last: Callable[[], optax.GradientTransformation] = optax.identity


# adamw differs from adam by its default weight decay alone: the decay is decoupled in all of them
# (arXiv:1711.05101), multiplied by the learning rate, and not mixed into the moments.
OPTIMIZERS = dict(
    sgd=Optimizer(sgd), adam=Optimizer(adam), adamw=Optimizer(adam, weight_decay=.01),
    adafactor=Optimizer(adafactor), lamb=Optimizer(lamb, last=trust_ratio), lion=Optimizer(lion))


def matching(params, patterns: str | Sequence[str]):
  """Returns the tree of booleans: does a parameter's path match one of the patterns in full?

  Raises:
    UserError: when a pattern matches no parameter.
  """
  patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
  names = [trees.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  for pattern in patterns:
    if not any(re.fullmatch(pattern, name) for name in names):
      raise UserError(f'the pattern {pattern!r} matches no parameter; paths look like {names[0]!r}')
  return jax.tree_util.tree_map_with_path(
      lambda path, _: any(re.fullmatch(p, trees.path_name(path)) for p in patterns), params)


def decay_rates(params, weight_decay: float, decay: str | Sequence[str] = 'kernels',
                factors: Sequence[tuple[str, float]] = ()) -> dict[str, float]:
  """Returns {path: weight decay}. Arguments as those of `make`.

  Raises:
    UserError: when a pattern matches no parameter.
  """
  pattern, vectors = DECAYED.get(decay, (decay, True)) if isinstance(decay, str) else (decay, True)
  matching(params, [p for p, _ in factors])  # complains
  named, rates = matching(params, pattern), {}
  for (path, leaf), wanted in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(named)):
    name = trees.path_name(path)
    is_vector = leaf.ndim - bool(trees.STACK.match(name)) <= 1
    factor = next((f for p, f in factors if re.fullmatch(p, name)), 1.)
    rates[name] = weight_decay * factor if wanted and (vectors or not is_vector) else 0.
  return rates


def add_decay(rates: Mapping[str, float]) -> optax.GradientTransformation:
  """Returns what adds to each update its parameter, times the rate of its path."""
  def add(path, update, param):
    rate = rates[trees.path_name(path)]
    return update + rate * param if rate else update

  return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(
      add, updates, params))


def scale_rates(params, factors: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
  """Returns what multiplies each update by the factor of the first pattern that its path matches.

  Raises:
    UserError: when a pattern matches no parameter.
  """
  matching(params, [pattern for pattern, _ in factors])  # complains

  def scale(path, update):
    name = trees.path_name(path)
    return update * next((f for p, f in factors if re.fullmatch(p, name)), 1.)

  return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))


def make(params, schedule, depths=None, /, *, name: str, weight_decay: float | None = None,
         decay: str | Sequence[str] = 'kernels', decay_factors: Sequence[tuple[str, float]] = (),
         clip_norm: float = 0., layer_decay: float = 1., freeze: Sequence[str] = (),
         rate_factors: Sequence[tuple[str, float]] = (), **options
         ) -> optax.GradientTransformation:
  """Returns the optimizer of that name.

  Args:
    params: tree of parameters or shapes, for the masks.
    schedule: step -> learning rate.
    depths: depth groups of the model's family, for `layer_decay`.
    name: one of `OPTIMIZERS`.
    weight_decay: decoupled; None takes the optimizer's own default.
    decay: what decays: a rule of `DECAYED`, or patterns of paths.
    decay_factors: (pattern, factor) pairs; the first match multiplies the weight decay (Scaling ViT,
      section 3.1: more on the head).
    clip_norm: bound on the gradient's global norm before anything else; 0 for none.
    layer_decay: factor on the learning rate, and so on the decay, from each layer to the one before
      it, see `vit_jax.optim.layer_decay`; 1 for none.
    freeze: patterns of parameters that stay as they are; they have no optimizer slots and do not
      count in the gradient's norm.
    rate_factors: (pattern, factor) pairs; the first match multiplies the learning rate, and so the
      decay (DETR, section 4: a tenth of it for the backbone).
    **options: of the optimizer itself.

  Raises:
    UserError: for an unknown name or option, or a pattern that matches nothing.
  """
  if name not in OPTIMIZERS:
    raise unknown('optimizer', name, OPTIMIZERS)
  kind = OPTIMIZERS[name]
  own = inspect.signature(kind.direction).parameters
  for option in options:
    if option not in own:
      known = [*own, *make.__kwdefaults__]
      raise UserError(f'{unknown(f"option of optimizer {name!r}:", option, known)} '
                      f'(optimizer.{option}=default takes it out)')
  given = dict(options, weight_decay=weight_decay, decay=decay, decay_factors=decay_factors,
               clip_norm=clip_norm, layer_decay=layer_decay, freeze=freeze, rate_factors=rate_factors)
  kinds = ranges.annotations(make) | ranges.annotations(kind.direction)
  ranges.check('optimizer.', given, kinds, RANGES)
  weight_decay = kind.weight_decay if weight_decay is None else weight_decay
  chain = [optax.clip_by_global_norm(clip_norm)] * bool(clip_norm) + [kind.direction(**options)]
  if weight_decay:
    chain.append(add_decay(decay_rates(params, weight_decay, decay, decay_factors)))
  optimizer = optax.chain(*chain, kind.last(), optax.scale_by_learning_rate(schedule))
  if freeze:
    labels = jax.tree.map(lambda frozen: 'frozen' if frozen else 'trained', matching(params, freeze))
    optimizer = optax.partition({'trained': optimizer, 'frozen': optax.set_to_zero()}, labels)
  if rate_factors:
    optimizer = optax.chain(optimizer, scale_rates(params, rate_factors))
  if layer_decay == 1.:
    return optimizer
  return optax.chain(optimizer, layers.scale_by_layer(params, layer_decay, depths))
