"""The quick way to cut an image: near the exact one, on windows of any scale, and as strict."""

import io
import os

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


def stored(pixels, container: str) -> bytes | np.ndarray:
  """Returns pixels in a container; a JPEG that EXIF turns lies in its file."""
  if container == 'array':
    return pixels
  image, out, options = Image.fromarray(pixels), io.BytesIO(), {}
  if container == 'turned JPEG':
    options['exif'] = Image.Exif()
    options['exif'][0x0112] = 6
    image = image.transpose(Image.Transpose.ROTATE_90)
  mode = dict([('gray JPEG', 'L'), ('CMYK JPEG', 'CMYK'), ('deep PNG', 'L')]).get(container, 'RGB')
  image = image.convert(mode)
  if container == 'deep PNG':
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
  image.save(out, container.split()[-1], **options, **({} if 'PNG' in container else dict(quality=95)))
  return out.getvalue()


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic', 'area'])
@pytest.mark.parametrize('container', [
    'JPEG', 'turned JPEG', 'gray JPEG', 'CMYK JPEG', 'PNG', 'deep PNG', 'WEBP', 'array'])
def test_photographs_shrink_as_exactly_in_every_container(shared, container, interpolation):
  """Within 1.5 grey levels of Pillow's filter, on average over all photographs, at every scale."""
  folder, resample = shared('data/photos'), images.RESAMPLE[interpolation]
  names = sorted(n for n in os.listdir(folder) if n.endswith(('.png', '.jpg')))
  contents = [stored(np.asarray(Image.open(os.path.join(folder, n)).convert('RGB')), container)
              for n in names]
  for side in (300, 224, 160, 112, 80, 56, 48, 32, 16, 8):
    off = []
    for content in contents:
      want = (images.from_array(content) if container == 'array' else
              images.decode(content, 3, ''))
      planes = [Image.fromarray(np.asarray(want, np.float32)[..., c]) for c in range(3)]
      size = tuple(round(n * side / min(want.size)) for n in want.size)
      want = np.stack([np.asarray(p.resize(size, resample)) for p in planes], -1).clip(0., 255.)
      got = images.Quick(content, 3, '').resize(size, resample)
      assert got.shape == want.shape
      off.append(np.abs(got - want).mean())
    assert np.mean(off) < 1.5, (side, off)


@pytest.mark.parametrize('turn', range(1, 9))
def test_a_window_of_a_turned_photograph_is_that_of_the_upright_one(turn):
  exif = Image.Exif()
  exif[0x0112] = turn
  content = jpeg(exif=exif)
  whole = images.decode(content, 3, '')
  quick = images.Quick(content, 3, '')
  assert quick.size == whole.size
  for box, size in (((10, 20, 74, 120), (64, 100)), ((31.5, 7.25, 400.5, 410.), (90, 70)),
                    ((0, 0, *whole.size), (40, 30))):
    want = np.asarray(whole.resize(size, Image.Resampling.BILINEAR, box), float)
    got = quick.resize(size, Image.Resampling.BILINEAR, box)
    assert np.abs(got - want).mean() < 3.5  # fine texture; a window elsewhere is off by tens


@pytest.mark.parametrize('pixels, size', [
    (PHOTOGRAPH, (600, 9)), (PHOTOGRAPH, (9, 400)), (PHOTOGRAPH, (1200, 20)),
    (PHOTOGRAPH[:40], (32, 100)),
    (PHOTOGRAPH[:3, :5], (2, 2)), (PHOTOGRAPH[:1, :1], (4, 4)), (PHOTOGRAPH[:1, :90], (5, 5)),
    (PHOTOGRAPH[:30, :30], (100, 110))])
@pytest.mark.parametrize('interpolation', ['bilinear', 'area'])
def test_each_axis_has_a_scale_of_its_own(pixels, size, interpolation):
  """Wide and tall windows, images of few pixels, and images that grow along one axis or both."""
  resample = images.RESAMPLE[interpolation]
  want = np.asarray(Image.fromarray(pixels).resize(size, resample), float)
  got = images.Quick(pixels, 3, '').resize(size, resample)
  assert np.abs(got - want).mean() < 3.
  lossy = images.Quick(jpeg(pixels), 3, '').resize(size, resample)
  assert lossy.shape == got.shape


def test_the_buffer_of_a_thread_is_bounded():
  images._scratch(images._KEPT + 1)
  images._scratch(100)
  assert images._LOCAL.buffer.size <= images._KEPT


def test_images_need_no_limit(monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
  assert images.Quick(jpeg(), 3, '').size == images.decode(jpeg(), 3, '').size == (WIDTH, HEIGHT)


SEGMENTS = {
    'XMP': b'\xff\xe1' + (50029).to_bytes(2) + b'http://ns.adobe.com/xmp/extension/\0' + b'0' * 49992,
    'ICC': b'\xff\xe2' + (9002).to_bytes(2) + b'ICC_PROFILE\0\1\1' + b'0' * 8986,
    'Photoshop': b'\xff\xed' + (9002).to_bytes(2) + b'Photoshop 3.0\0' + b'0' * 8986,
    'comment': b'\xff\xfe' + (60002).to_bytes(2) + b'x' * 60000, 'none': b'', 'padding': b'\xff\xff\xff'}


@pytest.mark.parametrize('before', SEGMENTS)
@pytest.mark.parametrize('turn', [3, 6])
def test_exif_is_found_behind_any_segment(before, turn):
  exif = Image.Exif()
  exif[0x0112] = turn
  content = jpeg(PHOTOGRAPH[:40, :60], exif=exif)
  content = content[:2] + SEGMENTS[before] + content[2:]
  want = np.rot90(np.asarray(images.decode(jpeg(PHOTOGRAPH[:40, :60]), 3, '')), 2 if turn == 3 else -1)
  np.testing.assert_allclose(np.asarray(images.decode(content, 3, '')), want, atol=2)
  quick = images.Quick(content, 3, '')
  np.testing.assert_allclose(quick.resize(quick.size, Image.Resampling.BILINEAR), want, atol=2)
  gray = np.asarray(images.decode(content, 1, ''))
  assert gray.shape == images.Quick(content, 1, '').resize(
      quick.size, Image.Resampling.BILINEAR).shape[:2] == want.shape[:2]
  np.testing.assert_allclose(gray, want @ np.array([.299, .587, .114]), atol=8)


@pytest.mark.parametrize('container', ['PNG', 'WEBP', 'TIFF', 'AVIF'])
def test_exif_of_other_containers_is_heeded_once(container):
  exif, out = Image.Exif(), io.BytesIO()
  exif[0x0112] = 6
  Image.fromarray(PHOTOGRAPH[:40, :60]).save(out, container, exif=exif)
  for channels in (3, 1):
    assert images.decode(out.getvalue(), channels, '').size == (40, 60)
  assert images.Quick(out.getvalue(), 3, '').size == (40, 60)


def test_damaged_exif_turns_nothing():
  content = jpeg(PHOTOGRAPH[:40, :60])
  content = content[:2] + b'\xff\xe1\0\x18Exif\0\0' + b'?' * 16 + content[2:]
  assert images.Quick(content, 3, '').size == images.decode(content, 1, '').size == (60, 40)
