"""Crops: sizes, closed forms, and a window that is a function of the generator."""

import numpy as np
import pytest
from PIL import Image

from vit_jax.data import crops
from vit_jax.errors import UserError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def rng(seed=0):
  return np.random.default_rng((seed, 1, 2))


def ramp(height, width):
  """Red grows with x, green with y."""
  y, x = np.mgrid[:height, :width]
  return Image.fromarray(np.uint8(np.stack([x, y, 0 * x], -1)))


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize('name', crops.CROPS)
def test_every_crop_gives_the_asked_size(name, mode, interpolation):
  for source in ((60, 40), (9, 70), (1, 1), (16, 24)):
    cut = crops.make(dict(name=name), (16, 24), interpolation)
    got = cut(NOISE.convert(mode).resize(source), rng())
    assert got.shape == (16, 24, 3 if mode == 'RGB' else 1) and got.dtype == np.uint8


@pytest.mark.parametrize('name', crops.RANDOM)
def test_a_random_crop_is_a_function_of_its_generator(name):
  cut = crops.make(dict(name=name), (16, 16))
  np.testing.assert_array_equal(cut(NOISE, rng(1)), cut(NOISE, rng(1)))
  others = [cut(NOISE, rng(seed)) for seed in range(5)]
  assert all(not np.array_equal(others[0], other) for other in others[1:])


@pytest.mark.parametrize('name', sorted(set(crops.CROPS) - set(crops.RANDOM)))
def test_the_other_crops_need_no_generator(name):
  cut = crops.make(dict(name=name), (16, 16))
  np.testing.assert_array_equal(cut(NOISE), cut(NOISE, rng()))


def test_squash_takes_the_whole_image_whatever_its_shape():
  np.testing.assert_array_equal(crops.make(dict(name='squash'), (40, 60))(NOISE), np.asarray(NOISE))
  flat = crops.make(dict(name='squash'), (8, 8))(ramp(80, 160))
  np.testing.assert_allclose(flat[:, :, 0].mean(), 79.5, atol=1.)
  assert flat[0, 0, 0] < 15 and flat[0, -1, 0] > 145


def test_center_cuts_the_middle_window():
  cut = crops.make(dict(name='center', ratio=.5), (20, 20))
  np.testing.assert_array_equal(cut(NOISE), np.asarray(NOISE)[10:30, 20:40])
  cut = crops.make(dict(name='center', ratio=1.), (40, 40))
  np.testing.assert_array_equal(cut(NOISE), np.asarray(NOISE)[:, 10:50])
  cut = crops.make(dict(name='center', ratio=1.), (20, 60))  # another shape than the image's
  np.testing.assert_array_equal(cut(NOISE), np.asarray(NOISE)[10:30])


def test_center_of_a_ramp_is_its_closed_form():
  """224 of 256: the window of ratio 7/8 begins at a sixteenth of the side."""
  got = crops.make(dict(name='center', ratio=.875), (14, 14))(ramp(128, 128))
  want = 8 + (np.arange(14) + .5) * 8 - .5
  np.testing.assert_allclose(got[7, :, 0], want, atol=1.)
  np.testing.assert_allclose(got[:, 7, 1], want, atol=1.)


def test_random_windows_have_one_size_and_lie_everywhere():
  cut = crops.make(dict(name='random', ratio=.5), (16, 16))
  corners = []
  for seed in range(60):
    got = cut(ramp(128, 200), rng(seed)).astype(float)
    np.testing.assert_allclose(np.diff(got[8, :, 0]), 4., atol=1.)  # 64 pixels in 16
    corners.append((got[0, 0, 1], got[0, 0, 0]))
  low, high = np.min(corners, 0), np.max(corners, 0)
  assert (low < 10).all() and (high > [55, 120]).all()


def test_a_filter_is_drawn_for_each_image():
  options = dict(name='inception', min_area=1., max_aspect=1.)
  image = rng(0).integers(256, size=(64, 64, 3)).astype(np.uint8)
  image = Image.fromarray(image)
  either = crops.make(dict(options, any_filter=True), (16, 16))
  filters = [crops.make(dict(name='squash'), (16, 16), name)(image) for name in ('bilinear', 'bicubic')]
  found = [[np.array_equal(either(image, rng(seed)), x) for x in filters] for seed in range(30)]
  assert all(sum(row) == 1 for row in found) and 5 < sum(row[0] for row in found) < 25


def test_inception_windows_keep_their_bounds():
  cut = crops.make(dict(name='inception', min_area=.25, max_aspect=2.), (16, 16))
  areas, aspects = [], []
  for seed in range(200):
    got = cut(ramp(200, 200), rng(seed)).astype(float)
    width = (got[8, -1, 0] - got[8, 0, 0]) * 16 / 15
    height = (got[-1, 8, 1] - got[0, 8, 1]) * 16 / 15
    areas.append(width * height / 200 ** 2)
    aspects.append(width / height)
  assert .23 < min(areas) < .4 and .7 < max(areas) < 1.05
  assert .48 < min(aspects) < .7 and 1.4 < max(aspects) < 2.1


@pytest.mark.parametrize('name', ['center', 'random'])
def test_the_largest_window_never_leaves_the_image(name):
  """Rounding must not push a window of ratio 1 over the edge."""
  failed = []
  for size in ((16, 16), (224, 224), (224, 384), (49, 33)):
    cut = crops.make(dict(name=name, ratio=1.), size)
    for width in range(1, 120, 3):
      for height in (7, 49, 96, 107):
        try:
          cut(Image.new('L', (width, height)), rng())
        except ValueError as error:
          failed.append((size, width, height, str(error)))
  assert not failed, (len(failed), failed[:3])


@pytest.mark.parametrize('spec, interpolation, said', [
    (dict(name='centre'), 'bilinear', "unknown crop 'centre'; did you mean 'center'"),
    (dict(), 'bilinear', "unknown crop ''"),
    (dict(name='center', ration=.5), 'bilinear', "option of crop 'center': 'ration'; did you mean"),
    (dict(name='squash', ratio=.5), 'bilinear', "unknown option of crop 'squash': 'ratio'"),
    (dict(name='center'), 'cubic', "unknown interpolation 'cubic'; did you mean 'bicubic'"),
    (dict(name='center', ratio=0.), 'bilinear', "crop 'center': ratio=0.0 must be .*above 0"),
    (dict(name='random', ratio=1.5), 'bilinear', "crop 'random': ratio=1.5 must be"),
    (dict(name='inception', min_area=-1.), 'bilinear', "crop 'inception': min_area=-1.0 must be"),
    (dict(name='inception', max_aspect=.5), 'bilinear', "crop 'inception': max_aspect=0.5 must be"),
])
def test_errors(spec, interpolation, said):
  with pytest.raises(UserError, match=said):
    crops.make(spec, (16, 16), interpolation)
