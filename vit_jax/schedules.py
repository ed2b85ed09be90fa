"""Learning-rate schedules as ViT and big_vision use them: a decay times a linear warm-up.

Every schedule maps a step (the number of updates already made) to a learning rate. Progress runs
from 0 at the end of the warm-up to 1 at `total_steps`.
"""

import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from vit_jax.errors import UserError, unknown

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def constant(step, progress):
  """1 throughout."""
  del step, progress
  return 1.


def cosine(step, progress):
  """Half a cosine from 1 to 0 (SGDR, arXiv:1608.03983, without restarts)."""
  del step
  return .5 * (1. + jnp.cos(jnp.pi * progress))


def linear(step, progress, power: float = 1.):
  """From 1 to 0 in a straight line, or as a polynomial of that power."""
  del step
  return (1. - progress) ** power


def rsqrt(step, progress, timescale: float = 10_000., shift: float = 0.):
  """1 / sqrt(1 + steps / timescale), of unknown end (Scaling ViT, arXiv:2106.04560, section 3.5)."""
  del progress
  # During the warm-up the factor stands where the decay will begin, so that the rate does not jump.
  return 1. / jnp.sqrt(1. + (jnp.maximum(step, 0.) + shift) / timescale)


def staircase(step, progress, boundaries: Sequence[int] = (), factors: Sequence[float] = ()):
  """`factors[i]` from `boundaries[i]` (steps after warm-up) on, 1 before the first."""
  del progress
  index = jnp.searchsorted(jnp.asarray(boundaries, jnp.float32), step, side='right')
  return jnp.take(jnp.asarray((1., *factors), jnp.float32), index)


DECAYS = dict(constant=constant, cosine=cosine, linear=linear, rsqrt=rsqrt, staircase=staircase)


def make(name: str, *, peak: float, total_steps: int, warmup_steps: int = 0, end: float = 0.,
         cooldown_steps: int = 0, **options) -> Schedule:
  """Returns the schedule of that name.

  Args:
    name: one of `DECAYS`.
    peak: learning rate at the end of the warm-up.
    total_steps: where the decay arrives.
    warmup_steps: steps of linear warm-up from 0.
    end: learning rate at which cosine and linear arrive.
    cooldown_steps: a last linear ramp to 0, for `rsqrt`.
    **options: of the decay itself: `power`, `timescale`, `shift`, `boundaries`, `factors`.

  Raises:
    UserError: for an unknown name or option, or a warm-up as long as the training.
  """
  if name not in DECAYS:
    raise unknown('schedule', name, DECAYS)
  decay = DECAYS[name]
  allowed = list(inspect.signature(decay).parameters)[2:]
  for option in options:
    if option not in allowed:
      raise unknown(f'option of schedule {name!r}:', option, allowed or ['peak', 'warmup_steps'])
  if warmup_steps >= total_steps:
    raise UserError(f'schedule.warmup_steps {warmup_steps} is not below the {total_steps} steps of '
                    f'the run; set schedule.warmup_steps={max(total_steps // 10, 0)} or train longer')

  def schedule(step):
    step = jnp.asarray(step, jnp.float32)
    progress = jnp.clip((step - warmup_steps) / (total_steps - warmup_steps), 0., 1.)
    rate = end + (peak - end) * decay(step - warmup_steps, progress, **options)
    if warmup_steps:
      rate *= jnp.minimum(1., step / warmup_steps)
    if cooldown_steps:
      rate *= jnp.clip((total_steps - step) / cooldown_steps, 0., 1.)
    return rate

  return schedule
