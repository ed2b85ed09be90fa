"""COCO's JSON with folders of images: detection, instance and panoptic segmentation."""

import dataclasses
import functools
import glob
import os
from collections.abc import Callable, Sequence

import numpy as np

from detr_jax.data.sources import annotations as files
from detr_jax.data.sources import segmentation
from detr_jax.data.sources.base import (
    Categories, DetectionExample, DetectionSplit, coco_annotations, say)
from vit_jax.data import images
from vit_jax.data.sources.base import chosen, parse_split
from vit_jax.errors import UserError

BOXES, PANOPTIC = 'annotations/instances_{}.json', 'annotations/panoptic_{}.json'
PLAIN = (BOXES, '{}/_annotations.coco.json', PANOPTIC)  # names that tell what it is
ANY = ('annotations/{}.json', '{}.json', '{}/annotations.json')
FOLDERS = ('{}', 'images/{}', '{}/images', 'images', '')
PNGS = ('panoptic_{}', 'annotations/panoptic_{}')


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a split lies: its JSON, the folders its images may be in, and that of its panoptic PNGs.

  `instances` is where the instance annotations of panoptic ones would be; '' for none.
  """
  json: str
  folders: tuple[str, ...]
  pngs: tuple[str, ...] = ()
  instances: str = ''


def find(root: str, split: str, panoptic: bool) -> Place:
  """Finds a split by the names that are usual.

  Args:
    root: folder of the data set.
    split: its name, as 'train' or 'val2017', or 'FILE.json:IMAGES', 'FILE.json:IMAGES:PNGS' or
      'FILE.json:IMAGES:PNGS:INSTANCES.json', from the root.
    panoptic: whether the panoptic annotations are wanted.

  Raises:
    UserError: when there are no such annotations.
  """
  path = functools.partial(os.path.join, root)
  if '.json' in split:
    name, *more = split.split(':')
    usual = place(root, path(name), os.path.basename(name)[:-5])
    images, pngs, instances = (tuple(map(path, more[n:n + 1])) for n in range(3))
    for file in instances:
      if not os.path.isfile(file):
        raise UserError(f'the instance annotations {file} of the split {split!r} are missing')
    return Place(path(name), images or usual.folders, pngs or usual.pngs,
                 *instances or (usual.instances,))
  tried = [path(pattern.format(split)) for pattern in (
      (PANOPTIC,) if panoptic else (BOXES, PLAIN[1], *ANY))]
  found = next((file for file in tried if os.path.isfile(file)), None)
  if not found:
    there = sorted(os.path.relpath(file, root) for pattern in ('*.json', '*/*.json')
                   for file in glob.glob(path(pattern)))
    raise UserError(f'{root} has no {"panoptic " * panoptic}annotations of the split {split!r}: '
                    f'expected {tried[0]}, or another usual name, or FILE.json:IMAGES as the split; it '
                    f'holds {", ".join(there[:8]) or "no JSON"}')
  return place(root, found, split)


def place(root: str, json: str, split: str) -> Place:
  """Returns a split whose folders may have any usual name, below `root` or where the JSON lies."""
  split = split.removeprefix('instances_').removeprefix('panoptic_')
  own, name = os.path.split(json)
  beside = name.startswith('panoptic_') and os.path.join(own, name.replace('panoptic', 'instances', 1))
  bases = dict.fromkeys((root, own, os.path.dirname(own)))
  usual = lambda patterns: tuple(os.path.join(base, p.format(split)) for base in bases for p in patterns)
  return Place(json, usual(FOLDERS), usual(PNGS), beside or '')


class Coco:
  """A folder with COCO's JSON; the categories are those of the training split."""

  def __init__(self, root: str, train: str, panoptic: bool = False, masks: bool = False,
               id_slots: int = 0, on_error: str = 'raise'):
    """Reads the annotations of the training split.

    Args:
      root: folder of the data set.
      train: the training split.
      panoptic: whether to read panoptic annotations: things and stuff, as masks.
      masks: whether masks are wanted.
      id_slots: see `Categories.with_slots`.
      on_error: 'raise', or 'skip' annotations that are wrong.

    Raises:
      UserError: for what is missing or wrong.
    """
    self.name = root
    self._masks, self._panoptic, self._on_error = masks, panoptic, on_error
    self._files = {}
    self._own = self._open(parse_split(train)[0].name)[0].categories
    self.categories = self._own.with_slots(id_slots)

  def _open(self, split: str) -> tuple[files.File, str, str]:
    """Returns (annotations, folder of images, folder of PNGs) of a whole split, checked."""
    if split in self._files:
      return self._files[split]
    where = find(self.name, split, self._panoptic)
    file = files.load(where.json, self._masks)
    folder = image_folder(where.folders, file.file_names)
    pngs = image_folder(where.pngs, file.pictures or [])
    self._heed(file, [*file.problems, *missing(file, folder, pngs)])
    self._files[split] = file, folder, pngs
    return self._files[split]

  def _heed(self, file: files.File, problems: Sequence[files.Problem]) -> None:
    """Raises UserError for the first error, or tells of what is left out, as `on_error` wants."""
    if self._on_error == 'raise' and any(p.error for p in problems):
      first = next(p for p in problems if p.error)
      raise UserError(f'{file.path}: {first.text}{files.more(problems)}')
    errors = sum(p.error for p in problems)
    notes = [p for p in problems if not p.error and 'crowd' not in p.text]
    if errors:
      say(f'skipped: {errors} error(s) of {file.path}, the first: '
          f'{next(p for p in problems if p.error).text}')
    if notes:
      say(f'{file.path}: {notes[0].text}' + f' (and {len(notes) - 1} more)' * (len(notes) > 1))

  def split(self, name: str) -> DetectionSplit:
    """Returns a split, such as 'val+test'; UserError for other categories than the training split's."""
    parts = parse_split(name)
    opened = [self._open(part.name) for part in parts]
    for file, *_ in opened:
      check_categories(file, self._own)
    lengths = [len(file.file_names) for file, *_ in opened]
    where = [(of, i) for of, length in enumerate(lengths) for i in range(length)]
    index = chosen(list(zip(lengths, parts)))
    rows = [where[i] for i in index]
    paths = [find(self.name, part.name, self._panoptic).instances for part in parts]
    instances = functools.partial(self._instances, paths, [file for file, *_ in opened], rows)
    return _Rows(opened, rows, self.categories, self._masks).split(
        instances if all(map(os.path.isfile, paths)) else None)

  def _instances(self, paths: Sequence[str], panoptic: Sequence[files.File],
                 rows: Sequence[tuple[int, int]]) -> dict:
    """Returns the truth of chosen rows of panoptic files, from the instance annotations of each."""
    found = []
    for path, whole in zip(paths, panoptic):
      file = files.load(path, self._masks)
      self._heed(file, file.problems)
      check_instances(file, whole)
      found.append(file)
    order = [{number: i for i, number in enumerate(file.image_ids.tolist())} for file in found]
    rows = [(of, order[of][int(panoptic[of].image_ids[i])]) for of, i in rows]
    return _Rows([(file, '', '') for file in found], rows, self._own.things(), self._masks).truth()


