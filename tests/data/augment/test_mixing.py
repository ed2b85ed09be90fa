"""Mixup and cutmix: shares, boxes and partners."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from tests.models import tiny
from vit_jax import sharding
from vit_jax.data import augment
from vit_jax.data.augment import mixing

MODES = ('batch', 'pair', 'element')


def colors(batch=8, height=13, width=18):
  """Images of one level each, and one class each: what is mixed shows in both alike."""
  return (jnp.broadcast_to(jnp.arange(batch, dtype=jnp.float32)[:, None, None, None],
                           (batch, height, width, 1)), jax.nn.one_hot(jnp.arange(batch), batch))


@functools.cache
def compiled(mode='batch', mixup=.8, cutmix=1.):
  return tiny.jit(lambda x, t, k, switch=.5, probability=1.: mixing.mixup_cutmix(
      x, t, k, mixup, cutmix, probability, switch, mode))


def run(seed=0, batch=8, switch=.5, probability=1., **options):
  images, targets = compiled(**options)(*colors(batch), jax.random.key(seed), switch, probability)
  return np.asarray(images), np.asarray(targets)


@pytest.mark.parametrize('mode', MODES)
def test_targets_follow_the_pixels_and_sum_to_one(mode):
  for seed in range(4):
    images, targets = run(seed, mode=mode)
    np.testing.assert_allclose(targets.sum(-1), 1., rtol=1e-6)
    # The level of a pixel is the index of the image it comes from, blended or not.
    np.testing.assert_allclose(images.mean((1, 2, 3)), targets @ np.arange(8), rtol=1e-5, atol=1e-5)
    own, partner = targets[np.arange(8), np.arange(8)], targets[np.arange(8), 7 - np.arange(8)]
    np.testing.assert_allclose(own + partner, 1., rtol=1e-6)


def test_cutmix_without_correction_gives_the_drawn_share():
  share, center = jnp.array([.3, .3]), jnp.array([[0, 0], [6, 9]])
  cut = jnp.array([True, True])
  _, free = mixing.mix(*colors(2), share, cut, center, correct=False)
  np.testing.assert_allclose(free[0], [.3, .7], rtol=1e-6)
  images, true = mixing.mix(*colors(2), share, cut, center)
  top, bottom, left, right = mixing.boxes(share, center, 13, 18)[0]
  assert (int(top), int(left)) == (0, 0)
  assert float(true[0, 1]) == pytest.approx(float((bottom - top) * (right - left)) / (13 * 18))
  assert float(images[0].mean()) == pytest.approx(float(true[0, 1]))


@pytest.mark.parametrize('share', [0., .19, .36, .75, 1.])
def test_a_whole_box_takes_the_rest_of_the_area(share):
  box = mixing.boxes(jnp.array([share]), jnp.array([[50, 50]]), 100, 100)
  top, bottom, left, right = np.asarray(box)[0]
  side = int(100 * np.sqrt(1 - share) + 1e-9)
  assert bottom - top == right - left == side


def test_who_draws():
  shares = np.diag(run(3, mixup=1., cutmix=0., mode='batch')[1])
  np.testing.assert_allclose(shares, shares[0], rtol=1e-6)
  shares = np.diag(run(3, mixup=1., cutmix=0., mode='pair')[1])
  np.testing.assert_allclose(shares, shares[::-1], rtol=1e-6)
  assert len(np.unique(shares.round(5))) == 4
  assert len(np.unique(np.diag(run(3, mixup=1., cutmix=0., mode='element')[1]).round(5))) == 8


def test_switch_and_probability():
  flat = lambda images: (images == images[:, :1, :1]).all(axis=(1, 2, 3))  # mixup keeps an image flat
  always = dict(mode='element', batch=32)
  assert flat(run(switch=0., **always)[0]).all()
  assert not flat(run(switch=1., **always)[0]).all()
  images, targets = run(probability=0., mode='element')
  np.testing.assert_array_equal(images, colors()[0])
  np.testing.assert_array_equal(targets, np.eye(8))
  mixed = np.diag(run(probability=.5, switch=0., **always)[1]) < 1.
  assert 6 < mixed.sum() < 26


def test_smoothing_before_is_smoothing_after():
  images, targets = colors()
  smooth = lambda t: .9 * t + .1 / 8
  key = jax.random.key(0)
  before = compiled()(images, smooth(targets), key)[1]
  np.testing.assert_allclose(before, smooth(compiled()(images, targets, key)[1]), atol=1e-6)


@pytest.mark.parametrize('mode', MODES)
def test_devices_change_no_pixel(mode):
  noise = jnp.asarray(np.random.default_rng(0).random((8, 13, 18, 3)), jnp.float32)
  function = compiled(mode)
  alone = function(noise, jnp.eye(8), jax.random.key(0))
  where = NamedSharding(sharding.make_mesh(8, 1, 1), sharding.BATCH)
  split = function(*jax.device_put((noise, jnp.eye(8)), where), jax.random.key(0))
  for a, b in zip(alone, split):
    np.testing.assert_array_equal(a, b)


def test_an_odd_batch_mixes_its_middle_with_itself():
  images, targets = run(batch=5, mode='element')
  assert float(targets[2, 2]) == pytest.approx(1.)
  np.testing.assert_allclose(images[2], 2.)


def test_the_face_finds_it():
  ops = [dict(name='mixup_cutmix', mode='pair')]
  images, targets = tiny.jit(lambda x, t, k: augment.apply(x, t, k, ops))(*colors(), jax.random.key(0))
  np.testing.assert_allclose(images.mean((1, 2, 3)), targets @ jnp.arange(8.), rtol=1e-5, atol=1e-5)
