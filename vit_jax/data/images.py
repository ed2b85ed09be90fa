"""Image files in, uint8 arrays out."""

import numpy as np
from PIL import Image, ImageOps

from vit_jax.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm')

RESAMPLE = dict(bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC)


def open_image(path: str, channels: int) -> Image.Image:
  """Decodes an image file of any mode: grayscale, palette, 16-bit, CMYK, with transparency.

  It stands upright as its EXIF tag says; transparent parts are laid on white.

  Args:
    path: of the file.
    channels: 3 for RGB, 1 for grayscale.

  Raises:
    UserError: names a file that is no image or is damaged.
  """
  try:
    with Image.open(path) as file:
      image = ImageOps.exif_transpose(file)
      return convert(image, channels)
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise UserError(f'cannot read the image {path}: {error}; remove or replace it, or set '
                    'data.on_error=skip') from None


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