def check_categories(file: files.File, own: Categories) -> None:
  """Raises UserError where a split has other categories than training has."""
  _check_same('categories', _names(file.categories), _names(own), file.path, 'the training split')


def check_instances(file: files.File, panoptic: files.File) -> None:
  """Raises UserError where instance annotations do not fit the panoptic ones of the same images.

  They have the same images, no category but things, by the same names, and masks where these are kept.
  """
  sizes = lambda f: {n: f'{w}x{h}' for n, (h, w) in zip(f.image_ids.tolist(), f.sizes.tolist())}
  _check_same('images', sizes(file), sizes(panoptic), file.path, panoptic.path)
  theirs, things = _names(file.categories), _names(panoptic.categories.things())
  shared = {number: things[number] for number in theirs if number in things}
  _check_same('categories', theirs, shared, file.path, f'the things of {panoptic.path}')
  bare = file.unmasked() if file.segmentations else ()
  if bare:
    raise UserError(f'{file.path}: annotation {bare[0]} has no mask (segmentation) to count '
                    'AP of masks against; write masks into it, or move the file away')


def _names(categories: Categories) -> dict[int, str]:
  return {number: repr(name) for number, name in zip(categories.ids, categories.names)}


def _check_same(kind: str, theirs: dict, ours: dict, path: str, than: str) -> None:
  """Raises UserError, which names the first of the numbers that stand for something else."""
  number = next((i for i in sorted({*theirs, *ours}) if theirs.get(i) != ours.get(i)), None)
  if number is not None:
    raise UserError(f'{path} has other {kind} than {than}: {number} is {theirs.get(number, "not")} here '
                    f'and {ours.get(number, "not")} there; write the same list into both')


def image_folder(folders: Sequence[str], names: Sequence[str]) -> str:
  """Returns the folder that holds most of the first images; the first one, where none does."""
  some = names[:20]
  return max(folders, key=lambda folder: len(some) - len(files.missing_files(folder, some)), default='')


