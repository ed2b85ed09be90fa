"""A folder of class folders: ROOT/train/CLASS/*.jpg and ROOT/test/CLASS/*.jpg."""

import os

from vit_jax.data import images
from vit_jax.data.sources.base import Example, Split, chosen, parse_split
from vit_jax.errors import UserError


class Folder:
  """Images of any size and suffix in class folders; the classes are those of the training split."""

  def __init__(self, root: str, train: str = 'train', channels: int = 3):
    """Lists the classes.

    Args:
      root: holds a folder for each split; or the class folders themselves, with splits such as
        '[:90%]' and '[90%:]'.
      train: the training split.
      channels: 3 for RGB, 1 for grayscale.

    Raises:
      UserError: for a missing, empty or classless folder.
    """
    self.name, self.channels = root, channels
    self.classes = tuple(sorted({c for part in parse_split(train)
                                 for c in self._class_folders(part.name)}))

  def _class_folders(self, split: str) -> list[str]:
    folder = os.path.join(self.name, split)
    if not os.path.isdir(folder):
      there = sorted(e.name for e in os.scandir(self.name) if e.is_dir())
      raise UserError(
          f'{self.name} has no folder {split!r} for that split; it holds '
          f'{", ".join(there[:8]) or "no folders"}. Expected {os.path.join(folder, "CLASS", "*.jpg")}'
          ", or set data.train and data.test, e.g. to '[:90%]' and '[90%:]' where the classes lie "
          'directly in it')
    names = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith('.'))
    if not names:
      raise UserError(f'{folder} holds no class folders; expected '
                      f'{os.path.join(folder, "CLASS", "*.jpg")}')
    return names

  def split(self, name: str) -> Split:
    """Returns a split by its name, such as 'train' or 'train[:90%]'.

    Raises:
      UserError: for a class that training lacks, or no image at all.
    """
    parts = parse_split(name)
    found = [self._files(part.name) for part in parts]
    files = [entry for entries in found for entry in entries]
    index = chosen([(len(entries), part) for entries, part in zip(found, parts)])

    def read(i: int) -> Example:
      path, label = files[index[i]]
      return Example(images.read_file(path), (label,), path)

    return Split([len(index)], read)

  def _files(self, name: str) -> list[tuple[str, int]]:
    """Returns (path, label) of every image of a whole split, by class."""
    extra = [c for c in self._class_folders(name) if c not in self.classes]
    if extra:
      raise UserError(f'the split {name!r} of {self.name} has {len(extra)} class(es) that training '
                      f'lacks: {", ".join(extra[:8])}; move or rename the folder(s)')
    files = []
    for label, folder in enumerate(self.classes):
      path = os.path.join(self.name, name, folder)
      files += [(file, label) for file in sorted(_image_files(path))] if os.path.isdir(path) else []
    if not files:
      raise UserError(f'{os.path.join(self.name, name)} holds no images with a suffix among '
                      f'{" ".join(images.SUFFIXES)}')
    return files


def _image_files(folder: str) -> list[str]:
  """Returns the image files in a folder, by suffix in upper or lower case."""
  return [e.path for e in os.scandir(folder)
          if e.is_file() and e.name.lower().endswith(images.SUFFIXES) and not e.name.startswith('.')]
