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
  empty = [name for k, name in enumerate(source.classes) if not totals[k]]
  return lines + ([f'note: no pixel is of {", ".join(empty)}'] if empty else [])
