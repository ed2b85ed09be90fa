"""Image files in, uint8 arrays out.

Two ways to resize. `Image.Image.resize` of Pillow is exact: its filter is as wide as the scale asks
for. `Quick` is for training: it decodes JPEGs at the coarsest of 1, 1/2, 1/4 and 1/8 that is fine
enough, smooths just so much that nothing aliases, and samples; 2.5 times as fast, and within one
grey level of the exact result on average (`benchmarks/input_rate.py`).
"""

import io
import threading

import numpy as np
from PIL import Image, ImageOps

from vit_jax.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm')

RESAMPLE = dict(bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC,
                area=Image.Resampling.BOX)


def read_file(path: str) -> bytes:
  """Returns the content of an image file; UserError names one that cannot be read."""
  try:
    with open(path, 'rb') as file:
      return file.read()
  except OSError as error:
    raise damaged(path, error) from None


def damaged(name: str, error: Exception) -> UserError:
  """Returns the error for an image that cannot be decoded."""
  return UserError(f'cannot read the image {name}: {error}; remove or replace it, or set '
                   'data.on_error=skip')


def decode(content: bytes, channels: int, name: str) -> Image.Image:
  """Decodes an image of any format and mode: grayscale, palette, 16-bit, CMYK, with transparency.

  It stands upright as its EXIF tag says; transparent parts are laid on white.

  Args:
    content: of the file.
    channels: 3 for RGB, 1 for grayscale.
    name: of the file, for messages.

  Raises:
    UserError: names a file that is no image or is damaged.
  """
  try:
    if channels == 3 and plain_jpeg(content):
      import simplejpeg
      return Image.fromarray(simplejpeg.decode_jpeg(content))  # the pixels that Pillow gives, sooner
    with Image.open(io.BytesIO(content)) as file:
      return convert(ImageOps.exif_transpose(file), channels)
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise damaged(name, error) from None


def decode_flat(content: bytes, channels: int, name: str) -> Image.Image:
  """Decodes an image as `decode` does, but as its pixels lie in the file, whatever its EXIF tag says."""
  try:
    with Image.open(io.BytesIO(content)) as file:
      return convert(file, channels)
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise damaged(name, error) from None


def plain_jpeg(content: bytes) -> tuple[int, int] | None:
  """Returns (height, width) of a JPEG that stands upright and has the usual colours, else None."""
  if content[:3] != b'\xff\xd8\xff':
    return None
  import simplejpeg  # here, as in all of this file: predicting from arrays needs no decoder
  height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
  if colours not in ('YCbCr', 'RGB', 'Gray') or height * width > Image.MAX_IMAGE_PIXELS:
    return None
  if content.find(b'Exif\0\0', 0, 4096) >= 0:  # it stands among the first segments
    with Image.open(io.BytesIO(content)) as file:
      if file.getexif().get(0x0112, 1) != 1:
        return None
  return height, width


