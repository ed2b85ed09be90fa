"""PNGs with the segment of each pixel, as COCO's panoptic annotations have them."""

import os
from collections.abc import Sequence

from vit_jax import errors


def segment_files(folder: str, names: Sequence[str]) -> list[str]:
  """Returns the PNG of each image, in a folder that is made.

  Raises:
    UserError: a folder that cannot be, two images that would have the same file, or one that would be
      overwritten itself.
  """
  files = {}
  for name in names:
    file = os.path.join(folder, os.path.splitext(os.path.basename(name))[0] + '.png')
    if file in files:
      raise errors.UserError(f'{files[file]} and {name} would both have their segments in {file}; give '
                             'the images names of their own, or call once for each folder')
    files[file] = name
  images = set(map(os.path.realpath, names))
  for file, name in files.items():
    if os.path.realpath(file) in images:
      raise errors.UserError(f'the segments of {name} would overwrite the image {file}; name another '
                             'folder by --segments')
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError as error:
    raise errors.UserError(f'cannot make the folder --segments={folder}: {error}') from None
  return list(files)


def write_segments(ids, file: str) -> None:
  """Writes segment ids `[height, width]` as COCO's panoptic PNGs have them."""
  from PIL import Image

  from detr_jax.data.sources.segmentation import panoptic_pixels
  from vit_jax.visual.page import save_figure
  save_figure(Image.fromarray(panoptic_pixels(ids)), file)
