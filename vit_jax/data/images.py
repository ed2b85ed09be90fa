"""Image files in, uint8 arrays out.

Two ways to resize. `Image.Image.resize` of Pillow is exact: its filter is as wide as the scale asks
for. `Quick` is for training: up to a scale of 2 it smooths just so much that nothing aliases, and
samples; beyond, it takes the pixels no finer than needed (JPEGs are decoded at 1/2, 1/4 or 1/8, others
averaged over blocks) for the exact filter. It is within 1.5 grey levels of the exact result on average,
whatever file the image came in and however much it shrinks (`benchmarks/input_quality.py`), and about
twice as fast on files of 500x375 pixels (`benchmarks/input_rate.py`).
"""

import io
import os
import struct
import threading
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from vit_jax.errors import Unreadable

RESAMPLE = dict(bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC,
                area=Image.Resampling.BOX)

# What Pillow raises for files that are none of its formats, or damaged.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
           struct.error, zlib.error, Image.DecompressionBombError)

_ORIENTATION = 0x0112  # EXIF's tag

# An image stands upright when it is flipped across, flipped down, and then its axes are swapped.
_TURNS = {1: (False, False, False), 2: (True, False, False), 3: (True, True, False),
          4: (False, True, False), 5: (False, False, True), 6: (False, True, True),
          7: (True, True, True), 8: (True, False, True)}

# How many times finer than the result the pixels are at least that the exact filter gets: of JPEGs that
# are decoded smaller, and of blocks that are averaged, which cost less.
JPEG_GAP, GAP = 1.5, 2.