class Quick:
  """An image that is decoded as far as needed, once it is known which window is wanted.

  Attributes:
    width, height: in pixels.
  """

  def __init__(self, content: bytes | np.ndarray, channels: int, name: str, antialias: bool = True):
    """Reads the header; other formats than JPEG are decoded.

    Args:
      content: of the file, or pixels, uint8 `[height, width, channels]`.
      channels: 3 for RGB, 1 for grayscale.
      name: of the file, for messages.
      antialias: False samples without smoothing, as TensorFlow's default resize does.

    Raises:
      UserError: names a file that is no image or is damaged.
    """
    self._content, self._channels, self._name = content, channels, name
    self._antialias = antialias
    self._array = None
    if not isinstance(content, bytes):
      self._array = to_array(convert(from_array(content), channels))
    elif not (size := self._header()):
      self._array = to_array(decode(content, channels, name))
    self.height, self.width = size if self._array is None else self._array.shape[:2]

  def _header(self) -> tuple[int, int] | None:
    try:
      return plain_jpeg(self._content)
    except ValueError as error:
      raise damaged(self._name, error) from None

  @property
  def size(self) -> tuple[int, int]:
    """(width, height), as of Pillow's images."""
    return self.width, self.height

  def _decoded(self, scale: float) -> tuple[np.ndarray, int]:
    """Returns (pixels, how many times smaller than the image), at least as fine as `scale` needs."""
    if self._array is not None:
      return self._array, 1
    import simplejpeg
    shrink = next(n for n in (8, 4, 2, 1) if n <= max(scale, 1.)) if self._antialias else 1
    try:
      pixels = simplejpeg.decode_jpeg(
          self._content, 'RGB' if self._channels == 3 else 'GRAY', min_factor=shrink,
          min_height=-(-self.height // shrink), min_width=-(-self.width // shrink),
          buffer=_scratch(self.height * self.width * self._channels))
    except ValueError as error:
      raise damaged(self._name, error) from None
    return pixels, shrink

  def resize(self, size: tuple[int, int], resample: Image.Resampling,
             box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """Returns a window of the image at another size, uint8 `[height, width, channels]`.

    Args:
      size: (width, height) of the result.
      resample: as `RESAMPLE` gives it; the filter is approximated.
      box: (left, top, right, bottom) in pixels; None for the whole image.
    """
    import cv2
    left, top, right, bottom = box or (0, 0, self.width, self.height)
    scale = (right - left) / size[0], (bottom - top) / size[1]
    pixels, shrink = self._decoded(min(scale))
    left, top, right, bottom = (n / shrink for n in (left, top, right, bottom))
    x, y = int(left), int(top)
    window = pixels[y:int(np.ceil(bottom)), x:int(np.ceil(right))]
    taps = [_smoothing(s / shrink) for s in scale]
    if self._antialias and any(len(t) > 1 for t in taps):
      window = cv2.sepFilter2D(window, -1, *taps, borderType=cv2.BORDER_REPLICATE)
    how = cv2.INTER_CUBIC if resample == Image.Resampling.BICUBIC else cv2.INTER_LINEAR
    if (right - left, bottom - top) == window.shape[1::-1]:  # whole pixels
      out = cv2.resize(window, size, interpolation=how)
    else:
      across, down = (right - left) / size[0], (bottom - top) / size[1]
      back = np.array([[across, 0., left - x + across / 2. - .5], [0., down, top - y + down / 2. - .5]])
      out = cv2.warpAffine(window, back, size, flags=how | cv2.WARP_INVERSE_MAP,
                           borderMode=cv2.BORDER_REPLICATE)
    return out.reshape(size[1], size[0], self._channels)


_LOCAL, _NONE = threading.local(), np.empty(0, np.uint8)


def _scratch(size: int) -> np.ndarray:
  """Returns this thread's buffer: fresh memory for each image would cost a third of the decoding."""
  if getattr(_LOCAL, 'buffer', _NONE).size < size:
    _LOCAL.buffer = np.empty(size, np.uint8)
  return _LOCAL.buffer


def _smoothing(scale: float) -> np.ndarray:
  """Returns the taps that make linear sampling at `scale` pixels a step free of aliasing.

  The exact filter, a triangle as wide as the scale, has the variance scale^2 / 6, sampling adds 1 / 6,
  and three taps [v / 2, 1 - v, v / 2] have the variance v: this makes up for the difference.
  """
  variance = (min(scale, 2.) ** 2 - 1.) / 6.
  if variance < .02:
    return np.ones(1, np.float32)
  return np.array([variance / 2., 1. - variance, variance / 2.], np.float32)


def convert(image: Image.Image, channels: int) -> Image.Image:
  """Returns an image of any mode as RGB or grayscale, 8 bits a channel."""
  if image.mode.startswith(('I', 'F')):  # 16 or 32 bits, or float; Pillow would clip at 255
    values = np.asarray(image, np.float64)
    image = Image.fromarray(np.uint8(np.clip(values / _white(image.mode, values), 0., 1.) * 255. + .5))
  if image.has_transparency_data:
    image = image.convert('RGBA')
    paper = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(paper, image)
  return image.convert('L' if channels == 1 else 'RGB')


def _white(mode: str, values: np.ndarray) -> float:
  """Returns the value of white: 65535 in 16-bit files; in wider ones the least usual that fits."""
  if mode.startswith('I;16'):
    return 65535.
  top = values.max(initial=0.)
  return next((white for white in (1., 255., 65535.) if top <= white), top)


def to_array(image: Image.Image) -> np.ndarray:
  """Returns uint8 `[height, width, channels]`."""
  array = np.asarray(image)
  return array[..., None] if array.ndim == 2 else array


def from_array(array: np.ndarray) -> Image.Image:
  """Returns the image of uint8 `[height, width, channels]`."""
  return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
