"""Learning rates against their closed forms."""

import math

import numpy as np
import pytest

from vit_jax.optim import schedules
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
def test_polynomials(power):
  rate = schedules.make('polynomial', peak=2., total_steps=110, warmup_steps=10, power=power)
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
  with pytest.raises(UserError, match="option of schedule 'polynomial': 'powre'; did you mean 'power'"):
    schedules.make('polynomial', peak=1., total_steps=10, powre=2.)
  with pytest.raises(UserError, match="option of schedule 'cosine': 'power'"):
    schedules.make('cosine', peak=1., total_steps=10, power=2.)
  with pytest.raises(UserError, match="unknown schedule.form 'tim'; did you mean 'timm'"):
    schedules.make('cosine', peak=1., total_steps=10, form='tim')


@pytest.mark.parametrize('warmup', [100, 101])
def test_a_warm_up_as_long_as_the_run_is_refused_with_a_remedy(warmup):
  with pytest.raises(UserError, match=f'{warmup} is not below the 100 .*schedule.warmup_steps=10'):
    schedules.make('cosine', peak=1., total_steps=100, warmup_steps=warmup)


def test_a_shifted_rsqrt_does_not_jump_at_the_end_of_its_warm_up():
  rate = schedules.make('rsqrt', peak=1., total_steps=1000, warmup_steps=100, timescale=50., shift=150.)
  assert rate(100) == pytest.approx(.5)  # 1 / sqrt(1 + 150 / 50)
  assert rate(99) == pytest.approx(.99 * .5, rel=1e-5)


def test_a_warm_up_may_begin_above_zero():
  rate = schedules.make('cosine', peak=2., total_steps=100, warmup_steps=10, warmup_from=.5)
  np.testing.assert_allclose([rate(0), rate(5), rate(10)], [.5, 1.25, 2.], rtol=1e-6)


def cosine_at(progress, peak=2., end=.1):
  return end + (peak - end) * .5 * (1 + math.cos(math.pi * progress))


FIGURES = dict(peak=2., end=.1, total_steps=100, warmup_steps=20, warmup_from=.3)


@pytest.mark.parametrize('form, want', [
    # At steps 0, 10, 19 (the last of the warm-up), 20 and 60.
    ('jax', (.3, 1.15, .3 + 1.7 * 19 / 20, 2., cosine_at(.5))),
    ('timm', (.3, 1.15, .3 + 1.7 * 19 / 20, cosine_at(.2), cosine_at(.6))),
    ('convnext', (.3, .3 + 1.7 * 10 / 19, 2., 2., cosine_at(.5))),
    ('segmenter', (2., .3 + (cosine_at(.2) - .3) / 2, .3 + (cosine_at(.2) - .3) * 19 / 20, cosine_at(.2),
                   cosine_at(.6))),
    ('mmcv', (.15 * cosine_at(0.), (.15 + .85 / 2) * cosine_at(.1),
              (.15 + .85 * 19 / 20) * cosine_at(.19), cosine_at(.2), cosine_at(.6)))])
def test_the_forms_differ_in_where_the_decay_begins_and_what_the_warm_up_leads_to(form, want):
  rate = schedules.make('cosine', form=form, **FIGURES)
  np.testing.assert_allclose([rate(s) for s in (0, 10, 19, 20, 60)], want, rtol=2e-6)
  np.testing.assert_allclose(rate(100), .1, rtol=1e-6)


@pytest.mark.parametrize('form', schedules.FORMS)
def test_without_warm_up_the_forms_agree(form):
  rate = schedules.make('linear', form=form, peak=2., total_steps=10)
  np.testing.assert_allclose([rate(s) for s in range(11)], 2. - .2 * np.arange(11), atol=1e-6)


def test_the_hyper_rule_of_bit_drops_one_step_after_its_supports():
  # Big Transfer, arXiv:1912.11370, appendix: 500 steps in all, 100 of warm-up for a small data set.
  rate = schedules.make('staircase', form='timm', peak=.003, total_steps=500, warmup_steps=100,
                        boundaries=(201, 301, 401), factors=(.1, .01, .001))
  for step in range(500):
    drops = sum(s < step for s in (200, 300, 400))
    want = .003 * step / 100 if step < 100 else .003 / 10**drops
    np.testing.assert_allclose(rate(step), want, rtol=1e-5)


def test_a_held_rate_is_that_of_the_first_step_of_its_epoch():
  plain = schedules.make('cosine', form='timm', **FIGURES)
  held = schedules.make('cosine', form='timm', hold_steps=5, **FIGURES)
  for step in (0, 4, 5, 9, 23, 99):
    np.testing.assert_allclose(held(step), plain(step // 5 * 5), rtol=1e-6)


@pytest.mark.parametrize('steps_per_epoch', [7., 1251.14, 390.625])
def test_epochs_begin_at_the_nearest_whole_step_and_do_not_drift(steps_per_epoch):
  total = round(300 * steps_per_epoch)
  rate = schedules.make('linear', peak=300., total_steps=total, hold_epochs=1,
                        steps_per_epoch=steps_per_epoch)
  for epoch in (1, 3, 150, 299):
    start = round(epoch * steps_per_epoch)
    assert float(rate(start)) < float(rate(start - 1)), epoch
    np.testing.assert_allclose(rate(start), 300. * (1 - start / total), rtol=1e-3)


def test_durations_in_epochs_are_those_in_steps():
  epochs = schedules.make('cosine', peak=1., total_steps=1000, steps_per_epoch=10.4, warmup_epochs=5,
                          flat_epochs=10, lag_epochs=1)
  steps = schedules.make('cosine', peak=1., total_steps=1000, warmup_steps=52, flat_steps=104,
                         lag_steps=10)
  for step in (0, 9, 30, 62, 500, 999):
    assert epochs(step) == steps(step)
  drops = schedules.make('staircase', peak=1., total_steps=1000, steps_per_epoch=10.,
                         boundary_epochs=(27, 33), factors=(.1, .01))
  np.testing.assert_allclose([drops(s) for s in (269, 270, 329, 330)], [1., .1, .1, .01], rtol=1e-6)


def test_a_rate_that_lags_is_an_earlier_one():
  plain = schedules.make('cosine', **FIGURES)
  late = schedules.make('cosine', lag_steps=3, **FIGURES)
  for step, before in ((0, 0), (2, 0), (3, 0), (20, 17), (60, 57)):
    assert late(step) == plain(before)


def test_the_last_steps_may_stay_where_the_decay_arrived():
  rate = schedules.make('cosine', peak=1., end=.2, total_steps=110, flat_steps=10)
  np.testing.assert_allclose([rate(50), rate(100), rate(109)], [.6, .2, .2], rtol=1e-6)


def test_epochs_that_cannot_be_counted_or_are_given_twice():
  make = lambda **k: schedules.make('cosine', peak=1., total_steps=10, **k)
  with pytest.raises(UserError, match='warmup_epochs needs .*; set schedule.warmup_steps instead'):
    make(warmup_epochs=1)
  with pytest.raises(UserError, match='either schedule.warmup_epochs or schedule.warmup_steps'):
    make(warmup_epochs=1, warmup_steps=2, steps_per_epoch=3.)
  with pytest.raises(UserError, match='a factor for each boundary'):
    schedules.make('staircase', peak=1., total_steps=10, boundaries=(3, 5), factors=(.1,))
