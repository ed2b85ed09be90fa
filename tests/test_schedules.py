"""Learning rates against their closed forms."""

import math

import numpy as np
import pytest

from vit_jax import schedules
from vit_jax.errors import UserError


@pytest.mark.parametrize('name, end', [('cosine', 0.), ('linear', 0.), ('cosine', .1),
                                       ('linear', .1)])
def test_end_points(name, end):
  rate = schedules.make(name, peak=2., total_steps=100, warmup_steps=10, end=end)
  assert float(rate(0)) == 0.
  np.testing.assert_allclose(rate(10), 2., rtol=1e-6)
  np.testing.assert_allclose(rate(100), end, atol=1e-6)
  np.testing.assert_allclose(rate(150), end, atol=1e-6)


@pytest.mark.parametrize('name', schedules.DECAYS)
def test_without_warm_up_the_first_step_has_the_peak(name):
  np.testing.assert_allclose(schedules.make(name, peak=.3, total_steps=10)(0), .3, rtol=1e-6)


def test_warm_up_is_a_straight_line_of_the_constant():
  rate = schedules.make('constant', peak=3., total_steps=100, warmup_steps=4)
  np.testing.assert_allclose([rate(s) for s in range(7)], [0., .75, 1.5, 2.25, 3., 3., 3.])


def test_cosine():
  rate = schedules.make('cosine', peak=2., total_steps=90, warmup_steps=10, end=.5)
  for step in (10, 30, 50, 73, 90):
    want = .5 + 1.5 * .5 * (1 + math.cos(math.pi * (step - 10) / 80))
    np.testing.assert_allclose(rate(step), want, rtol=1e-6)


@pytest.mark.parametrize('power', [1., 2., .5])
def test_linear_and_its_powers(power):
  rate = schedules.make('linear', peak=2., total_steps=110, warmup_steps=10, power=power)
  for step in (10, 35, 60, 109):
    np.testing.assert_allclose(rate(step), 2. * (1 - (step - 10) / 100) ** power, rtol=1e-5)


def test_rsqrt_halves_after_three_timescales_and_is_constant_in_its_warm_up():
  rate = schedules.make('rsqrt', peak=1., total_steps=1000, warmup_steps=10, timescale=50.)
  np.testing.assert_allclose(rate(10 + 150), .5, rtol=1e-6)
  np.testing.assert_allclose([rate(2), rate(5)], [.2, .5], rtol=1e-6)
  shifted = schedules.make('rsqrt', peak=1., total_steps=1000, timescale=50., shift=150.)
  np.testing.assert_allclose(shifted(0), .5, rtol=1e-6)


def test_cool_down_is_a_last_straight_line_to_zero():
  options = dict(peak=1., total_steps=100, timescale=30.)
  plain = schedules.make('rsqrt', **options)
  cooled = schedules.make('rsqrt', cooldown_steps=20, **options)
  for step, share in ((0, 1.), (80, 1.), (90, .5), (95, .25), (100, 0.), (120, 0.)):
    np.testing.assert_allclose(cooled(step), share * plain(step), rtol=1e-6)


def test_staircase_takes_each_factor_from_its_boundary_on():
  rate = schedules.make('staircase', peak=4., total_steps=100, warmup_steps=10,
                        boundaries=(20, 50), factors=(.5, .25))
  steps = (10, 29, 30, 59, 60, 99)  # boundaries count from the end of the warm-up
  np.testing.assert_allclose([rate(s) for s in steps], [4., 4., 2., 2., 1., 1.])


@pytest.mark.parametrize('name', ['cosine', 'linear', 'rsqrt'])
def test_a_decay_never_rises(name):
  rate = schedules.make(name, peak=1., total_steps=50)
  assert (np.diff([float(rate(s)) for s in range(51)]) < 0).all()


def test_unknown_names_and_options():
  with pytest.raises(UserError, match="unknown schedule 'cosinus'; did you mean 'cosine'"):
    schedules.make('cosinus', peak=1., total_steps=10)
  with pytest.raises(UserError, match="option of schedule 'linear': 'powre'; did you mean 'power'"):
    schedules.make('linear', peak=1., total_steps=10, powre=2.)
  with pytest.raises(UserError, match="option of schedule 'cosine': 'power'"):
    schedules.make('cosine', peak=1., total_steps=10, power=2.)


@pytest.mark.parametrize('warmup', [100, 101])
def test_a_warm_up_as_long_as_the_run_is_refused_with_a_remedy(warmup):
  with pytest.raises(UserError, match=f'{warmup} is not below the 100 .*schedule.warmup_steps=10'):
    schedules.make('cosine', peak=1., total_steps=100, warmup_steps=warmup)


def test_a_shifted_rsqrt_does_not_jump_at_the_end_of_its_warm_up():
  rate = schedules.make('rsqrt', peak=1., total_steps=1000, warmup_steps=100, timescale=50., shift=150.)
  assert rate(100) == pytest.approx(.5)  # 1 / sqrt(1 + 150 / 50)
  assert rate(99) == pytest.approx(.99 * .5, rel=1e-5)
