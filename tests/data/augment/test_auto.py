"""RandAugment and AutoAugment: the published levels, closed forms, independence of the devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from tests import golden
from tests.conftest import golden_files
from tests.models import tiny
from vit_jax import sharding
from vit_jax.data import augment
from vit_jax.data.augment import color, distortion, policies
from vit_jax.data.augment.policies import Kind
from vit_jax.errors import UserError

TF = dict(name='randaugment', magnitude=15)
PIL = dict(name='randaugment', flavor='pil', magnitude=9, magnitude_std=.5, increasing=True)
POLICY = dict(name='autoaugment', policy='original')


def photos(batch=8, height=17, width=22, channels=3):
  y, x = np.mgrid[:height, :width]
  phase = np.random.default_rng(0).uniform(0, 6, (batch, 1, 1, channels))
  waves = 127.5 + 100. * np.sin(phase + .3 * x[..., None] + .2 * y[..., None])
  return jnp.asarray(waves.round() / 255., jnp.float32)


@functools.cache
def compiled(items):
  op = dict(items)
  return tiny.jit(lambda x, k: augment.apply(x, jnp.zeros((len(x), 1)), k, [op])[0])


def run(images, op, seed=0):
  """Returns the images after one operation of the config."""
  return np.asarray(compiled(tuple(op.items()))(images, jax.random.key(seed)))


@functools.cache
def distorting(flavor):
  return tiny.jit(functools.partial(distortion.distort, flavor=flavor, bicubic=True))


def distort(image, kind, argument, flavor='tf', fill=(128,), center=(5, 5)):
  """Returns one operation's levels."""
  return np.asarray(distorting(flavor)(image, int(kind), float(argument), center=jnp.asarray(center),
                                       fill=jnp.asarray(fill, jnp.uint8)))


def levels(seed=0, shape=(16, 16, 3)):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize('path', golden_files('H3_randaug_bv'))
def test_nearest_pixels_are_the_very_ones_of_tensorflow(path):
  assert not [e for e in golden.errors(path) if e.error]


@pytest.mark.parametrize('op, devices', [(TF, 4), (TF, 8), (PIL, 8)], ids=['tf-4', 'tf-8', 'pil-8'])
def test_devices_change_no_pixel_and_exchange_none(op, devices):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]).reshape(devices, 1, 1),
                           ('data', 'fsdp', 'model'))
  images = jax.device_put(photos(), NamedSharding(mesh, sharding.BATCH))
  split = compiled(tuple(op.items())).lower(images, jax.random.key(0)).compile()
  np.testing.assert_array_equal(split(images, jax.random.key(0)), run(photos(), op))
  assert not [name for name in ('all-gather(', 'all-reduce(', 'all-to-all(') if name in split.as_text()]


@pytest.mark.parametrize('op', [TF, PIL, POLICY], ids=lambda op: op.get('flavor', op['name']))
def test_an_image_is_changed_by_its_key_alone(op):
  same = jnp.repeat(photos(1), 8, axis=0)
  out = run(same, op)
  assert len({x.tobytes() for x in out}) > 3
  np.testing.assert_array_equal(out, run(same, op))
  assert not np.array_equal(out, run(same, op, seed=1))
  np.testing.assert_array_equal(out[:3], run(same[:3], op))
  steps = out * 255.
  np.testing.assert_allclose(steps, steps.round(), atol=1e-3)
  assert 0. <= out.min() and out.max() <= 1.


@pytest.mark.parametrize('shape', [(7, 5, 3), (1, 1, 3), (12, 30, 1)])
@pytest.mark.parametrize('op', [TF, PIL], ids=['tf', 'pil'])
def test_any_size_and_grey_images(op, shape):
  out = run(photos(4, *shape), op)
  assert out.shape == (4, *shape) and np.isfinite(out).all()


def test_nothing_happens_with_probability_zero():
  op = dict(TF, probability=0.)
  np.testing.assert_allclose(run(photos(), op), photos(), atol=1e-6)


def test_half_of_the_operations_are_left_out_at_half_probability():
  op = dict(name='randaugment', flavor='pil', layers=1, ops=('Invert',))
  inverted = (np.abs(run(jnp.ones((64, 4, 4, 3)), op)) < .5).all(axis=(1, 2, 3))
  assert 16 < inverted.sum() < 48


def test_pointwise_operations_by_hand():
  image = levels()
  np.testing.assert_array_equal(distort(image, Kind.IDENTITY, 0.), image)
  np.testing.assert_array_equal(distort(image, Kind.INVERT, 0.), 255 - image)
  np.testing.assert_array_equal(distort(image, Kind.POSTERIZE, 3), image & 0b11111000)
  np.testing.assert_array_equal(distort(image, Kind.SOLARIZE, 200),
                                np.where(image < 200, image, 255 - image))
  np.testing.assert_array_equal(distort(image, Kind.SOLARIZE_ADD, 90),
                                np.where(image < 128, np.minimum(image.astype(int) + 90, 255), image))
  np.testing.assert_array_equal(distort(image, Kind.BRIGHTNESS, 0.), 0 * image)
  for kind in (Kind.COLOR, Kind.CONTRAST, Kind.BRIGHTNESS, Kind.SHARPNESS):
    np.testing.assert_array_equal(distort(image, kind, 1.), image)


def test_whole_shifts_and_right_angles_move_pixels_exactly():
  image = levels()
  for flavor in ('tf', 'pil'):
    moved = distort(image, Kind.TRANSLATE_X, 3., flavor)
    np.testing.assert_array_equal(moved[:, :-3], image[:, 3:])
    assert (moved[:, -3:] == 128).all()
    moved = distort(image, Kind.TRANSLATE_Y, -2., flavor)
    np.testing.assert_array_equal(moved[2:], image[:-2])
    np.testing.assert_array_equal(distort(image, Kind.ROTATE, 0., flavor), image)
  turned = distort(image, Kind.ROTATE, 90.)
  assert any(np.array_equal(turned, np.rot90(image, k)) for k in (1, 3))


