"""What is given to a predictor, and what is said of what cannot be read."""

import json
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from vit_jax.data import listing
from vit_jax.errors import UserError

Item = TypeVar('Item')


def image_paths(paths: Sequence[str]) -> list[str]:
  """Returns files as they are and folders as all images below them, sorted; tells what it leaves out.

  Raises:
    UserError: for paths that do not exist, or when there is no image at all.
  """
  paths = [os.path.expanduser(path) for path in paths]
  if missing := [path for path in paths if not os.path.exists(path)]:
    raise UserError(f'no image or folder {", ".join(map(repr, missing))}')
  found = []
  for path in paths:
    below = listing.images_below(path) if os.path.isdir(path) else listing.Listing([path])
    found += below.files
    if below.left_out:
      listing.tell(f'{path}: {listing.told(below.left_out)}')
  if not found:
    raise UserError(f'no images in {", ".join(paths)}; known suffixes: {" ".join(listing.SUFFIXES)}')
  return found


Images = str | os.PathLike | np.ndarray | Sequence  # an image, a folder, or several


def listed(images: Images) -> list:
  """Returns files as texts and arrays as they are, all images of a folder in its place.

  Raises:
    UserError: for a folder without images.
  """
  if isinstance(images, str | os.PathLike) or isinstance(images, np.ndarray) and images.ndim == 3:
    images = [images]
  found = []
  for image in images:
    path = os.fspath(image) if isinstance(image, str | os.PathLike) else ''
    found += image_paths([path]) if os.path.isdir(path) else [path or image]
  return found


def attempt(read: Callable[[str], Item], name: str) -> Item | UserError:
  """Returns what `read` gives for a file, or the error for one that cannot be read."""
  try:
    return read(name)
  except UserError as error:
    return error


def pixels(array) -> np.ndarray:
  """Returns uint8 `[height, width, channels]`; UserError for anything else."""
  array = np.asarray(array)
  if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (1, 3) or 0 in array.shape:
    raise UserError(f'an image must be a path, or uint8 [height, width, 3 or 1], not {array.dtype} '
                    f'{list(array.shape)}')
  return array


def in_batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
  """Yields the items in their order, `size` at a time."""
  for start in range(0, len(items), size):
    yield items[start:start + size]


def finish(bad: Mapping[str, UserError], count: int, draw: Callable[[], None] | None) -> None:
  """Draws what was found, after all results are printed, then tells what could not be done.

  Args:
    bad: {file that cannot be read: why}.
    count: of all files.
    draw: writes the picture; None where nothing is to be drawn.

  Raises:
    UserError: names all files that cannot be read, and a picture that cannot be written.
  """
  problems = [f'{len(bad)} of {count} file(s) cannot be read' + ', the others are done' * (
      len(bad) < count) + f': {"; ".join(map(str, bad.values()))}'] if bad else []
  try:
    if draw:
      draw()
  except UserError as error:
    problems.append(str(error))
  if problems:
    raise UserError('; '.join(problems))


class Printer:
  """Prints records as they come: lines of text, or the elements of one JSON list."""

  def __init__(self, as_json: bool, text: Callable[[dict], str]):
    """Takes the form: JSON, or what `text` makes of a record."""
    self._json, self._text, self._count = as_json, text, 0

  def add(self, record: dict) -> None:
    """Prints a record and flushes, so that a reader sees it at once."""
    if self._json:
      print(',\n' if self._count else '[\n', textwrap.indent(json.dumps(record, indent=1), ' '),
            sep='', end='', flush=True)
    else:
      print(self._text(record), flush=True)
    self._count += 1

  def close(self) -> None:
    """Ends the list."""
    if self._json:
      print('\n]' if self._count else '[]', flush=True)