def cpus() -> int:
  """Returns the CPUs that this process may use, which can be fewer than the machine has."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def read_file(path: str) -> bytes:
  """Returns the content of an image file; UserError names one that cannot be read."""
  try:
    with open(path, 'rb') as file:
      return file.read()
  except OSError as error:
    raise damaged(path, error) from None


def damaged(name: str, error: Exception) -> Unreadable:
  """Returns the error for an image that cannot be decoded."""
  if isinstance(error, UnidentifiedImageError):  # whose text has the address of an object
    error = 'it is empty' if isinstance(error, _Empty) else 'its content is no image that Pillow knows'
  elif isinstance(error, OSError) and error.strerror:
    error = error.strerror
  return Unreadable(f'cannot read the image {name}: {error}; remove or replace it')


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
    with _open(content) as file:
      file.load()
      return convert(upright(file), channels)
  except DAMAGE as error:
    raise damaged(name, error) from None


def decode_flat(content: bytes, channels: int, name: str) -> Image.Image:
  """Decodes an image as `decode` does, but as its pixels lie in the file, whatever its EXIF tag says."""
  try:
    with _open(content) as file:
      return convert(file, channels)
  except DAMAGE as error:
    raise damaged(name, error) from None


class _Empty(UnidentifiedImageError):
  """A file of no bytes."""


def _open(content: bytes) -> Image.Image:
  if not content:
    raise _Empty
  return Image.open(io.BytesIO(content))


def orientation(file: Image.Image) -> int:
  """Returns 1 to 8, as the EXIF tag of an opened image says; 1 where it says nothing that is known."""
  try:
    turn = file.getexif().get(_ORIENTATION, 1)
  except DAMAGE:  # the pixels may be whole all the same
    return 1
  return turn if turn in _TURNS else 1


def upright(file: Image.Image) -> Image.Image:
  """Returns a loaded image turned as its EXIF tag says."""
  across, down, swap = _TURNS[orientation(file)]
  for wanted, how in ((across, Image.Transpose.FLIP_LEFT_RIGHT), (down, Image.Transpose.FLIP_TOP_BOTTOM),
                      (swap, Image.Transpose.TRANSPOSE)):
    file = file.transpose(how) if wanted else file
  return file


def usual_jpeg(content: bytes) -> tuple[int, int] | None:
  """Returns (height, width), as the pixels lie, of a JPEG that has the usual colours, else None."""
  if content[:3] != b'\xff\xd8\xff':
    return None
  import simplejpeg  # here, as in all of this file: predicting from arrays needs no decoder
  height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
  limit = Image.MAX_IMAGE_PIXELS  # None: no limit
  if colours not in ('YCbCr', 'RGB', 'Gray') or limit and height * width > limit:
    return None
  return height, width


def plain_jpeg(content: bytes) -> tuple[int, int] | None:
  """Returns (height, width) of a JPEG that stands upright and has the usual colours, else None."""
  size = usual_jpeg(content)
  return size if size and jpeg_orientation(content) == 1 else None


def jpeg_orientation(content: bytes) -> int:
  """Returns `orientation` of a JPEG; Pillow is asked only where a segment may tell it."""
  if not _may_turn(content):
    return 1
  with _open(content) as file:
    return orientation(file)


def _may_turn(content: bytes) -> bool:
  """Tells whether a segment before the pixels holds EXIF or XMP (APP1), wherever it stands."""
  at = 2
  while content[at:at + 1] == b'\xff':
    kind = content[at + 1:at + 2]
    if kind == b'\xe1':
      return True
    if kind in (b'\xda', b'\xd9'):  # the pixels, or the end
      return False
    # A byte of padding, or a marker that stands alone (TEM, RST), or a segment with its length.
    alone = kind == b'\x01' or b'\xd0' <= kind <= b'\xd7'
    at += 1 if kind == b'\xff' else 2 if alone else 2 + int.from_bytes(content[at + 2:at + 4])
  return True  # an odd file: Pillow knows better


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
    self._array, self._turn = None, _TURNS[1]
    if not isinstance(content, bytes):
      self._array = to_array(convert(from_array(content), channels))
    elif not (size := self._header()):
      self._array = to_array(decode(content, channels, name))
    self._size = size if self._array is None else self._array.shape[:2]  # as the pixels lie
    self.height, self.width = self._size[::-1] if self._turn[2] else self._size

  def _header(self) -> tuple[int, int] | None:
    try:
      size = usual_jpeg(self._content)
      if size:
        self._turn = _TURNS[jpeg_orientation(self._content)]
      return size
    except DAMAGE as error:
      raise damaged(self._name, error) from None

  @property
  def size(self) -> tuple[int, int]:
    """(width, height), as of Pillow's images."""
    return self.width, self.height

  def _decoded(self, scale: float) -> tuple[np.ndarray, int]:
    """Returns (pixels, how many times smaller than the image), as fine as `scale` needs."""
    if self._array is not None:
      return self._array, 1
    import simplejpeg
    height, width = self._size
    most = max(scale / JPEG_GAP, 1.) if self._antialias else 1.
    shrink = next(n for n in (8, 4, 2, 1) if n <= most)
    try:
      pixels = simplejpeg.decode_jpeg(
          self._content, 'RGB' if self._channels == 3 else 'GRAY', min_factor=shrink,
          min_height=-(-height // shrink), min_width=-(-width // shrink),
          buffer=_scratch(height * width * self._channels))
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
    left, top, right, bottom = box or (0, 0, self.width, self.height)
    across, down, swap = self._turn
    if swap:
      (left, top, right, bottom), size = (top, left, bottom, right), size[::-1]
    if across:
      left, right = self._size[1] - right, self._size[1] - left
    if down:
      top, bottom = self._size[0] - bottom, self._size[0] - top
    out = self._resize(size, resample, (left, top, right, bottom))
    out = out[::-1 if down else 1, ::-1 if across else 1]
    return out.swapaxes(0, 1) if swap else out

  def _resize(self, size, resample, box) -> np.ndarray:
    """Does `resize` with the pixels as they lie in the file."""
    scale = (box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]
    area = self._antialias and resample == Image.Resampling.BOX  # means over means would lie elsewhere
    pixels, shrink = self._decoded(1. if area else min(scale))
    box = tuple(n / shrink for n in box)
    if area or self._antialias and max(scale) > 2.:
      gap = None if area else max(GAP, max(scale) / shrink / 8.)  # blocks of 8 pixels at most
      return to_array(from_array(pixels).resize(size, resample, box, reducing_gap=gap))
    return _sample(pixels, size, resample, box, self._antialias).reshape(size[1], size[0], -1)


def _sample(pixels: np.ndarray, size, resample, box, smooth: bool) -> np.ndarray:
  """Returns a window of pixels at another size, at most twice as small where it is to be smooth."""
  import cv2
  left, top, right, bottom = box
  scale = (right - left) / size[0], (bottom - top) / size[1]
  x, y = int(left), int(top)
  window = pixels[y:int(np.ceil(bottom)), x:int(np.ceil(right))]
  taps = [_smoothing(s) for s in scale]
  if smooth and any(len(t) > 1 for t in taps):
    window = cv2.sepFilter2D(window, -1, *taps, borderType=cv2.BORDER_REPLICATE)
  how = cv2.INTER_CUBIC if resample == Image.Resampling.BICUBIC else cv2.INTER_LINEAR
  if (right - left, bottom - top) == window.shape[1::-1]:  # whole pixels
    return cv2.resize(window, size, interpolation=how)
  across, down = scale
  back = np.array([[across, 0., left - x + across / 2. - .5], [0., down, top - y + down / 2. - .5]])
  return cv2.warpAffine(window, back, size, flags=how | cv2.WARP_INVERSE_MAP,
                        borderMode=cv2.BORDER_REPLICATE)


_LOCAL, _NONE = threading.local(), np.empty(0, np.uint8)
_KEPT = 24 << 20  # bytes that a thread keeps at most: a photograph of 8 million pixels


def _scratch(size: int) -> np.ndarray:
  """Returns this thread's buffer: fresh memory for each image would cost a third of the decoding.

  Of a larger image than `_KEPT` the memory is given back, for threads are many.
  """
  if size > _KEPT:
    return np.empty(size, np.uint8)
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
  """Returns an image of any mode as RGB or grayscale, 8 bits a channel.

  Raises:
    ValueError: no pixel holds a finite number.
  """
  if image.mode.startswith(('I', 'F')):  # 16 or 32 bits, or float; Pillow would clip at 255
    image = Image.fromarray(_to_bytes(image.mode, np.asarray(image, np.float64)))
  if image.has_transparency_data:
    image = image.convert('RGBA')
    paper = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(paper, image)
  return image.convert('L' if channels == 1 else 'RGB')


def _to_bytes(mode: str, values: np.ndarray) -> np.ndarray:
  """Returns uint8 of an image of wide numbers.

  Black is 0 and white the usual number for it: 65535 in 16-bit files, else the least of 1, 255 and 65535
  that fits, or the largest value. Where some values are negative, or all would be shown as black, black
  is the smallest value and white the largest. What is not a number (NaN) is black.
  """
  finite = values[np.isfinite(values)]
  if values.size and not finite.size:
    raise ValueError('it holds no finite number')
  low, top = (finite.min(), finite.max()) if finite.size else (0., 0.)
  white = 65535. if mode.startswith('I;16') else next((w for w in (1., 255., 65535.) if top <= w), top)
  black = 0.
  if low < 0. or low < top < .5 / 255. * white:
    black, white = low, top
  values = np.nan_to_num(values, nan=black, posinf=white, neginf=black)
  return np.uint8(np.clip((values - black) / ((white - black) or 1.), 0., 1.) * 255. + .5)


def to_array(image: Image.Image) -> np.ndarray:
  """Returns uint8 `[height, width, channels]`."""
  array = np.asarray(image)
  return array[..., None] if array.ndim == 2 else array


def from_array(array: np.ndarray) -> Image.Image:
  """Returns the image of uint8 `[height, width, channels]`."""
  return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
