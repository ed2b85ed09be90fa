"""A folder of class folders: ROOT/train/CLASS/*.jpg and ROOT/test/CLASS/*.jpg."""

import os

from vit_jax.data import images, listing
from vit_jax.data.sources.base import Example, Split, chosen, parse_split
from vit_jax.data.sources.shards import record_files
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
    self._folders = sorted({c for part in self._parts(train) for c in self._class_folders(part.name)})
    self.classes = tuple(map(listing.shown, self._folders))

  def _parts(self, split: str) -> list:
    return parse_split(split, lambda name: bool(name) and os.path.isdir(os.path.join(self.name, name)))

  def _class_folders(self, split: str) -> list[str]:
    folder = os.path.join(self.name, split)
    if not os.path.isdir(folder):
      raise UserError(
          f'{self.name} has no folder {split!r} for that split; it holds '
          f'{listing.some(listing.folders_in(self.name)) or "no folders"}. Expected '
          f'{os.path.join(folder, "CLASS", "*.jpg")}, or set data.train and data.test, e.g. to '
          "'[:90%]' and '[90%:]' where the classes lie directly in it")
    names = listing.folders_in(folder)
    if not names:
      records = record_files(folder)
      raise UserError(f'{folder} holds no class folders; expected '
                      + os.path.join(folder, 'CLASS', '*.jpg')
                      + (f'; it holds record files ({records[0]}): put those of all splits into one '
                         'folder, named after their splits' if records else ''))
    return names

  def split(self, name: str) -> Split:
    """Returns a split by its name, such as 'train' or 'train[:90%]'.

    Raises:
      UserError: for a class that training lacks, or no image at all.
    """
    parts = self._parts(name)
    found = [self._files(part.name) for part in parts]
    files = [entry for entries in found for entry in entries]
    index = chosen([(len(entries), part) for entries, part in zip(found, parts)])

    def read(i: int) -> Example:
      path, label = files[index[i]]
      return Example(images.read_file(path), (label,), path)

    return Split([len(index)], read)

  def _files(self, name: str) -> list[tuple[str, int]]:
    """Returns (path, label) of every image of a whole split, by class; tells what is left out."""
    place, there = os.path.join(self.name, name), self._class_folders(name)
    extra = [c for c in there if c not in self._folders]
    if extra:
      raise UserError(f'the split {name!r} of {self.name} has {len(extra)} class(es) that training '
                      f'lacks: {listing.some(extra)}; move or rename the folder(s)')
    found = {folder: listing.images_below(os.path.join(place, folder)) for folder in there}
    files = [(file, label) for label, folder in enumerate(self._folders) if folder in found
             for file in found[folder].files]
    notes = listing.notes(place, found)
    if not files:
      raise UserError(f'{place} holds no images with a suffix among {" ".join(listing.SUFFIXES)}'
                      + f': {notes}' * bool(notes))
    if notes:
      listing.tell(f'{place}: {notes}')
    return files
