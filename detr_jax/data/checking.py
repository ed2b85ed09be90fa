"""Checks detection data and lists all its problems at once.

    python -m vit_jax.data --check FOLDER
    python -m vit_jax.data --check FOLDER/annotations/instances_train.json:FOLDER/train

Reads every annotation, and every image unless --fast. A folder is searched for COCO's JSON, detection
and panoptic, by its usual names. Errors would stop a training run, notes are for your information.
Exit code 2 if there is an error.
"""

import concurrent.futures
import glob
import os
from collections.abc import Iterator, Sequence

import numpy as np

from detr_jax.data.sources import annotations, coco, segmentation
from detr_jax.data.sources import exif as turns
from detr_jax.data.sources.annotations import File, Problem
from detr_jax.data.sources.base import DetectionExample
from vit_jax.data import images
from vit_jax.errors import UserError

SMALL, MEDIUM = 32 ** 2, 96 ** 2  # areas that divide COCO's small, medium and large objects


def places(name: str) -> list[coco.Place]:
  """Returns the splits that a folder or file stands for; UserError when there is none."""
  if '.json' in name:
    return [coco.find('', name, False)]
  for patterns in (coco.PLAIN, coco.ANY):  # any JSON only where none has a telling name
    found = {}
    for pattern in patterns:
      before, after = os.path.join(name, pattern).split('{}')
      for path in glob.glob(f'{glob.escape(before)}*{after}'):
        found[path] = coco.place(name, path, path[len(before):len(path) - len(after)])
    if found:
      return [found[path] for path in sorted(found)]
  if others := coco.other_places(name):
    return list(others.values())
  if lacks := coco.incomplete(name):
    raise UserError(lacks)
  raise UserError(f"{name} is no folder with COCO's JSON by a usual name, such as "
                  f'{coco.PLAIN[0].format("train")}, nor one of VOC or YOLO; name the file')


def examine(place: coco.Place, fast: bool, outside: str = 'error', exif: str = 'upright'
            ) -> tuple[coco.Opened, list[Problem]]:
  """Returns (a split, all problems of it); UserError for no JSON."""
  opened = coco.open_place(place, masks=not fast, outside=outside, labelled=False)
  file, problems = opened.file, list(opened.problems)
  if file.pictures and os.path.isfile(place.instances):
    try:
      coco.check_instances(annotations.load(place.instances, True, outside), file)
    except UserError as error:
      problems.append(Problem(str(error)))
  if not fast:
    if exif == 'upright':
      problems += turns.note(opened.images)
    with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
      look = lambda i: list(pixel_problems(opened, i, exif == 'stored'))
      for found in pool.map(look, range(len(file.file_names))):
        problems += found
  empty = int((np.diff(file.starts) == 0).sum())
  if empty:
    problems.append(Problem(f'{empty} image(s) have no box, and are trained on as they are', False))
  return opened, problems


def pixel_problems(opened: coco.Opened, i: int, stored: bool) -> Iterator[Problem]:
  """Yields what is wrong with the pixels of image i and its segments; missing files are told before."""
  file, path = opened.file, opened.images[i]
  size, nothing = tuple(int(n) for n in file.sizes[i]), np.zeros(0, np.int32)
  try:
    if os.path.isfile(path):
      DetectionExample(images.read_file(path), path, i, file.image_ids[i], np.zeros((0, 4)), nothing,
                       nothing, size, stored=stored).image()
  except UserError as error:
    yield Problem(str(error))
  if opened.pictures:
    yield from _panoptic_problems(file, i, opened.pictures[i], size, stored)


def _panoptic_problems(file: File, i: int, path: str, size: tuple[int, int], stored: bool
                       ) -> Iterator[Problem]:
  if not os.path.isfile(path):
    return
  try:
    there = set(np.unique(segmentation.panoptic_ids(
        images.read_file(path), size, path, stored)).tolist()) - {0}
  except UserError as error:
    yield Problem(str(error))
    return
  told = set(file.ids[file.starts[i]:file.starts[i + 1]].tolist())
  for number in sorted(told - there):
    yield Problem(f'no pixel of {path} belongs to segment {number} of segments_info')
  for number in sorted(there - told):
    yield Problem(f'{path} has pixels of segment {number}, which is not in segments_info')


def summary(file: File) -> list[str]:
  """Returns lines on the images, boxes and classes of a file."""
  per_image, areas = np.diff(file.starts), file.boxes[:, 2] * file.boxes[:, 3]
  counts = [int((file.category_ids == number).sum()) for number in file.categories.ids]
  classes = ', '.join(f'{name} {count:,}' for name, count in zip(file.categories.names, counts))
  sizes = np.histogram(areas, [0, SMALL, MEDIUM, np.inf])[0]
  return [f'{len(file.image_ids):,} images, {len(areas):,} boxes ({int(file.is_crowd.sum())} crowds), '
          f'at most {per_image.max(initial=0)} in one; {sizes[0]:,} small, {sizes[1]:,} medium, '
          f'{sizes[2]:,} large', f'{len(counts)} classes: {classes}']


def holds(path: str) -> bool:
  """Tells whether a path names annotations, or a folder that has them, if only in part."""
  if os.path.isdir(path) and coco.incomplete(path):
    return True
  try:
    return bool(places(path))
  except UserError:
    return False


def check(paths: Sequence[str], fast: bool = False, outside: str = 'error', exif: str = 'upright',
          **_) -> int:
  """Prints the problems and the facts of annotations, and returns the number of errors.

  Args:
    paths: folders, FILE.json, FILE.json:IMAGES or FILE.json:IMAGES:PNGS[:INSTANCES.json].
    fast: open no image.
    outside, exif: as in `config.data`.

  Raises:
    UserError: for a folder without annotations.
  """
  count, firsts = 0, {}  # of each kind: instance files lack the stuff
  for place in (place for name in paths for place in places(name)):
    try:
      opened, problems = examine(place, fast, outside, exif)
      file = opened.file
      print(f'{place.json} with the images of {opened.folder}')
      lines = summary(file)
      first = firsts.setdefault(bool(file.pictures), file)
      if (first.categories.ids, first.categories.names) != (file.categories.ids, file.categories.names):
        problems.append(Problem(f'it has other categories than {first.path}'))
    except UserError as error:
      print(place.json)
      problems, lines = [Problem(str(error))], []
    for problem in sorted(problems, key=lambda p: not p.error):
      print(f'  {"error" if problem.error else "note"}: {problem.text}')
    print(''.join(f'  {line}\n' for line in lines), end='')
    count += sum(problem.error for problem in problems)
  return count