def test_equalize_evens_out_and_auto_contrast_stretches():
  image = (levels(shape=(64, 64, 3)) // 4 + 100).astype(np.uint8)
  for flavor in ('tf', 'pil'):
    stretched = distort(image, Kind.AUTO_CONTRAST, 0., flavor).reshape(-1, 3)
    assert (stretched.min(0) == 0).all() and (stretched.max(0) >= 254).all()
    assert np.abs(np.percentile(distort(image, Kind.EQUALIZE, 0., flavor), [25, 50, 75]) - [64, 128, 191]
                  ).max() < 16
    flat = np.full((6, 6, 3), 77, np.uint8)
    for kind in (Kind.AUTO_CONTRAST, Kind.EQUALIZE):
      np.testing.assert_array_equal(distort(flat, kind, 0., flavor), flat)


@pytest.mark.parametrize('low, high', [(0, 255), (10, 94), (3, 252), (7, 58), (200, 203)])
def test_auto_contrast_is_cut_as_float64_is(low, high):
  scale = 255. / (high - low)
  want = [min(255, max(0, int(level * scale + -low * scale))) for level in range(256)]
  table = jax.jit(lambda a, b: color.stretch_table(a, b, color.PIL))(
      jnp.array([low]), jnp.array([high]))
  np.testing.assert_array_equal(table[:, 0], want)
  assert table.dtype == jnp.int32


def test_histograms_need_no_one_hot():
  image = jax.ShapeDtypeStruct((64, 64, 64, 3), jnp.uint8)
  table = jax.jit(jax.vmap(lambda x: color.equalize_table(x, x.max((0, 1)).astype(jnp.int32))))
  memory = table.lower(image).compile().memory_analysis().temp_size_in_bytes
  assert memory < 64 * 64 * 64 * 3 * 16  # a one-hot takes 256 numbers per pixel


def test_cutout_is_a_square_of_twice_the_argument():
  image = np.zeros((16, 16, 3), np.uint8)
  cut = distort(image, Kind.CUTOUT, 3., center=(8, 5))
  assert (cut[5:11, 2:8] == 128).all() and (cut == 128).sum() == 36 * 3
  assert (distort(image, Kind.CUTOUT, 3., center=(0, 15)) == 128).sum() == 3 * 4 * 3


def test_the_mean_of_the_data_comes_in():
  op = dict(name='randaugment', flavor='pil', layers=1, probability=1., ops=('TranslateXRel',),
            magnitude=10)
  out = tiny.jit(lambda x, k: augment.apply(x, jnp.zeros((4, 1)), k, [op], (.485, .456, .406))[0])(
      jnp.ones((4, 8, 20, 3)), jax.random.key(0))
  filled = np.asarray(out)[np.asarray(out)[..., 0] < .9]
  assert len(filled) and np.allclose(filled * 255., [124, 116, 104], atol=1e-3)


def test_policies_are_whole():
  for name, (flavor, found) in policies.POLICIES.items():
    assert len(found) == 25, name
    for sub in found:
      assert len(sub) == 2
      for operation, probability, magnitude in sub:
        assert operation in distortion.FLAVORS[flavor].operations
        assert 0. <= probability <= 1. and 0. <= magnitude <= 10.


def test_magnitudes_become_the_published_arguments():
  at = lambda table, name, magnitude, sign=1.: float(table[name].argument(policies.Strength(
      magnitude / 10., sign, (100, 200), 100. if table is policies.TF else .45, 40.)))
  assert at(policies.TF, 'Rotate', 15, -1.) == -45.
  assert at(policies.TF, 'TranslateX', 10) == 100. and at(policies.PIL, 'TranslateXRel', 10) == 90.
  assert at(policies.TF, 'Cutout', 5) == 20.
  assert [at(policies.TF, 'Posterize', m) for m in (0, 5, 9, 10, 25)] == [7., 6., 5., 4., 7.]
  assert [at(policies.TF, 'Solarize', m) for m in (5, 10, 15)] == [128., 0., 128.]
  assert [at(policies.PIL, 'PosterizeIncreasing', m) for m in (0, 9, 10)] == [4., 7., 8.]
  assert [at(policies.PIL, 'SolarizeIncreasing', m) for m in (0, 5, 10)] == [256., 128., 0.]
  assert at(policies.PIL, 'ColorIncreasing', 10, -1.) == pytest.approx(.1)
  assert at(policies.PIL, 'ColorIncreasing', 10) == pytest.approx(1.9)


@pytest.mark.parametrize('options, said', [
    (dict(increasing=True), "increasing forms in flavor='pil' alone"),
    (dict(flavor='pil', magnitude=15), "magnitude .* is 15; flavor='pil' goes up to 10"),
    (dict(ops=('TranslateXRel',)), "no operation 'TranslateXRel' in flavor='tf'"),
    (dict(fill=(1, 2)), 'fill .* has 2 levels, the images 3 channels')])
def test_options_that_do_not_fit_each_other(options, said):
  with pytest.raises(UserError, match=said):
    augment.check([dict(name='randaugment', **options)])


def test_images_of_two_channels_are_named():
  with pytest.raises(UserError, match="'randaugment' needs images of 1 or 3 channels, not 2"):
    augment.check([TF], channels=2)
  augment.check([TF, PIL, POLICY], channels=1)
