"""Losses equal their definitions, with soft targets everywhere."""

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.tasks import losses
from vit_jax.errors import UserError

RNG = np.random.default_rng(0)
LOGITS = (4. * RNG.normal(size=(6, 5))).astype(np.float32)
SOFT = RNG.dirichlet(np.ones(5), size=6).astype(np.float32)
MULTI = (RNG.random((6, 5)) < .4).astype(np.float32)


def log_sigmoid(x):
  return -np.log1p(np.exp(-x.astype(np.float64)))


def binary_entropies(logits, targets):
  return -(targets * log_sigmoid(logits) + (1. - targets) * log_sigmoid(-logits))


def test_softmax_of_soft_targets():
  probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
  np.testing.assert_allclose(losses.softmax(jnp.asarray(LOGITS), SOFT),
                             -(SOFT * np.log(probabilities)).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize('targets', [SOFT, MULTI])
def test_sigmoid_sums_and_binary_averages_over_the_classes(targets):
  each = binary_entropies(LOGITS, targets)
  np.testing.assert_allclose(losses.sigmoid(jnp.asarray(LOGITS), targets), each.sum(axis=1),
                             rtol=1e-5)
  np.testing.assert_allclose(losses.binary(jnp.asarray(LOGITS), targets), each.mean(axis=1),
                             rtol=1e-5)


@pytest.mark.parametrize('name', sorted(losses.LOSSES))
def test_losses_of_bfloat16_logits_are_float32(name):
  found = losses.LOSSES[name](jnp.asarray(LOGITS, jnp.bfloat16), jnp.asarray(SOFT))
  assert found.dtype == jnp.float32 and found.shape == (6,)


def test_smoothing_is_the_off_value_and_on_value_of_timm():
  hot = np.eye(5, dtype=np.float32)
  off, on = .1 / 5, 1. - .1 + .1 / 5
  np.testing.assert_allclose(losses.smooth(jnp.asarray(hot), .1), np.where(hot > 0, on, off), rtol=1e-6)


def test_smoothing_as_a_penalty_on_the_cross_entropy_is_the_same():
  label = np.arange(6) % 5
  smoothed = losses.softmax(jnp.asarray(LOGITS), losses.smooth(jnp.eye(5)[label], .1))
  log_p = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
  want = -.9 * log_p[np.arange(6), label] - .1 * log_p.mean(axis=1)
  np.testing.assert_allclose(smoothed, want, rtol=1e-5)


def test_smoothing_before_mixing_is_smoothing_after_it():
  hot = jnp.eye(5)
  mix = lambda t: .7 * t + .3 * jnp.roll(t, 1, axis=0)
  np.testing.assert_allclose(mix(losses.smooth(hot, .1)), losses.smooth(mix(hot), .1), atol=1e-6)


def test_a_threshold_makes_both_classes_of_a_mixed_image_present():
  mixed = losses.smooth(jnp.array([[.75, .25, 0., 0.]]), .1)
  np.testing.assert_array_equal(losses.binarize(mixed, .2), [[1., 1., 0., 0.]])
  np.testing.assert_array_equal(losses.binarize(mixed, .5), [[1., 0., 0., 0.]])
  assert losses.binarize(mixed, None) is mixed


def test_the_numbers_of_timm():
  """Of timm 1.0.31: BinaryCrossEntropy, SoftTarget- and LabelSmoothingCrossEntropy, mixup_target."""
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)
  hot = jnp.eye(5)[np.array([3, 0, 2, 2])]
  smoothed, mixed = losses.smooth(hot, .1), losses.smooth(.7 * hot + .3 * hot[::-1], .1)
  found = [losses.binary(logits, smoothed), losses.sigmoid(logits, smoothed),
           losses.binary(logits, losses.binarize(mixed, .2)), losses.softmax(logits, mixed),
           losses.softmax(logits, smoothed)]
  want = [.7895197, 3.9475985, .7279373, 1.9410914, 2.1807633]
  np.testing.assert_allclose([x.mean() for x in found], want, rtol=1e-6)


@pytest.mark.parametrize('arguments, says', [
    (('hinge', 0., None, 10, False), ['hinge', 'softmax']),
    (('softmax', 0., None, 10, True), ['softmax', 'sigmoid', 'several']),
    (('softmax', 1., None, 10, False), ['label_smoothing=1.0']),
    (('sigmoid', 0., .2, 10, False), ['target_threshold', 'binary']),
    (('binary', .5, .01, 10, False), ['target_threshold', '0.05'])])
def test_what_does_not_fit_is_named(arguments, says):
  with pytest.raises(UserError) as error:
    losses.check(*arguments)
  assert all(text in str(error.value) for text in says), error.value


@pytest.mark.parametrize('arguments', [('softmax', .1, None, 10, False), ('sigmoid', 0., None, 10, True),
                                       ('binary', .1, .2, 10, False), ('binary', 0., 0., 10, True)])
def test_what_fits_passes(arguments):
  losses.check(*arguments)
