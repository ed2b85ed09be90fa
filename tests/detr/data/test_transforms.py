"""Boxes and masks follow the pixels."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from detr_jax.data import transforms
from detr_jax.data.sample import PixelMap, Sample, areas, crop, flip
from vit_jax.errors import UserError

COLOURS = np.asarray([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)


def scene(rng, height=90, width=120) -> Sample:
  """Three rectangles of one colour each, that do not touch, with boxes and masks."""
  pixels, boxes, masks = np.zeros((height, width, 3), np.uint8), [], np.zeros((3, height, width), bool)
  for i in range(3):
    left, top = rng.integers(2 + 40 * i, 20 + 40 * i), rng.integers(2, 50)
    right, bottom = left + rng.integers(12, 18), top + rng.integers(12, 38)
    pixels[top:bottom, left:right], masks[i, top:bottom, left:right] = COLOURS[i], True
    boxes.append([left, top, right, bottom])
  return Sample(Image.fromarray(pixels), np.asarray(boxes, float), np.arange(3), masks)


def found(inside: np.ndarray) -> np.ndarray:
  """Returns the box around what is marked in `[height, width]`."""
  rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
  return np.asarray([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def check(sample: Sample, atol: float) -> None:
  """Asserts that the boxes are where the colours are, and the masks too."""
  pixels = np.asarray(sample.image)
  for box, label, mask in zip(sample.boxes, sample.labels, sample.masks, strict=True):
    inside = pixels[..., label] > 125
    # A rim may be too thin to be seen in the image, or in the mask.
    if min(inside.sum(), mask.sum(), areas(box[None])[0]) > 20:
      np.testing.assert_allclose(box, found(inside), atol=atol)
      np.testing.assert_allclose(box, found(mask), atol=atol + 1.)
  assert sample.masks.shape[1:] == pixels.shape[:2]
  assert (areas(sample.boxes) > 0.).all()
  assert (sample.boxes >= 0.).all() and (sample.boxes <= [*sample.image.size] * 2).all()


@pytest.mark.parametrize('vertical', [False, True])
def test_two_flips_are_none(vertical):
  sample = scene(np.random.default_rng(0))
  once = flip(sample, vertical)
  check(once, 0.)
  twice = flip(once, vertical)
  np.testing.assert_array_equal(twice.boxes, sample.boxes)
  np.testing.assert_array_equal(twice.masks, sample.masks)
  np.testing.assert_array_equal(np.asarray(twice.image), np.asarray(sample.image))
  assert not np.array_equal(once.boxes, sample.boxes)


@pytest.mark.parametrize('specs, atol', [
    ([dict(name='flip', horizontal=.5, vertical=.5)], 0.), ([dict(name='random_crop')], 0.),
    ([dict(name='random_crop', probability=1., min_share=.3, keep_aspect=True)], 0.),
    ([dict(name='resize', size=200)], 1.), ([dict(name='resize', size=[50, 70, 333], max_size=400)], 1.),
    ([dict(name='detr', scales=[120, 150], max_size=170, crop_scales=[100, 110], crop_min=60,
           crop_max=90)], 2.), ([dict(name='detr')], 8.)])
def test_boxes_and_masks_follow_the_pixels(specs, atol):
  chain = transforms.make(specs)
  for seed in range(12):
    rng = np.random.default_rng(seed)
    sample = scene(rng)
    for transform in chain:
      sample = transform(sample, rng)
    check(sample, atol)


@pytest.mark.parametrize('specs', [
    [dict(name='flip', horizontal=.5, vertical=.5), dict(name='random_crop', probability=1.)],
    [dict(name='scale_jitter', size=[64, 96], low=.3, high=3.)],
    [dict(name='detr', scales=[120, 150], max_size=170, crop_scales=[100], crop_min=60, crop_max=90)]])
def test_maps_and_facts_of_objects_follow_their_objects(specs):
  """A map that holds the number of each object, and 255 where nothing was, is as the masks."""
  chain, padded = transforms.make(specs), 0
  for seed in range(8):
    rng = np.random.default_rng(seed)
    sample = scene(rng)
    numbers = sum((i + 1) * mask for i, mask in enumerate(sample.masks)).astype(np.uint8)
    amounts = np.asarray(sample.image, np.float32)[..., 0]
    sample = dataclasses.replace(
        sample, objects=dict(ids=np.arange(3) + 1, boxes=sample.boxes), maps=dict(
            numbers=PixelMap(numbers, fill=255), amounts=PixelMap(amounts, 128, 'linear')))
    for transform in chain:
      sample = transform(sample, rng)
    numbers, amounts = sample.maps['numbers'].array, sample.maps['amounts'].array
    assert numbers.dtype == np.uint8 and set(np.unique(numbers)) <= {0, 1, 2, 3, 255}
    assert len(sample.objects['boxes']) == len(sample.boxes)
    for number, mask in zip(sample.objects['ids'], sample.masks, strict=True):
      np.testing.assert_array_equal(numbers == number, mask)
    np.testing.assert_allclose(amounts, np.asarray(sample.image)[..., 0], atol=1.5)
    padded += (numbers == 255).sum()
  assert bool(padded) == (specs[0]['name'] == 'scale_jitter')


def test_scale_jitter_draws_the_published_sizes():
  """Ghiasi et al.: the image fits `size` times a factor, is cut to `size`, and padded."""
  jitter, factors = transforms.ScaleJitter((60, 80), .5, 2.), []
  for seed in range(200):
    sample = dataclasses.replace(scene(np.random.default_rng(0)), maps=dict(
        inside=PixelMap(np.ones((90, 120), bool), False)))
    found = jitter(sample, np.random.default_rng(seed))
    inside = found.maps['inside'].array
    assert found.image.size == (80, 60) == inside.shape[::-1]
    assert (np.asarray(found.image)[~inside] == 128).all()
    check(dataclasses.replace(found, image=Image.fromarray(
        np.asarray(found.image) * inside[..., None])), 2.)
    factors.append(inside[:, 0].sum() / 60)
  assert min(factors) < .55 and .5 <= min(factors) and abs(np.mean(np.equal(factors, 1)) - 2 / 3) < .1
  assert transforms.extent([jitter], 90, 120) == (60, 80)


def test_a_crop_cuts_boxes_and_drops_what_is_gone_or_too_little():
  boxes = np.asarray([[0, 0, 10, 10], [10, 10, 30, 30], [35, 35, 40, 40], [40, 40, 50, 50.]])
  sample = Sample(Image.new('RGB', (60, 60)), boxes, np.arange(4))
  cut = crop(sample, 20, 20, 20, 30)
  np.testing.assert_array_equal(cut.boxes, [[0, 0, 10, 10], [15, 15, 20, 20]])  # the last one: no area
  np.testing.assert_array_equal(cut.labels, [1, 2])
  assert cut.image.size == (20, 30)
  assert crop(sample, 20, 20, 20, 30, visible=.5).labels.tolist() == [2]


@pytest.mark.parametrize('size, want', [
    ((480, 640), (800, 1066)), ((640, 480), (1066, 800)), ((427, 640), (800, 1199)),
    ((360, 640), (750, 1333)), ((500, 500), (800, 800)), ((100, 1000), (133, 1330)),
    ((1, 3000), (1, 3000))])
def test_sizes_are_the_published_ones(size, want):
  """int() cuts the long side off; where it would exceed 1333, the short one is rounded."""
  assert transforms.resized(*size, 800, 1333) == want


def test_an_image_of_the_wanted_size_stays_as_it_is():
  sample = scene(np.random.default_rng(0))
  assert transforms.Resize(90)(sample, None) is sample


def test_the_published_crop_takes_all_of_a_small_image():
  recipe = transforms.DETR(scales=(40,), max_size=60, crop_scales=(30,), crop_min=384, crop_max=600)
  for seed in range(4):
    sample = recipe(scene(np.random.default_rng(0)), np.random.default_rng(seed))
    assert sample.image.size == (53, 40) and len(sample.labels) == 3


def test_the_extent_is_the_largest_size():
  chain = transforms.make([dict(name='detr'), dict(name='flip')])
  assert transforms.extent(chain, 480, 640) == (800, 1066)
  assert transforms.extent(transforms.make([dict(name='resize', size=120)]), 480, 640) == (120, 160)


@pytest.mark.parametrize('spec, said', [
    (dict(name='dert'), "unknown transform 'dert'; did you mean 'detr'"),
    (dict(name='flip', vertica=1.), "option of transform 'flip': 'vertica'; did you mean 'vertical'"),
    (dict(name='resize', size=0), 'must be positive'),
    (dict(name='resize', size=800, max_size=400), 'max_size=400 at least as large'),
    (dict(name='scale_jitter', low=3.), 'low=3.0 must be positive and at most high=2.0'),
    (dict(name='scale_jitter', size=7), 'scale_jitter: size=7 must be'),
    (dict(name='detr', crop_min=700), 'crop_min=700 must lie between 1 and crop_max=600'),
    (dict(name='random_crop', min_share=0.), r'min_share=0.0 must lie in \(0, 1\]')])
def test_what_cannot_be_is_told(spec, said):
  with pytest.raises(UserError, match=said):
    transforms.make([spec])
