"""Calibration error and Brier score in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.evaluation import calibration
from vit_jax.metrics import add

RNG = np.random.default_rng(0)


def error_of(confidence, right, mask=None):
  mask = np.ones(len(confidence)) if mask is None else mask
  sums = calibration.bin_sums(*(jnp.asarray(x, jnp.float32) for x in (confidence, right, mask)))
  return calibration.expected_calibration_error(add(None, sums))


def definition(confidence, right, bins=15):
  """Equation 3 of the paper, one bin after the other."""
  total = 0.
  for m in range(bins):
    inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
    if inside.any():
      total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
  return total


def test_a_constructed_distribution_has_its_error():
  # Three quarters say .9 and are right half the time; a quarter says .3 and is always right.
  confidence = np.repeat([.9, .3], [60, 20])
  right = np.concatenate([np.tile([0., 1.], 30), np.ones(20)])
  assert error_of(confidence, right) == pytest.approx(.75 * .4 + .25 * .7, abs=1e-6)


def test_calibrated_probabilities_have_none():
  confidence = np.repeat([.25, .75], [40, 40])
  right = np.concatenate([np.arange(40) < 10, np.arange(40) < 30])
  assert error_of(confidence, right) == pytest.approx(0., abs=1e-6)


def test_it_is_the_definition_for_any_distribution():
  confidence = RNG.random(500).astype(np.float32)
  right = (RNG.random(500) < confidence ** 2).astype(np.float32)
  assert error_of(confidence, right) == pytest.approx(definition(confidence, right), abs=1e-5)


def test_certainty_and_none_lie_in_the_outer_bins():
  sums = calibration.bin_sums(jnp.array([0., 1. / 15., .07, 1.]), jnp.ones(4), jnp.ones(4))
  counts = sums['bin_accuracy'][1]
  assert [int(counts[i]) for i in (0, 1, 14)] == [2, 1, 1]


def test_batches_add_up_and_padding_counts_nowhere():
  confidence, right = RNG.random(50), RNG.integers(2, size=50)
  total = None
  for start in range(0, 50, 16):
    part = slice(start, start + 16)
    pad = lambda x, value: np.concatenate([x, np.full(16 - len(x), value)]).astype(np.float32)
    c, r = confidence[part], right[part]
    total = add(total, calibration.bin_sums(
        jnp.asarray(pad(c, np.nan)), jnp.asarray(pad(r, 1.)), jnp.asarray(pad(np.ones(len(c)), 0.))))
  assert calibration.expected_calibration_error(total) == pytest.approx(
      error_of(confidence, right), abs=1e-6)


def test_nothing_counted_is_nan():
  assert np.isnan(error_of(np.ones(2), np.ones(2), np.zeros(2)))


def test_brier_score_of_certainty_and_of_doubt():
  labels = jnp.array([[True, False], [True, False], [True, False]])
  probabilities = jnp.array([[1., 0.], [0., 1.], [.5, .5]])
  np.testing.assert_allclose(calibration.brier_score(probabilities, labels), [0., 2., .5])
