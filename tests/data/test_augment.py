"""Augmentation on the device: closed forms, and independence of batch and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from tests.models import tiny
from vit_jax import sharding
from vit_jax.data import augment
from vit_jax.errors import UserError

OPS = [dict(name='flip'), dict(name='translate', pixels=2), dict(name='affine', shear=.2),
       dict(name='mixup', p=.5)]


def noise(batch=8, height=9, width=12, channels=3):
  return jnp.asarray(np.random.default_rng(0).random((batch, height, width, channels)), jnp.float32)


def targets(batch=8, classes=5):
  return jax.nn.one_hot(jnp.arange(batch) % classes, classes)


@tiny.jit
def all_ops(images, labels, key):
  return augment.apply(images, labels, key, OPS)


@functools.cache
def compiled(op, **options):
  return tiny.jit(lambda x, t, k: augment.apply(x, t, k, [dict(name=op, **options)])[0])


def each(op, images, seed=0, **options):
  """Returns the images after one operation."""
  return np.asarray(compiled(op, **options)(images, targets(len(images)), jax.random.key(seed)))


@pytest.mark.parametrize('shape', [(8, 1, 1), (2, 2, 2)])
def test_the_result_does_not_depend_on_the_devices(shape):
  key = jax.random.key(0)
  alone = all_ops(noise(), targets(), key)
  mesh = sharding.make_mesh(*shape)
  where = NamedSharding(mesh, sharding.BATCH)
  split = all_ops(jax.device_put(noise(), where), jax.device_put(targets(), where), key)
  np.testing.assert_allclose(split[0], alone[0], atol=1e-6)
  np.testing.assert_allclose(split[1], alone[1], atol=1e-6)


def test_an_image_is_changed_by_its_index_and_not_by_its_batch():
  images = noise()
  for op in ('flip', 'translate', 'affine'):
    np.testing.assert_allclose(each(op, images)[:3], each(op, images[:3]), atol=1e-6)


def test_images_of_a_batch_and_keys_differ():
  same = jnp.repeat(noise(1), 8, axis=0)
  for op in ('translate', 'affine'):
    out = each(op, same)
    assert len({x.tobytes() for x in out}) > 4
    assert not np.array_equal(out, each(op, same, seed=1))
    np.testing.assert_array_equal(out, each(op, same))


def test_the_same_operation_twice_draws_twice():
  same = jnp.repeat(noise(1), 32, axis=0)
  twice, _ = augment.apply(same, targets(32), jax.random.key(0), [dict(name='flip')] * 2)
  changed = np.asarray(twice != same).any(axis=(1, 2, 3))
  assert 0 < changed.sum() < 32


def test_two_flips_are_none():
  once = dict(name='flip', probability=1.)
  twice, _ = augment.apply(noise(), targets(), jax.random.key(0), [once, once])
  np.testing.assert_array_equal(twice, noise())


def test_flip_mirrors_left_to_right():
  images = noise(64)
  np.testing.assert_array_equal(each('flip', images, probability=0.), images)
  np.testing.assert_array_equal(each('flip', images, probability=1.), images[:, :, ::-1])
  half = each('flip', images)
  flipped = (half == np.asarray(images[:, :, ::-1])).all(axis=(1, 2, 3))
  kept = (half == np.asarray(images)).all(axis=(1, 2, 3))
  assert (flipped ^ kept).all() and 16 < flipped.sum() < 48


def test_translate_shifts_by_whole_pixels_and_fills_with_black():
  images, seen = noise(64), set()
  for before, after in zip(np.asarray(images), each('translate', images, pixels=2), strict=True):
    padded = np.pad(before, ((2, 2), (2, 2), (0, 0)))
    fits = [(y, x) for y in range(5) for x in range(5)
            if np.array_equal(padded[y:y + 9, x:x + 12], after)]
    assert len(fits) == 1
    seen |= set(fits)
  assert len(seen) > 15  # of the 25 shifts


def test_affine_of_nothing_is_the_identity():
  still = dict(degrees=0., translate=0., scale=0., shear=0.)
  np.testing.assert_allclose(each('affine', noise(), **still), noise(), atol=1e-5)


def slopes(images, margin):
  """Returns the (d/dy, d/dx) and the value at the centre of ramps, from their inner part."""
  inner = np.asarray(images)[:, margin:-margin, margin:-margin, 0].astype(np.float64)
  dy, dx = np.diff(inner, axis=1).mean((1, 2)), np.diff(inner, axis=2).mean((1, 2))
  return np.stack([dy, dx], -1), inner.mean((1, 2))


@pytest.fixture
def ramps():
  y, x = np.mgrid[:33, :33]
  return jnp.asarray(np.repeat((5. + .02 * y + .05 * x)[None, ..., None], 64, 0), jnp.float32)


def affine_slopes(ramps, **options):
  options = {**dict(degrees=0., translate=0., scale=0.), **options}
  return slopes(each('affine', ramps, **options), 11)


def test_a_rotation_turns_the_slope_and_keeps_its_length(ramps):
  gradient, centre = affine_slopes(ramps, degrees=20.)
  np.testing.assert_allclose(np.linalg.norm(gradient, axis=1), np.hypot(.02, .05), rtol=1e-3)
  np.testing.assert_allclose(centre, 5. + .07 * 16, rtol=1e-5)
  angle = np.rad2deg(np.arctan2(gradient[:, 0], gradient[:, 1]) - np.arctan2(.02, .05))
  assert -20.1 < angle.min() < -10 and 10 < angle.max() < 20.1


def test_a_zoom_divides_the_slope(ramps):
  gradient, centre = affine_slopes(ramps, scale=.2)
  ratio = gradient / [.02, .05]
  np.testing.assert_allclose(ratio[:, 0], ratio[:, 1], rtol=1e-2)
  assert 1 / 1.2 - .01 < ratio.min() < .95 and 1.05 < ratio.max() < 1 / .8 + .01
  np.testing.assert_allclose(centre, 5. + .07 * 16, rtol=1e-5)


def test_a_shear_moves_rows_alone(ramps):
  gradient, centre = affine_slopes(ramps, shear=.3)
  np.testing.assert_allclose(gradient[:, 1], .05, rtol=1e-3)
  shear = (gradient[:, 0] - .02) / .05
  assert -.301 < shear.min() < -.15 and .15 < shear.max() < .301
  np.testing.assert_allclose(centre, 5. + .07 * 16, rtol=1e-5)


def test_a_shift_moves_the_centre_up_to_its_share(ramps):
  gradient, centre = affine_slopes(ramps, translate=.1)
  np.testing.assert_allclose(gradient, np.broadcast_to([.02, .05], (64, 2)), rtol=1e-3)
  shift = centre - (5. + .07 * 16)
  assert np.abs(shift).max() <= .07 * 3.3 + 1e-3 and shift.min() < -.05 and shift.max() > .05


def test_what_comes_in_is_black():
  out = each('affine', jnp.ones((64, 16, 16, 1)), degrees=0., scale=0., translate=.5)
  assert ((out > -1e-6) & (out < 1 + 1e-5)).all() and (out == 0.).any()


def test_mixup_shares_images_and_targets_alike_and_conserves_mass():
  images, labels = noise(), targets()
  for seed in range(5):
    mixed, blended = augment.mixup(images, labels, jax.random.key(seed), p=1.)
    np.testing.assert_allclose(blended.sum(-1), 1., rtol=1e-5)
    np.testing.assert_allclose(mixed.sum(0), images.sum(0), rtol=1e-4)
    share = float(blended[0, 0])
    assert .5 <= share <= 1.
    want = share * images + (1 - share) * images[jnp.arange(-1, 7)]
    np.testing.assert_allclose(mixed, want, atol=1e-5)
    np.testing.assert_allclose(blended, share * labels + (1 - share) * labels[jnp.arange(-1, 7)],
                               atol=1e-5)


def test_without_operations_nothing_changes():
  images, labels = augment.apply(noise(), targets(), jax.random.key(0), [])
  np.testing.assert_array_equal(images, noise())
  np.testing.assert_array_equal(labels, targets())


@pytest.mark.parametrize('op, said', [
    (dict(name='flop'), "unknown augmentation 'flop'; did you mean 'flip'"),
    (dict(), "unknown augmentation ''"),
    (dict(name='affine', degree=3.), "augmentation 'affine': 'degree'; did you mean 'degrees'"),
    (dict(name='mixup', targets=3.), "unknown option of augmentation 'mixup': 'targets'"),
    (dict(name='flip', key=3), "unknown option of augmentation 'flip': 'key'")])
def test_unknown_operations_and_options(op, said):
  with pytest.raises(UserError, match=said):
    augment.check([dict(name='flip', probability=.1), op])


def test_known_operations_pass():
  augment.check(OPS)


@pytest.mark.parametrize('mean, std', [((.5,), (.25,)), ((.1, .2, .3), (1., 2., 4.))])
def test_normalize(mean, std):
  got = augment.normalize(noise(), mean, std)
  np.testing.assert_allclose(got, (np.asarray(noise()) - mean) / std, atol=1e-6)


@pytest.mark.parametrize('mean, std, name', [((.1, .2), (1.,), 'mean'), ((.1,), (1., 1.), 'std')])
def test_normalize_names_what_does_not_fit(mean, std, name):
  with pytest.raises(UserError, match=f'data.{name} has 2 numbers, the images 3 channels; give'):
    augment.normalize(noise(), mean, std)
