"""Random erasing: where, how much, and what is written."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from vit_jax.data import augment
from vit_jax.data.augment import erasing

MEAN, STD = (.4, .5, .6), (.1, .2, .3)


@functools.cache
def compiled(items):
  op = dict(items, name='random_erasing')
  return tiny.jit(lambda x, k: augment.apply(x, jnp.zeros((len(x), 1)), k, [op], MEAN, STD)[0])


def run(seed=0, batch=64, size=(40, 48), **options):
  """Returns images that were 9 everywhere, and where they were erased."""
  images = jnp.full((batch, *size, 3), 9.)
  out = np.asarray(compiled(tuple(options.items()))(images, jax.random.key(seed)))
  return out, (out != 9.).any(axis=-1)


def test_one_rectangle_within_bounds():
  _, erased = run(probability=1.)
  for mask in erased:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert mask.sum() == height * width  # one whole rectangle
    assert .02 * .8 < mask.mean() < 1 / 3 * 1.1 and .3 * .8 < height / width < 1 / .3 * 1.25
  assert len({mask.tobytes() for mask in erased}) > 50


def test_probability():
  assert not run(probability=0.)[1].any()
  share = run(probability=.25)[1].any(axis=(1, 2)).mean()
  assert .1 < share < .45


def test_noise_is_standard_normal_after_normalisation():
  out, erased = run(probability=1., mode='pixel')
  noise = np.asarray(augment.normalize(jnp.asarray(out), MEAN, STD))[erased]
  np.testing.assert_allclose(noise.mean(0), 0., atol=.05)
  np.testing.assert_allclose(noise.std(0), 1., atol=.05)


def test_one_colour_per_rectangle_and_the_mean():
  out, erased = run(probability=1., mode='rand')
  colors = [np.unique(image[mask], axis=0) for image, mask in zip(out, erased)]
  assert all(len(c) == 1 for c in colors) and len(np.unique(np.concatenate(colors), axis=0)) > 50
  out, erased = run(probability=1., mode='const')
  np.testing.assert_allclose(out[erased], np.broadcast_to(np.float32(MEAN), out[erased].shape))


def test_several_rectangles_share_the_area():
  out, erased = run(probability=1., mode='rand', count=3)
  numbers = {len(np.unique(image[mask], axis=0)) for image, mask in zip(out, erased)}
  assert numbers >= {1, 2, 3} or numbers == {1, 2, 3}
  assert erased.mean(axis=(1, 2)).max() < 1 / 3 * 1.2


def test_what_fits_nowhere_is_left_out():
  box = erasing.rectangle(jax.random.key(0), 4, 4, (1., 1.), (1., 1.), jnp.asarray(1))
  assert int(box[1] - box[0]) == int(box[3] - box[2]) == 0


@pytest.mark.parametrize('channels', [1, 3])
def test_grey_and_coloured(channels):
  mean = MEAN[:channels]
  ops = [dict(name='random_erasing', probability=1.)]
  out = tiny.jit(lambda x, k: augment.apply(x, jnp.zeros((4, 1)), k, ops, mean, STD[:channels])[0])(
      jnp.zeros((4, 9, 11, channels)), jax.random.key(0))
  assert out.shape == (4, 9, 11, channels) and np.isfinite(np.asarray(out)).all()
