"""Finds the files that annotations name, on whatever system the annotations were written."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from detr_jax.data.sources.values import readable

SAMPLE = 20  # names that tell which of several folders is meant
LARGEST = 200_000  # files that are looked through for a hint


def alike(name: str) -> str:
  """Returns what names have in common that differ in case, in Unicode's form or in encoding."""
  return unicodedata.normalize('NFC', readable(name)).casefold()


class Folder:
  """A folder of files; each folder below it is listed once."""

  def __init__(self, root: str):
    self.root, self._listings, self._stems = root, {}, None

  def _listing(self, place: str) -> tuple[set[str], dict[str, str]]:
    """Returns (names, {what they are alike: name, '' for several}) in a folder."""
    if place not in self._listings:
      names, similar = set(os.listdir(place)) if os.path.isdir(place) else set(), {}
      for name in names:
        similar[alike(name)] = '' if alike(name) in similar else name
      self._listings[place] = names, similar
    return self._listings[place]

  def has(self, name: str) -> bool:
    """Tells whether there is a file of exactly this name, which may lie in a folder below."""
    place, base = os.path.split(os.path.join(self.root, name))
    return base in self._listing(place)[0]

  def near(self, name: str) -> str:
    """Returns the file whose name is nearly this one; '' where there is none.

    Backslashes count as slashes, leading folders may be missing here, and each part may differ in
    case, in Unicode's form or in encoding.
    """
    parts = [part for part in re.split(r'[\\/]+', name) if part not in ('', '.')]
    for first in range(len(parts)):
      found = ''
      for part in parts[first:]:
        names, similar = self._listing(os.path.join(self.root, found))
        step = part if part in names else similar.get(alike(part), '')
        if not step:
          break
        found = os.path.join(found, step)
      else:
        return found
    return ''

  def hint(self, name: str) -> str:
    """Returns a file with the same name before the suffix, for a message; '' where none is.

    It lies in the folder or below, or, where there is no such folder, below what there is of its path.
    """
    if self._stems is None:
      self._stems, seen, start = {}, 0, self.root
      while start and not os.path.isdir(start):
        start = os.path.dirname(start)
      for place, _, names in os.walk(start or '.'):
        seen += len(names)
        if seen > LARGEST:
          break
        for file in names:
          self._stems.setdefault(_stem(file), os.path.relpath(os.path.join(place, file), self.root))
    return self._stems.get(_stem(name), '')


def _stem(name: str) -> str:
  return alike(os.path.splitext(re.split(r'[\\/]', name)[-1])[0])


def best_folder(folders: Sequence[str], names: Sequence[str]) -> Folder:
  """Returns the folder that holds most of the first files, their own names before near ones."""
  def held(folder: Folder) -> tuple[int, int]:
    exact = sum(map(folder.has, names[:SAMPLE]))
    return exact + sum(bool(folder.near(n)) for n in names[:SAMPLE] if not folder.has(n)), exact
  return max(map(Folder, folders or ('',)), key=held)


def locate(folder: Folder, names: Sequence[str]) -> list[str]:
  """Returns the files of names: itself, the near one where no other name stands for it, or ''."""
  found = [name if folder.has(name) else folder.near(name) for name in names]
  taken = Counter(dict(zip(names, found)).values())
  return [file if file == name or taken[file] == 1 else '' for file, name in zip(found, names)]
