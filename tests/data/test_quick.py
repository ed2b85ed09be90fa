"""The quick way to cut an image: near the exact one, on windows of any scale, and as strict."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from vit_jax.data import images
from vit_jax.errors import UserError

PHOTOGRAPH = datasets.load_sample_images().images[0]  # 427 x 640
HEIGHT, WIDTH = PHOTOGRAPH.shape[:2]


def jpeg(pixels=PHOTOGRAPH, **options) -> bytes:
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, 'JPEG', quality=92, **options)
  return out.getvalue()


def exact(content, size, resample, box):
  """Pillow's filter in float, from all pixels."""
  pixels = np.asarray(Image.open(io.BytesIO(content)).convert('RGB'), np.float32)
  planes = [Image.fromarray(pixels[..., c]).resize(size, resample, box) for c in range(3)]
  return np.stack([np.asarray(p) for p in planes], -1).clip(0., 255.)


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('box, size', [
    ((10, 20, 234, 244), (224, 224)), ((100, 50, 200, 130), (224, 224)), ((0, 0, 640, 427), (224, 224)),
    ((33, 7, 613, 420), (128, 96)), ((7, 3, 427, 423), (32, 32)),
    ((10.3, 20.7, 400.2, 310.9), (160, 160)), ((3.5, 1.5, 630.5, 420.5), (96, 64))])
def test_it_is_near_the_exact_filter_at_any_scale(box, size, interpolation):
  content, resample = jpeg(), images.RESAMPLE[interpolation]
  got = images.Quick(content, 3, '').resize(size, resample, box)
  assert got.shape == (size[1], size[0], 3) and got.dtype == np.uint8
  want = exact(content, size, resample, box)
  assert np.abs(got - want).mean() < 3.  # mean grey levels; this photograph is fine texture
  aliased = np.asarray(Image.open(io.BytesIO(content)).crop(tuple(map(int, box))).resize(
      size, Image.Resampling.NEAREST), np.float32)
  assert np.abs(got - want).mean() < .35 * np.abs(aliased - want).mean() + .3


def test_without_antialiasing_it_samples():
  """Twice as small: the mean of four pixels, half a pixel off the grid; no smoothing before it."""
  pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
  got = images.Quick(pixels, 3, '', antialias=False).resize((16, 16), Image.Resampling.BILINEAR)
  want = pixels.reshape(16, 2, 16, 2, 3).mean((1, 3))
  np.testing.assert_allclose(got, want, atol=.51)
  smoothed = images.Quick(pixels, 3, '').resize((16, 16), Image.Resampling.BILINEAR)
  assert smoothed.astype(float).std() < .8 * got.astype(float).std()


def test_a_window_of_the_same_size_is_the_window():
  got = images.Quick(PHOTOGRAPH, 3, '').resize((50, 40), Image.Resampling.BILINEAR, (5, 6, 55, 46))
  np.testing.assert_array_equal(got, PHOTOGRAPH[6:46, 5:55])


def test_a_fraction_of_a_pixel_shifts_a_ramp_by_it():
  ramp = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], 20, 0)
  ramp = np.repeat(ramp, 3, -1)
  got = images.Quick(ramp, 3, '').resize((40, 10), Image.Resampling.BILINEAR, (10.5, 5., 50.5, 15.))
  np.testing.assert_allclose(got[5, :, 0], 2 * (10.5 + np.arange(40)), atol=1.)


@pytest.mark.parametrize('options, mode', [
    (dict(), 'L'), (dict(progressive=True), 'RGB'), (dict(subsampling=0), 'RGB'), (dict(), 'CMYK')])
def test_every_kind_of_jpeg_has_the_pixels_that_pillow_gives(options, mode):
  out = io.BytesIO()
  Image.fromarray(PHOTOGRAPH[:90, :70]).convert(mode).save(out, 'JPEG', **options)
  want = np.asarray(Image.open(io.BytesIO(out.getvalue())).convert('RGB'))
  np.testing.assert_array_equal(np.asarray(images.decode(out.getvalue(), 3, '')), want)
  quick = images.Quick(out.getvalue(), 3, '')
  assert quick.size == (70, 90)
  np.testing.assert_array_equal(quick.resize((70, 90), Image.Resampling.BILINEAR), want)
  gray = images.Quick(out.getvalue(), 1, '').resize((70, 90), Image.Resampling.BILINEAR)
  np.testing.assert_allclose(gray[..., 0], np.asarray(Image.fromarray(want).convert('L')), atol=12.)


def test_exif_turns_an_image_in_both_ways():
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned by a quarter
  content = jpeg(PHOTOGRAPH[:40, :60], exif=exif)
  assert images.Quick(content, 3, '').size == images.decode(content, 3, '').size == (40, 60)
  exif[0x0112] = 1
  assert images.plain_jpeg(jpeg(PHOTOGRAPH[:40, :60], exif=exif)) == (40, 60)


@pytest.mark.parametrize('damage', [lambda b: b[:len(b) // 2], lambda b: b[:30], lambda b: b'',
                                    lambda b: b'\xff\xd8\xff' + b'?' * 500])
def test_damaged_files_are_named_in_both_ways(damage):
  content = damage(jpeg())
  with pytest.raises(UserError, match='cannot read the image x.jpg: '):
    images.Quick(content, 3, 'x.jpg').resize((8, 8), Image.Resampling.BILINEAR)
  with pytest.raises(UserError, match='cannot read the image x.jpg: '):
    images.decode(content, 3, 'x.jpg')


def test_pixels_of_one_image_do_not_leak_into_the_next():
  """Threads decode into a buffer that they use again."""
  first = images.Quick(jpeg(), 3, '').resize((64, 64), Image.Resampling.BILINEAR)
  kept = first.copy()
  images.Quick(jpeg(255 - PHOTOGRAPH), 3, '').resize((64, 64), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(first, kept)
