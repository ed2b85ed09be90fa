"""Colour jitter and three-augment: closed forms."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from vit_jax.data import augment
from vit_jax.data.augment import jitter
from vit_jax.errors import UserError


def noise(batch=32, height=9, width=12, channels=3):
  values = np.random.default_rng(0).uniform(.3, .6, (batch, height, width, channels))
  return jnp.asarray(values, jnp.float32)


@functools.cache
def compiled(items):
  return tiny.jit(lambda x, k: augment.apply(x, jnp.zeros((len(x), 1)), k, [dict(items)])[0])


def run(images, seed=0, **op):
  return np.asarray(compiled(tuple(op.items()))(images, jax.random.key(seed)))


def alone(**strength):
  return dict(name='color_jitter', **{**dict(brightness=0., contrast=0., saturation=0.), **strength})


def test_brightness_is_a_factor_within_its_bounds():
  factors = run(noise(), **alone(brightness=.4)) / np.asarray(noise())
  np.testing.assert_allclose(factors, factors[:, :1, :1, :1] * np.ones_like(factors), rtol=1e-5)
  assert .6 < factors.min() < .75 and 1.25 < factors.max() < 1.4


def test_contrast_keeps_the_mean_grey_and_saturation_each_grey():
  luma = lambda x: np.asarray(x) @ np.float32([.299, .587, .114])
  out = run(noise(), **alone(contrast=.4))
  np.testing.assert_allclose(luma(out).mean((1, 2)), luma(noise()).mean((1, 2)), rtol=1e-4)
  spread = out.std((1, 2, 3)) / np.asarray(noise()).std((1, 2, 3))
  assert .6 < spread.min() < .8 and 1.2 < spread.max() < 1.4
  out = run(noise(), **alone(saturation=.4))
  np.testing.assert_allclose(luma(out), luma(noise()), rtol=1e-4)
  assert np.abs(out - np.asarray(noise())).max() > .01


@pytest.mark.parametrize('turn', [-.5, -.2, 0., .1, .45])
def test_hue_is_that_of_hsv(turn):
  image = np.random.default_rng(1).random((4, 5, 3))
  image[0, 0] = .5  # grey has no hue
  def by_hand(rgb):
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    return colorsys.hsv_to_rgb((hue + turn) % 1., saturation, value)
  want = np.apply_along_axis(by_hand, -1, image)
  np.testing.assert_allclose(jitter.shift_hue(jnp.asarray(image, jnp.float32), turn), want, atol=1e-5)


def test_no_strength_and_no_probability_change_nothing():
  np.testing.assert_allclose(run(noise(), **alone()), noise(), atol=1e-6)
  np.testing.assert_array_equal(run(noise(), name='color_jitter', hue=.2, probability=0.), noise())


def test_the_order_of_jitter_differs_by_image():
  same = jnp.repeat(noise(1), 32, axis=0)
  out = run(same, name='color_jitter', hue=.1)
  assert len({x.tobytes() for x in out}) == 32 and 0. <= out.min() and out.max() <= 1.


def test_three_augment_is_one_of_three():
  image = jnp.asarray(np.random.default_rng(0).random((1, 9, 12, 3)), jnp.float32)
  out = run(jnp.repeat(image, 48, axis=0), name='three_augment')
  image = np.asarray(image[0])
  grey = np.ptp(out, axis=-1).max((1, 2)) < 1e-6
  solarized = (np.abs(out - np.where(image < .5, image, 1. - image)) < 1e-6).all((1, 2, 3))
  blurred = ~grey & ~solarized
  assert min(grey.sum(), solarized.sum(), blurred.sum()) > 6
  assert (out[blurred].std((1, 2, 3)) < image.std() + 1e-6).all()


@tiny.jit
def blur(image, sigma):
  return jitter.gaussian_blur(image, sigma, 4.)


@pytest.mark.parametrize('sigma', [.1, .8, 2., 3.5])
def test_blur_has_its_variance_keeps_the_mean_and_flat_images(sigma):
  point = jnp.zeros((41, 41, 1)).at[20, 20].set(1.)
  out = np.asarray(blur(point, sigma))[..., 0]
  assert out.sum() == pytest.approx(1., abs=1e-5) and out.min() >= 0.
  offsets = np.arange(41) - 20
  assert (out.sum(0) * offsets ** 2).sum() == pytest.approx(sigma ** 2, rel=1e-3)
  np.testing.assert_allclose(blur(jnp.full((7, 5, 3), .3), sigma), .3, rtol=1e-5)


@pytest.mark.parametrize('op, said', [
    (dict(name='three_augment'), 'three_augment needs images of 3 channels, not 1'),
    (dict(name='photometric_distortion'), 'photometric_distortion needs images of 3 channels'),
    (dict(name='color_jitter'), 'saturation or hue of color_jitter needs images of 3 channels')])
def test_grey_images_have_no_colours(op, said):
  with pytest.raises(UserError, match=said):
    augment.check([op], channels=1)
  augment.check([alone(brightness=.4, contrast=.4)], channels=1)


def by_hsv(image, saturation=1., turn=0.):
  """Returns an image changed pixel by pixel by the standard library."""
  def one(pixel):
    h, s, v = colorsys.rgb_to_hsv(*map(float, pixel))
    return colorsys.hsv_to_rgb((h + turn) % 1., min(s * saturation, 1.), v)
  return np.asarray([one(p) for p in image.reshape(-1, 3)]).reshape(image.shape)


@pytest.mark.parametrize('factor', [0., .5, 1.3, 4.])
def test_saturation_is_that_of_hsv(factor):
  image = np.random.default_rng(0).random((6, 7, 3)).astype(np.float32)
  image[0], image[1] = .4, 0.  # grey and black have none
  np.testing.assert_allclose(jitter.scale_saturation(image, factor), by_hsv(image, factor), atol=1e-6)


def test_photometric_distortion_is_its_definition():
  image = np.random.default_rng(0).random((5, 4, 3)).astype(np.float32)
  strengths = np.asarray([.2, .5, .5, .1], np.float32)
  seen = set()
  for seed in range(40):
    key = jax.random.key(seed)
    got = jitter.photometric_distortion(image, key, *map(float, strengths))
    coins, amounts = jax.random.split(key)
    *on, early = np.asarray(jax.random.bernoulli(coins, .5, (5,))).tolist()
    added, contrast, saturation, turn = np.asarray(
        jax.random.uniform(amounts, (4,), minval=-strengths, maxval=strengths))
    want = np.clip(image + added, 0., 1.) if on[0] else image
    multiply = lambda x, c=contrast: np.clip(x * (1. + c), 0., 1.)
    want = multiply(want) if on[1] and early else want
    want = by_hsv(want, 1. + saturation if on[2] else 1., turn if on[3] else 0.)
    want = multiply(want) if on[1] and not early else want
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert 0. <= got.min() and got.max() <= 1.
    seen.add((*on, early))
  assert len(seen) > 15
  np.testing.assert_allclose(jitter.photometric_distortion(image, key, 0., 0., 0., 0.), image, atol=1e-6)
