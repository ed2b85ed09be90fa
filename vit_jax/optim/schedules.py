"""Learning-rate schedules: a decay, a warm-up, and how each published code joins the two.

Every schedule maps a step (the number of updates already made) to a learning rate. The decay is a
function of the share of it that is left: from 1 to 0 at the end of the run (so that float32 is exact
near the end, where rates are small). docs/optimizers.md has the table of published recipes.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import ranges
from vit_jax.errors import UserError, unknown

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def constant(step, left):
  """1 throughout."""
  del step, left
  return 1.


def cosine(step, left):
  """Half a cosine from 1 to 0 (SGDR, arXiv:1608.03983, without restarts)."""
  del step
  return jnp.sin(.5 * jnp.pi * left) ** 2


def linear(step, left):
  """From 1 to 0 in a straight line."""
  del step
  return left


def polynomial(step, left, power: float = 1.):
  """From 1 to 0 as that power of a straight line (Segmenter, DeepLab: .9)."""
  del step
  return left ** power


def rsqrt(step, left, timescale: float = 10_000., shift: float = 0.):
  """1 / sqrt(1 + steps / timescale), of unknown end (Scaling ViT, arXiv:2106.04560, section 3.5)."""
  del left
  # During the warm-up the factor stands where the decay will begin, so that the rate does not jump.
  return 1. / jnp.sqrt(1. + (jnp.maximum(step, 0.) + shift) / timescale)


def staircase(step, left, boundaries: Sequence[int] = (), factors: Sequence[float] = ()):
  """`factors[i]` from `boundaries[i]` (steps after the decay began) on, 1 before the first."""
  del left
  if len(boundaries) != len(factors):
    raise UserError(f'schedule.boundaries {tuple(boundaries)} and schedule.factors {tuple(factors)} '
                    'must be as many: a factor for each boundary')
  if list(boundaries) != sorted(boundaries):
    raise UserError(f'schedule.boundaries {tuple(boundaries)} must rise')
  index = jnp.searchsorted(jnp.asarray(boundaries, jnp.float32), step, side='right')
  return jnp.take(jnp.asarray((1., *factors), jnp.float32), index)


DECAYS = dict(constant=constant, cosine=cosine, linear=linear, polynomial=polynomial, rsqrt=rsqrt,
              staircase=staircase)


@dataclasses.dataclass(frozen=True)
class Form:
  """How a code base joins warm-up and decay.

  Attributes:
    rebased: the decay begins at the end of the warm-up; otherwise at step 0, so that the warm-up
      hides its beginning.
    warmup: 'line' to the rate with which the decay begins; 'peak', a line to the peak, from which a
      decay that is not rebased jumps down; 'factor', a line to 1 that multiplies the running decay.
    inclusive: the last step of the warm-up has the line's end already, and so has the next one.
    peak_first: step 0 has the peak, warm-up or not.
  """
  rebased: bool = True
  warmup: str = 'line'
  inclusive: bool = False
  peak_first: bool = False


FORMS = dict(
    jax=Form(),  # vision_transformer, big_vision; Swin with its default, WARMUP_PREFIX
    timm=Form(rebased=False, warmup='peak'),  # CosineLRScheduler, so DeiT
    convnext=Form(inclusive=True),  # its ramp is np.linspace, which contains both ends
    segmenter=Form(rebased=False, peak_first=True),
    mmcv=Form(rebased=False, warmup='factor'))  # Swin's UperNet, Video Swin

# What may be given in epochs, and the name of the same in steps.
EPOCHS = dict(warmup_epochs='warmup_steps', cooldown_epochs='cooldown_steps', flat_epochs='flat_steps',
              lag_epochs='lag_steps', hold_epochs='hold_steps', boundary_epochs='boundaries')


def _in_steps(options: dict, steps_per_epoch: float | None) -> dict:
  """Returns the options with every duration in steps."""
  out = {k: v for k, v in options.items() if k not in EPOCHS}
  for name in filter(options.get, EPOCHS):
    if out.get(EPOCHS[name]):
      raise UserError(f'set either schedule.{name} or schedule.{EPOCHS[name]}, not both')
    if not steps_per_epoch:
      raise UserError(f'schedule.{name} needs the number of steps per epoch; set '
                      f'schedule.{EPOCHS[name]} instead')
    steps = [n * steps_per_epoch for n in np.atleast_1d(options[name])]
    if name != 'hold_epochs':  # a fractional number of steps per epoch must not drift
      steps = [round(n) for n in steps]
    out[EPOCHS[name]] = steps if name == 'boundary_epochs' else steps[0]
  return out


def make(name: str, *, peak: float, total_steps: int, steps_per_epoch: float | None = None,
         form: str = 'jax', **options) -> Schedule:
  """Returns the schedule of that name.

  Args:
    name: one of `DECAYS`.
    peak: learning rate at the end of the warm-up.
    total_steps: of the run.
    steps_per_epoch: of the data, for what is given in epochs.
    form: one of `FORMS`: how the code base that is followed joins warm-up and decay.
    **options: of `timetable`, or of the decay itself: `power`, `timescale`, `shift`, `boundaries`,
      `factors`. Durations may be in epochs, by the names of `EPOCHS`.

  Raises:
    UserError: for an unknown name or option, or a warm-up as long as the training.
  """
  if name not in DECAYS:
    raise unknown('schedule', name, DECAYS)
  if form not in FORMS:
    raise unknown('schedule.form', form, FORMS)
  decay, own = DECAYS[name], list(inspect.signature(DECAYS[name]).parameters)[2:]
  timing = list(timetable.__kwdefaults__)
  allowed = own + timing + [name for name, steps in EPOCHS.items() if steps in own + timing]
  for option in options:
    if option not in allowed:
      raise UserError(f'{unknown(f"option of schedule {name!r}:", option, ["peak", *allowed])} '
                      f'(schedule.{option}=default takes it out)')
  kinds = ranges.annotations(make) | ranges.annotations(timetable) | ranges.annotations(decay)
  kinds |= {name: float for name in EPOCHS} | {'boundary_epochs': Sequence[float]}
  ranges.check('schedule.', dict(options, peak=peak), kinds, {'timescale': '(0, inf)'})
  options = _in_steps(options, steps_per_epoch)
  shape = {key: options.pop(key) for key in own if key in options}
  jax.eval_shape(lambda: decay(0., 1., **shape))  # what does not fit is found before the first step
  return timetable(lambda *args: decay(*args, **shape), FORMS[form], peak, total_steps, **options)


def timetable(decay: Callable, form: Form, peak: float, total_steps: int, *, warmup_steps: int = 0,
              warmup_from: float = 0., end: float = 0., cooldown_steps: int = 0, flat_steps: int = 0,
              hold_steps: float = 0, lag_steps: int = 0) -> Schedule:
  """Returns the learning rate as a function of the step.

  Args:
    decay: (steps since its origin, share that is left) -> share of the way from `end` to `peak`.
    form: how warm-up and decay are joined.
    peak: learning rate at the end of the warm-up.
    total_steps: of the run.
    warmup_steps: steps of linear warm-up.
    warmup_from: learning rate with which it begins.
    end: learning rate at which cosine, linear and polynomial arrive.
    cooldown_steps: a last linear ramp to 0, for `rsqrt`.
    flat_steps: last steps at the rate where the decay arrived (what timm calls cooldown).
    hold_steps: the rate changes every so many steps only; `hold_epochs=1` for codes that set it once
      per epoch.
    lag_steps: the rate is that of so many steps ago. Codes that set it after an update from the
      number of that update (Swin: step, DeiT: epoch) run 1 behind their own formula.
  """
  total = total_steps - flat_steps
  if warmup_steps >= total:
    raise UserError(f'schedule.warmup_steps {warmup_steps} is not below the {total} steps of '
                    f'the run; set schedule.warmup_steps={max(total // 10, 0)} or train longer')
  for name, steps in (('cooldown', cooldown_steps), ('lag', lag_steps)):
    if steps >= total:
      raise UserError(f'schedule.{name}_steps {steps} is not below the {total} steps of the run')
  origin = warmup_steps if form.rebased else 0
  ramp = max(warmup_steps - form.inclusive, 1)

  def decayed(step):
    left = jnp.clip((total - step) / (total - origin), 0., 1.)
    return end + (peak - end) * decay(step - origin, left)

  def warming(step, rate):
    goal = {'line': decayed(jnp.float32(warmup_steps)), 'peak': peak, 'factor': rate}[form.warmup]
    start = warmup_from * (rate / peak if form.warmup == 'factor' else 1.)
    return start + (goal - start) * (step / ramp)

  def schedule(step):
    step = jnp.maximum(jnp.asarray(step, jnp.float32) - lag_steps, 0.)
    if hold_steps:  # half a step more keeps the quotient of whole numbers on the right side
      step = jnp.round(jnp.floor((step + .5) / hold_steps) * hold_steps)
    rate = decayed(step)
    if warmup_steps:
      rate = jnp.where(step < warmup_steps, warming(step, rate), rate)
    if form.peak_first:
      rate = jnp.where(step == 0., peak, rate)
    if cooldown_steps:
      rate *= jnp.clip((total - step) / cooldown_steps, 0., 1.)
    return rate

  return schedule