def missing(file: files.File, folder: str, pngs: str) -> list[files.Problem]:
  """Returns a problem for each image file and panoptic picture that is not there."""
  number = dict(zip(file.file_names, file.image_ids))
  out = [files.Problem(f'the file of image {number[name]}, {name}, is not in {folder}')
         for name in files.missing_files(folder, file.file_names)]
  if file.pictures is not None:
    out += [files.Problem(f'image {i} ({name}) has no panoptic annotation')
            for i, name, png in zip(file.image_ids, file.file_names, file.pictures) if not png]
    out += [files.Problem(f'the panoptic picture {name} is not in {pngs}')
            for name in files.missing_files(pngs, [name for name in file.pictures if name])]
  return out


class _Rows:
  """The images of a split, of one file or several."""

  def __init__(self, opened, rows: Sequence[tuple[int, int]], categories: Categories, masks: bool):
    self._opened, self._rows, self._categories, self._masks = opened, rows, categories, masks
    pick = lambda key: [getattr(opened[of][0], key)[i] for of, i in rows]
    self._names, self._sizes = pick('file_names'), pick('sizes')
    self._ids = np.asarray(pick('image_ids'), np.int64)
    if len(set(self._ids.tolist())) < len(rows):  # files that are numbered alike
      offset = np.cumsum([0, *(file.image_ids.max(initial=0) + 1 for file, *_ in opened)])
      self._ids = self._ids + offset[[of for of, _ in rows]]

  def split(self, instances: Callable[[], dict] | None) -> DetectionSplit:
    """Returns the split; `instances`: see there."""
    parts = map(self._annotations, range(len(self._rows)))
    counts = [file.is_target[part].sum() for file, part in parts]
    panoptic = self._segments if all(file.pictures for file, *_ in self._opened) else None
    return DetectionSplit(self._read, self._sizes, counts, self._ids, self.truth, self._has_masks(),
                          panoptic, instances if panoptic else None)

  def _annotations(self, i: int) -> tuple[files.File, slice]:
    of, image = self._rows[i]
    file = self._opened[of][0]
    return file, slice(file.starts[image], file.starts[image + 1])

  def _has_masks(self) -> bool:
    return all(file.pictures or file.segmentations and not file.unmasked() for file, *_ in self._opened)

  def _read(self, i: int) -> DetectionExample:
    of, image = self._rows[i]
    file, part = self._annotations(i)
    path = os.path.join(self._opened[of][1], file.file_names[image])
    labels = np.asarray([self._categories.labels[n] for n in file.category_ids[part]], np.int32)
    return DetectionExample(
        images.read_file(path), path, i, int(self._ids[i]), file.clipped(image, part), labels,
        file.is_crowd[part], tuple(int(n) for n in file.sizes[image]),
        functools.partial(self._mask, i) if self._masks else None)

  def _mask(self, i: int) -> np.ndarray:
    """Returns the masks of image i, bool `[n, height, width]`, in the order of its annotations."""
    of, image = self._rows[i]
    file, part = self._annotations(i)
    size = tuple(int(n) for n in file.sizes[image])
    if file.pictures:
      path = os.path.join(self._opened[of][2], file.pictures[image])
      found = segmentation.panoptic_ids(images.read_file(path), size, path)
      return segmentation.panoptic_masks(found, file.ids[part], path)
    out = np.zeros((part.stop - part.start, *size), bool)
    for mask, entry, number in zip(out, file.segmentations[part], file.ids[part]):
      if entry:  # only a crowd may lack one
        mask[...] = segmentation.mask(entry, size, f'{file.path}: annotation {number} of image '
                                      f'{file.image_ids[image]} ({file.file_names[image]})')
    return out

  def _segments(self, i: int) -> tuple[np.ndarray, list[dict]]:
    of, image = self._rows[i]
    file, part = self._annotations(i)
    size = tuple(int(n) for n in file.sizes[image])
    path = os.path.join(self._opened[of][2], file.pictures[image])
    found = [dict(id=int(number), category_id=int(category), iscrowd=int(crowd), area=float(area))
             for number, category, crowd, area in zip(file.ids[part], file.category_ids[part],
                                                      file.is_crowd[part], file.areas[part])]
    return segmentation.panoptic_ids(images.read_file(path), size, path), found

  def truth(self) -> dict:
    """Returns the annotations of the split, see `DetectionSplit.annotations`."""
    objects = []
    for i, number in enumerate(self._ids):
      file, part = self._annotations(i)
      for k in range(part.start, part.stop):
        entry = dict(image_id=int(number), category_id=int(file.category_ids[k]),
                     bbox=file.boxes[k].tolist(), area=float(file.areas[k]),
                     iscrowd=int(file.is_crowd[k]))
        if file.segmentations and file.segmentations[k]:
          entry['segmentation'] = file.segmentations[k]
        objects.append(entry)
    return coco_annotations(self._categories, self._sizes, self._ids, self._names, objects)
