"""Which files of a folder are images: one rule for training, predicting, converting and exploring.

A folder is walked down to its last subfolder, links too. Files are taken by their suffix. What systems
leave behind (hidden files, `._*` of macOS, `__MACOSX`) is passed over without a word; whatever else is
left out is counted, so that it can be told.
"""

import collections
import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping

# What Pillow reads of photographs.
SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.apng', '.webp', '.avif', '.avifs', '.tif',
            '.tiff', '.bmp', '.dib', '.gif', '.jp2', '.j2k', '.j2c', '.jpx', '.jpf', '.jpc', '.ppm',
            '.pgm', '.pbm', '.pnm', '.tga')
LITTER = ('__MACOSX', 'Thumbs.db', 'desktop.ini')  # beside all that begins with a dot


@dataclasses.dataclass
class Listing:
  """What a folder holds.

  Attributes:
    files: paths of the images, sorted.
    left_out: {suffix: number} of other files.
  """
  files: list[str]
  left_out: collections.Counter = dataclasses.field(default_factory=collections.Counter)


def images_below(folder: str) -> Listing:
  """Returns the images of a folder and of all folders in it."""
  found, seen = Listing([]), set()
  for place, folders, names in os.walk(folder, followlinks=True):
    real = os.path.realpath(place)
    folders[:] = [] if real in seen else sorted(filter(visible, folders))  # a link may lead back
    for name in names if real not in seen else ():
      if is_image(name):
        found.files.append(os.path.join(place, name))
      elif visible(name):
        found.left_out[os.path.splitext(name)[1].lower() or 'no suffix'] += 1
    seen.add(real)
  found.files.sort()
  return found


def folders_in(folder: str) -> list[str]:
  """Returns the names of the folders in a folder, sorted."""
  return sorted(e.name for e in os.scandir(folder) if e.is_dir() and visible(e.name))


def visible(name: str) -> bool:
  """Tells whether a file is neither hidden nor left behind by the operating system."""
  return not name.startswith('.') and name not in LITTER


def is_image(name: str) -> bool:
  """Tells whether a file is an image, by its name."""
  return visible(name) and name.lower().endswith(SUFFIXES)


def notes(folder: str, classes: Mapping[str, Listing]) -> str:
  """Returns what was left out of a folder of class folders, for one line; '' for nothing.

  Args:
    folder: holds the class folders.
    classes: {folder: what it holds}.
  """
  left_out = sum((found.left_out for found in classes.values()), collections.Counter())
  empty = [name for name, found in classes.items() if not found.files]
  loose = sum(e.is_file() and is_image(e.name) for e in os.scandir(folder))
  said = [f'no image in the class folder(s) {some(empty)}'] * bool(empty)
  said += [f'{loose} image(s) outside the class folders are left out'] * bool(loose)
  return '; '.join([*said, *filter(None, [told(left_out)])])


def told(left_out: collections.Counter) -> str:
  """Returns such as '3 file(s) without the suffix of an image are left out: 2 .txt, 1 .md'."""
  if not left_out:
    return ''
  kinds = ', '.join(f'{count} {suffix}' for suffix, count in left_out.most_common(8))
  return (f'{left_out.total()} file(s) without the suffix of an image are left out: {kinds}'
          + ', ...' * (len(left_out) > 8))


_TOLD = set()


def tell(line: str) -> None:
  """Prints a line on stderr, once in a process."""
  if line not in _TOLD:
    _TOLD.add(line)
    print(line, file=sys.stderr, flush=True)


def shown(name: str) -> str:
  """Returns a file's name as text that UTF-8 can write: bytes that are none stand with an escape.

  The same whatever the locale, so that classes keep their names.
  """
  try:
    return os.fsencode(name).decode('utf-8', 'backslashreplace')
  except UnicodeEncodeError:
    return name.encode('utf-8', 'backslashreplace').decode()


def some(names: Iterable[str], most: int = 8) -> str:
  """Returns names in a row; of many the first ones."""
  names = [shown(name) for name in names]
  return ', '.join(names[:most]) + (f', and {len(names) - most} more' if len(names) > most else '')
