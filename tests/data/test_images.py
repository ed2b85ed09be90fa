"""Image files of every mode become RGB or grayscale, upright; damaged ones are named."""

import io

import numpy as np
import pytest
from PIL import Image

from vit_jax.data import images
from vit_jax.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = RGB[..., 0]


def open_image(path, channels):
  return images.decode(images.read_file(path), channels, path)


@pytest.fixture
def opened(tmp_path):
  """Returns a function that saves an image and opens it by our reader."""
  def save_and_open(image, name='a.png', channels=3, **options):
    path = str(tmp_path / name)
    image.save(path, **options)
    return images.to_array(open_image(path, channels))
  return save_and_open


def test_rgb_and_grayscale_are_kept(opened):
  np.testing.assert_array_equal(opened(Image.fromarray(RGB)), RGB)
  np.testing.assert_array_equal(opened(Image.fromarray(GRAY), channels=1), GRAY[..., None])


def test_grayscale_becomes_three_equal_channels(opened):
  np.testing.assert_array_equal(opened(Image.fromarray(GRAY)), np.repeat(GRAY[..., None], 3, -1))


def test_colour_becomes_luminance(opened):
  want = RGB @ np.array([.299, .587, .114])
  np.testing.assert_allclose(opened(Image.fromarray(RGB), channels=1)[..., 0], want, atol=1)


@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_transparency_is_laid_on_white(opened, mode):
  colour = RGB if mode == 'RGBA' else np.repeat(GRAY[..., None], 3, -1)
  alpha = np.random.default_rng(1).integers(0, 256, (6, 9, 1), dtype=np.uint8)
  image = Image.fromarray(np.concatenate([colour[..., :len(mode) - 1], alpha], -1))
  assert image.mode == mode
  share = alpha / 255.
  np.testing.assert_allclose(opened(image), share * colour + (1 - share) * 255., atol=1.01)


def test_sixteen_bits_are_scaled_and_not_clipped(opened):
  deep = np.uint16(GRAY) * 257  # 0 ... 65535
  for channels in (1, 3):
    want = np.repeat(GRAY[..., None], channels, -1)
    np.testing.assert_array_equal(opened(Image.fromarray(deep), channels=channels), want)


def test_a_dark_sixteen_bit_image_stays_dark(opened):
  assert opened(Image.fromarray(np.uint16(GRAY))).max() <= 1


@pytest.mark.parametrize('name', ['a.png', 'a.gif'])
def test_palettes_are_resolved(opened, name):
  image = Image.fromarray(RGB).quantize(256)
  np.testing.assert_array_equal(opened(image, name), np.asarray(image.convert('RGB')))


def test_a_transparent_palette_entry_is_white(opened):
  image = Image.fromarray(np.uint8([[0, 1]]), 'P')
  image.putpalette([10, 20, 30, 40, 50, 60])
  got = opened(image, transparency=1)
  np.testing.assert_array_equal(got, [[[10, 20, 30], [255, 255, 255]]])


def test_black_and_white(opened):
  bits = Image.fromarray(GRAY > 128)
  np.testing.assert_array_equal(opened(bits, channels=1)[..., 0], np.where(GRAY > 128, 255, 0))


@pytest.mark.parametrize('channels', [1, 3])
def test_cmyk(opened, channels):
  image = Image.new('CMYK', (16, 16), (255, 0, 0, 0))  # cyan
  got = opened(image, 'a.jpg', channels, quality=95)
  want = [0, 255, 255] if channels == 3 else [.587 * 255 + .114 * 255]
  np.testing.assert_allclose(got[8, 8], want, atol=6)


@pytest.mark.parametrize('tag, turn', [
    (1, lambda x: x), (2, lambda x: x[:, ::-1]), (3, lambda x: x[::-1, ::-1]),
    (4, lambda x: x[::-1]), (5, lambda x: x.swapaxes(0, 1)), (6, lambda x: np.rot90(x, -1)),
    (7, lambda x: np.rot90(x, 2).swapaxes(0, 1)), (8, lambda x: np.rot90(x))])
def test_an_image_stands_as_its_exif_tag_says(opened, tag, turn):
  exif = Image.Exif()
  exif[0x0112] = tag
  np.testing.assert_array_equal(opened(Image.fromarray(RGB), exif=exif), turn(RGB))


def test_arrays_and_images_are_inverse():
  for array in (RGB, GRAY[..., None]):
    np.testing.assert_array_equal(images.to_array(images.from_array(array)), array)


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n'])
def test_what_is_no_image_is_named_with_a_remedy(tmp_path, content):
  path = tmp_path / 'bad.jpg'
  path.write_bytes(content)
  with pytest.raises(UserError, match=r'cannot read the image .*bad\.jpg: [^<]*; remove or replace it$'):
    open_image(str(path), 3)
  with pytest.raises(UserError, match=r'nowhere\.jpg'):
    open_image(str(tmp_path / 'nowhere.jpg'), 3)


@pytest.mark.filterwarnings('ignore:Truncated File Read')
@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'BMP', 'GIF', 'TIFF', 'WEBP', 'PPM'])
def test_a_file_cut_anywhere_is_read_or_named(tmp_path, kind):
  """Each cut is either harmless or a UserError; at least the cut in the middle is told."""
  buffer = io.BytesIO()
  noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
  Image.fromarray(noise).save(buffer, kind)
  content, path, told = buffer.getvalue(), tmp_path / 'cut.img', 0
  for share in np.linspace(0., .97, 40):
    path.write_bytes(content[:int(share * len(content))])
    try:
      open_image(str(path), 3)
    except UserError as error:
      assert 'cut.img' in str(error)
      told += 1
  assert told > 20


def tiff(values) -> bytes:
  out = io.BytesIO()
  Image.fromarray(values).save(out, 'TIFF')
  return out.getvalue()


RAMP = np.linspace(0., 1., 240).reshape(24, 10)


@pytest.mark.parametrize('values', [
    (RAMP * 255 - 1000).astype(np.int32), (RAMP * 3000 - 1000).astype(np.int32),
    (RAMP * 2e9).astype(np.int32), (RAMP * 2 - 1).astype(np.float32), RAMP.astype(np.float32) * 1e-5,
    RAMP.astype(np.float32) * 1e30, (RAMP * 65535).astype(np.uint16), (RAMP * 100).astype(np.uint16)])
@pytest.mark.parametrize('channels', [1, 3])
def test_no_range_of_values_becomes_black(values, channels):
  """CT slices, heights, reflectances: from black to white, in training as in prediction."""
  got = images.to_array(images.decode(tiff(values), channels, ''))
  np.testing.assert_allclose(got[..., 0], RAMP * 255., atol=3.)
  quick = images.Quick(tiff(values), channels, '').resize((10, 24), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(quick, got)


def test_what_is_not_a_number_leaves_the_rest_as_it_is():
  values = (RAMP * 2. - 1.).astype(np.float32)
  values[0, 0], values[1, 0], values[2, 0] = np.nan, np.inf, -np.inf
  got = np.asarray(images.decode(tiff(values), 1, ''))
  np.testing.assert_allclose(got[3:], RAMP[3:] * 255., atol=3.)
  assert got[:3, 0].tolist() == [0, 255, 0]
  with pytest.raises(UserError, match='cannot read the image x.tif: it holds no finite number'):
    images.decode(tiff(np.full((4, 4), np.nan, np.float32)), 3, 'x.tif')


def test_an_image_of_one_value_is_read():
  for value in (-5, 0, 7):
    assert images.decode(tiff(np.full((4, 4), value, np.int32)), 3, '').size == (4, 4)
