"""Annotations with folders of images: COCO's JSON, and through it VOC's XML and YOLO's text."""

import dataclasses
import functools
import glob
import itertools
import os
from collections.abc import Callable, Sequence

import numpy as np

from detr_jax.data.sources import annotations as files
from detr_jax.data.sources import exif, segmentation, voc, yolo
from detr_jax.data.sources.base import (
    Categories, DetectionExample, DetectionSplit, coco_annotations, say)
from detr_jax.data.sources.lookup import Folder, best_folder, locate
from detr_jax.data.sources.values import LIMIT
from vit_jax.data import images
from vit_jax.data.sources.base import Part, chosen, parse_split
from vit_jax.errors import UserError

BOXES, PANOPTIC = 'annotations/instances_{}.json', 'annotations/panoptic_{}.json'
PLAIN = (BOXES, '{}/_annotations.coco.json', PANOPTIC)  # names that tell what it is
ANY = ('annotations/{}.json', '{}.json', '{}/annotations.json')
FOLDERS = ('{}', 'images/{}', '{}/images', 'images', '')
PNGS = ('panoptic_{}', 'annotations/panoptic_{}')


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a split lies: its JSON, the folders its images may be in, and that of its panoptic PNGs.

  `instances` is where the instance annotations of panoptic ones would be; '' for none. `read` gives the
  content of another format than COCO's, of which `json` is what lists the images.
  """
  json: str
  folders: tuple[str, ...]
  pngs: tuple[str, ...] = ()
  instances: str = ''
  read: Callable | None = None


def other_places(root: str) -> dict[str, Place]:
  """Returns {split: place} of a folder in the form of VOC or YOLO; {} of another."""
  for form, folder in ((yolo, lambda split: root), (voc, lambda split: voc.image_folder(root, split))):
    if found := form.splits(root):
      return {split: Place(path, (folder(split),), read=functools.partial(form.read, root, split))
              for split, path in found.items()}
  return {}


def incomplete(root: str) -> str:
  """Returns what a folder that looks like YOLO's or VOC's lacks; '' for any other."""
  there = lambda *parts: os.path.isdir(os.path.join(root, *parts))
  if there('labels') and not yolo.description(root):
    return (f'{root} has labels/ but no data.yaml; write one with names: [CLASS, ...], '
            'train: images/train and val: images/val')
  if (path := yolo.description(root)) and not yolo.splits(root):
    return (f'{path} names no images; add train: images/train and val: images/val, folders of images '
            'or lists of them')
  if there('Annotations') and not there(*voc.LISTS.split('/')):
    return (f'{root} has Annotations/ but no {voc.LISTS}/; write {voc.LISTS}/train.txt and val.txt with '
            'the name of an image a line, without suffix')
  return ''


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
  others = {} if found or panoptic else other_places(root)
  if split in others:
    return others[split]
  if others:
    raise UserError(f'{root} has no split {split!r}; it has {", ".join(others)}')
  if not found:
    there = sorted(os.path.relpath(file, root) for pattern in ('*.json', '*/*.json')
                   for file in glob.glob(path(pattern)))
    raise UserError(f'{root} has no {"panoptic " * panoptic}annotations of the split {split!r}: '
                    f'expected {tried[0]}, or another usual name, or FILE.json:IMAGES as the split; it '
                    f'holds {", ".join(there[:8]) or "no JSON"}')
  return place(root, found, split)


def split_parts(root: str, split: str, panoptic: bool) -> list[Part]:
  """Returns the parts of a split; names that exist may hold '+' and brackets, see `parse_split`."""
  def exists(name):
    try:
      return os.path.exists(find(root, name, panoptic).json)
    except UserError:
      return False
  return parse_split(split, exists)


def place(root: str, json: str, split: str) -> Place:
  """Returns a split whose folders may have any usual name, below `root` or where the JSON lies."""
  split = split.removeprefix('instances_').removeprefix('panoptic_')
  own, name = os.path.split(json)
  beside = name.startswith('panoptic_') and os.path.join(own, name.replace('panoptic', 'instances', 1))
  bases = dict.fromkeys((root, own, os.path.dirname(own)))
  usual = lambda patterns: tuple(os.path.join(base, p.format(split)) for base in bases for p in patterns)
  return Place(json, usual(FOLDERS), usual(PNGS), beside or '')


@dataclasses.dataclass(frozen=True)
class Opened:
  """A whole split: its annotations, and where its n images, and panoptic PNGs, lie.

  Attributes:
    file: the annotations.
    folder: of the images.
    images, pictures: paths; a file that is missing has the path where it was expected.
    problems: of the annotations and of the files.
  """
  file: files.File
  folder: str
  images: list[str]
  pictures: list[str]
  problems: list[files.Problem]


def open_place(where: Place, masks: bool, outside: str = 'error', labelled: bool = True) -> Opened:
  """Reads the annotations of a split and finds its files; see `annotations.load`.

  Raises:
    UserError: when the annotations cannot be read at all.
  """
  file = files.load(where.json, masks, outside, labelled, where.read)
  folder = best_folder(where.folders, file.file_names)
  pngs = best_folder(where.pngs, file.pictures or ())
  images, problems = _paths(folder, file.file_names, 'the file of image {}, {}, is not in {}', file)
  pictures = []
  if file.pictures is not None:
    pictures, more = _paths(pngs, file.pictures, 'image {}: the panoptic picture {} is not in {}', file)
    problems += more
  return Opened(file, folder.root, images, pictures, [*file.problems, *problems])


def _paths(folder: Folder, names: Sequence[str], said: str, file: files.File
           ) -> tuple[list[str], list[files.Problem]]:
  """Returns the path of each file, and what is told of those that are missing or have other names."""
  found, problems, near = locate(folder, names), [], []
  for number, name, there in zip(file.image_ids.tolist(), names, found):
    if not name:
      problems.append(files.Problem(f'image {number} has no panoptic annotation'))
    elif not there:
      hint = folder.hint(name)
      text = said.format(number, name, folder.root)
      problems.append(files.Problem(text + f'; there is {hint}' * bool(hint)))
    elif there != name:
      near.append(f'{there} for {name}')
  if near:
    problems.append(files.Problem(f'{len(near)} file(s) of {folder.root} are read under a name that is '
                                  f'nearly theirs: {near[0]}', False, kind='near'))
  return [os.path.join(folder.root, there or name) for there, name in zip(found, names)], problems


class Coco:
  """A folder with COCO's JSON; the categories are those of the training split."""

  def __init__(self, root: str, train: str, panoptic: bool = False, masks: bool = False,
               id_slots: int = 0, on_error: str = 'raise', outside: str = 'error', exif: str = 'upright',
               segments: str = 'annotated'):
    """Reads the annotations of the training split.

    Args:
      root: folder of the data set.
      train: the training split.
      panoptic: whether to read panoptic annotations: things and stuff, as masks.
      masks: whether masks are wanted.
      id_slots: see `Categories.with_slots`.
      on_error: 'raise', or 'skip' annotations that are wrong.
      outside: 'error', or 'clip' for boxes that reach far out of their image.
      exif: whether boxes were drawn on the 'upright' image, or on the pixels as they are 'stored'.
      segments: see `detr_jax.data.config.detection_data`.

    Raises:
      UserError: for what is missing or wrong.
    """
    self.name = root
    self._masks, self._panoptic, self._on_error = masks, panoptic, on_error
    self._outside, self._exif, self._published = outside, exif, segments == 'published'
    self._files, self._train = {}, split_parts(root, train, panoptic)[0].name
    self._own = self._open(self._train).file.categories
    self.categories = self._own.with_slots(id_slots)

  def _open(self, split: str) -> Opened:
    """Returns a whole split, checked; read again where its file has changed."""
    where = find(self.name, split, self._panoptic)
    key = split, stamp(where.json)
    if key not in self._files:
      opened = open_place(where, self._masks, self._outside, split == self._train)
      if self._panoptic and opened.file.pictures is None and len(opened.file.ids):
        raise UserError(f'{where.json} has no segments_info: its annotations are not panoptic; name a '
                        'panoptic file, or set data.panoptic=false')
      notes = exif.note(opened.images, exif.SAMPLE) if self._exif == 'upright' else []
      self._heed(opened.file, [*opened.problems, *notes])
      self._files = {k: v for k, v in self._files.items() if k[0] != split} | {key: opened}
    return self._files[key]

  def _heed(self, file: files.File, problems: Sequence[files.Problem]) -> None:
    """Raises UserError for the first error, or tells of what is left out, as `on_error` wants."""
    if self._on_error == 'raise' and any(p.error for p in problems):
      first = next(p for p in problems if p.error)
      raise UserError(f'{file.path}: {first.text}{files.more(problems)}')
    errors = sum(p.error for p in problems)
    if errors:
      say(f'skipped: {errors} error(s) of {file.path}, the first: '
          f'{next(p for p in problems if p.error).text}')
    kinds = {}
    for problem in problems:
      if not problem.error and problem.kind != 'crowd':  # crowds are as they are meant to be
        kinds.setdefault(problem.kind, []).append(problem.text)
    for texts in kinds.values():
      say(f'{file.path}: {texts[0]}' + f' (and {len(texts) - 1} more)' * (len(texts) > 1))

  def split(self, name: str) -> DetectionSplit:
    """Returns a split, such as 'val+test'; UserError for other categories than the training split's."""
    parts = split_parts(self.name, name, self._panoptic)
    opened = [self._open(part.name) for part in parts]
    for one in opened:
      check_categories(one.file, self._own)
    lengths = [len(one.images) for one in opened]
    where = [(of, i) for of, length in enumerate(lengths) for i in range(length)]
    index = chosen(list(zip(lengths, parts)))
    rows = [where[i] for i in index]
    paths = [find(self.name, part.name, self._panoptic).instances for part in parts]
    instances = functools.partial(self._instances, paths, [one.file for one in opened], rows)
    return _Rows(opened, rows, self.categories, self._masks, self._exif == 'stored', self._published
                 ).split(instances if all(map(os.path.isfile, paths)) else None)

  def _instances(self, paths: Sequence[str], panoptic: Sequence[files.File],
                 rows: Sequence[tuple[int, int]]) -> dict:
    """Returns the truth of chosen rows of panoptic files, from the instance annotations of each."""
    found = []
    for path, whole in zip(paths, panoptic):
      file = files.load(path, self._masks, self._outside)
      self._heed(file, file.problems)
      check_instances(file, whole)
      found.append(Opened(file, '', [], [], []))
    order = [{number: i for i, number in enumerate(one.file.image_ids.tolist())} for one in found]
    ids = [file.image_ids.tolist() for file in panoptic]
    rows = [(of, order[of][ids[of][i]]) for of, i in rows]
    return _Rows(found, rows, self._own.things(), self._masks).truth()


