"""Checks a folder of images and label PNGs and lists all its problems at once."""

import concurrent.futures
import functools
from collections.abc import Sequence

import numpy as np

from detr_jax.data.sources import label_maps
from detr_jax.data.sources.label_maps import IGNORED, LabelExample, LabelMaps, holds
from vit_jax.data import images, listing
from vit_jax.errors import UserError

__all__ = ['check', 'holds']


def check(paths: Sequence[str], fast: bool = False, ignore: tuple[int, ...] = (),
          zero_ignored: bool = False, **_) -> int:
  """Prints the problems and the facts of folders, and returns the number of errors.

  Args:
    paths: the folders.
    fast: open no image.
    ignore, zero_ignored: as in `config.data`.
  """
  count = 0
  for root in paths:
    source = LabelMaps(root, zero_ignored, ignore)
    for split in label_maps.splits(root):
      pairs, lonely = source.partners(split)
      problems = [f'{path} has no labels' for path in lonely]
      totals = np.zeros(IGNORED + 1, np.int64)
      if not fast:
        with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
          for found in pool.map(functools.partial(_examine, source), pairs):
            if isinstance(found, str):
              problems.append(found)
            else:
              totals += found
      print(f'{root}: {split}')
      for problem in _together(problems):
        print(f'  error: {listing.shown(problem)}')
      print(''.join(f'  {line}\n' for line in _summary(source, len(pairs), totals, fast)), end='')
      count += len(problems)
  return count


def _together(problems: Sequence[str]) -> list[str]:
  """Returns each kind of problem once, with how many more files have it; a file's path comes first."""
  kinds = {}
  for problem in problems:
    kinds.setdefault(problem.partition(' ')[2], []).append(problem)
  return [found[0] + f' ({len(found)} files)' * (len(found) > 1) for found in kinds.values()]


def _examine(source: LabelMaps, pair: tuple[str, str]) -> np.ndarray | str:
  """Returns the pixels of each label of a pair, int64 `[256]`, or what is wrong with it."""
  path, label = pair
  try:
    image = images.decode(images.read_file(path), 3, path)
    found = LabelExample(b'', path, 0, label, source).labels((image.height, image.width))
    return np.bincount(found.reshape(-1), minlength=IGNORED + 1)
  except UserError as error:
    return str(error)


def _summary(source: LabelMaps, count: int, totals: np.ndarray, fast: bool) -> list[str]:
  lines = [f'{count:,} images with labels']
  if fast or not totals.sum():
    return lines
  share = totals / totals.sum()
  lines.append('share of pixels: ' + ', '.join(
      f'{name} {share[k]:.2%}' for k, name in enumerate(source.classes))
               + f', ignored {share[IGNORED]:.2%}')
  return lines + [f'note: {note}' for note in notes(source.classes, totals)]


def notes(classes: Sequence[str], totals: np.ndarray) -> list[str]:
  """Returns what is odd about the pixels of each label, int `[256]`, of all maps of a split."""
  empty = [name for k, name in enumerate(classes) if not totals[k]]
  if not empty:
    return []
  out = [f'no pixel is of {", ".join(empty)}']
  if totals[IGNORED] and np.count_nonzero(totals[:len(classes)]) <= 1:
    out.append('the maps hold one id and 255 alone, and 255 counts nowhere; where it is meant to be a '
               'class, write classes.txt as RED GREEN BLUE NAME: "0 0 0 ground", "255 255 255 thing"')
  return out


LOOKED_AT = 256  # label maps that are read before a run starts


def look(split, name: str, classes: Sequence[str], on_error: str) -> list[str]:
  """Reads the first label maps of a split before a run starts; returns notes where these are all.

  Args:
    split: a `LabelSplit`.
    name: of it, for the error.
    classes: names.
    on_error: 'raise', or 'skip' what is wrong.

  Raises:
    UserError: for a map that is damaged, of another size than its image or with an unknown id, and
      where no pixel of the maps counts.
  """
  def counts(i):
    try:
      example = split.read(i)
      labels = example.labels(tuple(split.sizes[i]))
    except UserError:
      if on_error == 'raise':
        raise
      return 0
    return np.bincount(labels.reshape(-1), minlength=IGNORED + 1)

  number = min(len(split), LOOKED_AT)
  with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
    totals = sum(pool.map(counts, range(number)), np.zeros(IGNORED + 1, np.int64))
  if not totals[:IGNORED].any():
    raise UserError(f'no pixel of the first {number} label maps of {name!r} counts: all are ignored; '
                    'see data.ignore and data.zero_ignored, and python -m vit_jax.data --check FOLDER')
  return notes(classes, totals) if number == len(split) else []
