"""Images that an EXIF tag turns without a change of size: nothing tells what boxes were drawn on."""

import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

from detr_jax.data.sources.objects import Problem

ORIENTATION = 0x0112
HALF_TURNS, QUARTER_TURNS = (2, 3, 4), (5, 6, 7, 8)  # mirror images among them
SAMPLE = 200  # images that are looked at before a run starts


def keeps_size(path: str) -> bool:
  """Tells whether the EXIF tag of an image file turns it, and leaves its size as it is."""
  try:
    with Image.open(path) as file:
      # Pillow would decode a PNG to look behind its pixels for a tag.
      tag = file.getexif().get(ORIENTATION) if file.format != 'PNG' or 'exif' in file.info else 1
      return tag in HALF_TURNS or tag in QUARTER_TURNS and file.width == file.height
  except (OSError, SyntaxError, ValueError, TypeError, struct.error, Image.DecompressionBombError):
    return False  # reading it tells what is wrong


def note(paths: Sequence[str], most: int = 0) -> list[Problem]:
  """Returns a note on the images whose boxes may have been drawn on either side of an EXIF turn.

  Args:
    paths: of the image files.
    most: files to look at, spread over all; 0 for all.
  """
  if most and len(paths) > most:
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, most, dtype=int)]
  found = list(filter(keeps_size, paths))
  return [Problem(
      f'{len(found)} of {len(paths)} images that were looked at are turned by their EXIF tag without a '
      f'change of size, the first: {found[0]}; boxes count as drawn on the upright image, '
      'data.exif=stored takes them as drawn on the stored pixels', False, kind='exif')] if found else []