def stamp(path: str) -> tuple[int, int] | None:
  """Returns what changes when a file is written anew: (time in nanoseconds, size); None without it."""
  try:
    found = os.stat(path)
  except OSError:
    return None
  return found.st_mtime_ns, found.st_size


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
  number = next((i for i in sorted({*theirs, *ours}, key=str) if theirs.get(i) != ours.get(i)), None)
  if number is not None:
    raise UserError(f'{path} has other {kind} than {than}: {number} is {theirs.get(number, "not")} here '
                    f'and {ours.get(number, "not")} there; write the same list into both')


class _Rows:
  """The images of a split, of one file or several."""

  def __init__(self, opened: Sequence[Opened], rows: Sequence[tuple[int, int]], categories: Categories,
               masks: bool, stored: bool = False, published: bool = False):
    self._opened, self._rows, self._categories, self._masks = opened, rows, categories, masks
    self._stored, self._published = stored, published
    self._panoptic = all(one.file.pictures is not None for one in opened)
    pick = lambda key: [getattr(opened[of].file, key)[i] for of, i in rows]
    self._names, self._sizes = pick('file_names'), pick('sizes')
    self._ids = _different([one.file.image_ids.tolist() for one in opened], rows)

  def split(self, instances: Callable[[], dict] | None) -> DetectionSplit:
    """Returns the split; `instances`: see there."""
    every = self._published and self._panoptic
    counts = [np.sum(every | file.has_area[part] & ~file.is_crowd[part])
              for file, part in map(self._annotations, range(len(self._rows)))]
    return DetectionSplit(
        self._read, self._sizes, counts, self._ids, self.truth, self._has_masks(),
        self._segments if self._panoptic else None, instances if self._panoptic else None)

  def _annotations(self, i: int) -> tuple[files.File, slice]:
    of, image = self._rows[i]
    file = self._opened[of].file
    return file, slice(file.starts[image], file.starts[image + 1])

  def _has_masks(self) -> bool:
    return all(one.file.pictures or one.file.segmentations and not one.file.unmasked()
               for one in self._opened)

  def _read(self, i: int) -> DetectionExample:
    of, image = self._rows[i]
    file, part = self._annotations(i)
    path = self._opened[of].images[image]
    if self._panoptic and not os.path.isfile(self._opened[of].pictures[image]):
      raise UserError(f'the image {path} has no panoptic picture {self._opened[of].pictures[image]}')
    labels = np.asarray([self._categories.labels[n] for n in file.category_ids[part]], np.int32)
    masks = self._masks or self._published and self._panoptic
    return DetectionExample(
        images.read_file(path), path, i, self._ids[i], file.clipped(image, part), labels,
        file.is_crowd[part], self._size(i), functools.partial(self._mask, i) if masks else None,
        self._stored)

  def _size(self, i: int) -> tuple[int, int]:
    return tuple(int(n) for n in self._sizes[i])

  def _picture(self, i: int) -> tuple[np.ndarray, str]:
    """Returns (segment of each pixel `[height, width]`, path) of panoptic image i."""
    of, image = self._rows[i]
    path = self._opened[of].pictures[image]
    return segmentation.panoptic_ids(images.read_file(path), self._size(i), path, self._stored), path

  def _mask(self, i: int) -> np.ndarray:
    """Returns the masks of image i, bool `[n, height, width]`, in the order of its annotations."""
    file, part = self._annotations(i)
    if self._panoptic:
      found, path = self._picture(i)
      return segmentation.panoptic_masks(found, file.ids[part], path)
    out = np.zeros((part.stop - part.start, *self._size(i)), bool)
    for mask, entry in zip(out, file.segmentations[part]):
      if entry:  # only a crowd may lack one
        mask[...] = segmentation.mask(entry, self._size(i))
    return out

  def _segments(self, i: int) -> tuple[np.ndarray, list[dict]]:
    file, part = self._annotations(i)
    found = [dict(id=int(number), category_id=int(category), iscrowd=int(crowd), area=float(area))
             for number, category, crowd, area in zip(file.ids[part], file.category_ids[part],
                                                      file.is_crowd[part], file.areas[part])]
    return self._picture(i)[0], found

  def truth(self) -> dict:
    """Returns the annotations of the split, see `DetectionSplit.annotations`."""
    objects = []
    for i, number in enumerate(self._ids):
      file, part = self._annotations(i)
      for k in range(part.start, part.stop):
        if not file.has_area[k]:  # nobody could find it, and training leaves it out
          continue
        entry = dict(image_id=number, category_id=int(file.category_ids[k]),
                     bbox=file.boxes[k].tolist(), area=float(file.areas[k]),
                     iscrowd=int(file.is_crowd[k]))
        if file.segmentations and file.segmentations[k]:
          entry['segmentation'] = file.segmentations[k]
        objects.append(entry)
    return coco_annotations(self._categories, self._sizes, self._ids, self._names, objects)


def _different(ids: Sequence[list], rows: Sequence[tuple[int, int]]) -> list:
  """Returns an id for each row: its own, or another where files that are numbered alike are added."""
  out = [ids[of][i] for of, i in rows]
  texts = any(isinstance(number, str) for number in out)
  if len({str(number) for number in out}) == len(out):
    return list(map(str, out)) if texts else out
  if texts or sum(max(map(abs, own), default=0) + 1 for own in ids) >= LIMIT:
    return list(range(1, len(out) + 1))
  offsets = [0, *itertools.accumulate(max(own, default=0) - min(0, *own) + 1 for own in ids)]
  return [number + offsets[of] for number, (of, _) in zip(out, rows)]
