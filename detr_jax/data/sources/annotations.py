"""Reads COCO's JSON, detection or panoptic, and finds all that is wrong with it."""

import collections
import dataclasses
import itertools
import json
import os
from collections.abc import Iterator, Sequence

import numpy as np

from detr_jax.data.sources.base import Categories
from vit_jax.errors import UserError

OUTSIDE = .05  # share of a side by which a box may reach past the image; what reaches farther is wrong
SLACK = 2.  # pixels, beside that


@dataclasses.dataclass(frozen=True)
class Problem:
  """Something to mend, or (not `error`) something to know; `annotation` is its number in the list."""
  text: str
  error: bool = True
  annotation: int = -1


@dataclasses.dataclass(frozen=True)
class File:
  """What a JSON file holds, its annotations sorted by image; m of them, segments where it is panoptic.

  Attributes:
    path: of the file.
    categories: in the order of their ids.
    image_ids, file_names, sizes: of the n images; sizes `[n, 2]` are (height, width).
    starts: int `[n + 1]`: the annotations of image i are starts[i] to starts[i + 1].
    ids, category_ids, is_crowd, areas: `[m]`.
    boxes: float64 `[m, 4]`: left, top, width, height.
    is_target: bool `[m]`, whether training uses them.
    segmentations: m entries as in the file, or None.
    pictures: file names of the n panoptic PNGs, or None.
    problems: what is wrong.
  """
  path: str
  categories: Categories
  image_ids: np.ndarray
  file_names: list[str]
  sizes: np.ndarray
  starts: np.ndarray
  ids: np.ndarray
  category_ids: np.ndarray
  is_crowd: np.ndarray
  areas: np.ndarray
  boxes: np.ndarray
  is_target: np.ndarray
  segmentations: list | None
  pictures: list[str] | None
  problems: tuple[Problem, ...]

  def clipped(self, image: int, part: slice) -> np.ndarray:
    """Returns boxes as float64 `[k, 4]` (left, top, right, bottom) inside an image."""
    return clip(self.boxes[part], self.sizes[image])

  def unmasked(self) -> list[int]:
    """Returns the ids of the targets without a mask, of a file whose segmentations were kept."""
    return [int(self.ids[k]) for k in np.flatnonzero(self.is_target) if not self.segmentations[k]]


def clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  """Returns (left, top, right, bottom) inside images `[..., 2]` of (left, top, width, height)."""
  corners = np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)
  limits = np.broadcast_to(sizes[..., ::-1], boxes[..., :2].shape)
  return np.clip(corners, 0., np.concatenate([limits, limits], -1))


def load(path: str, keep_segmentations: bool = False) -> File:
  """Reads and checks a file; what can be told without opening an image.

  Args:
    path: of the JSON.
    keep_segmentations: polygons take much memory, so they stay only where masks are wanted.

  Raises:
    UserError: when it is missing, or not of COCO's form.
  """
  content = _parse(path)
  categories = _categories(content['categories'], path)
  pictures, entries = content['images'], content['annotations']
  wrong = {number: list(_image_problems(number, entry)) for number, entry in enumerate(pictures)}
  pictures = [entry for number, entry in enumerate(pictures) if not wrong[number]]
  image_ids = np.asarray([image['id'] for image in pictures], np.int64).reshape(-1)
  sizes = np.asarray([[image['height'], image['width']] for image in pictures], np.int32).reshape(-1, 2)
  png = None
  if any('segments_info' in entry for entry in entries[:1]):
    png = {entry.get('image_id'): str(entry.get('file_name')) for entry in entries}
    png = [png.get(int(i), '') for i in image_ids]
    entries = [dict(segment, image_id=entry.get('image_id')) for entry in entries
               for segment in entry['segments_info']]
  names = [image['file_name'] for image in pictures]
  found = _Annotations(entries, image_ids, names, sizes, categories, png is not None)
  problems = [*itertools.chain(*wrong.values()), *_duplicates(image_ids, 'images'), *found.problems()]
  if keep_segmentations:
    problems += found.unreadable_masks()
  bad = [p.annotation for p in problems if p.error and p.annotation >= 0]
  usable = np.ones(len(entries), bool)
  usable[bad] = False
  kept = np.flatnonzero(usable)
  kept = kept[np.argsort(found.image[kept], kind='stable')]
  corners = clip(found.boxes[kept], sizes[found.image[kept]])
  area = np.prod(corners[:, 2:] - corners[:, :2], -1)
  return File(
      path, categories, image_ids, names, sizes, np.searchsorted(found.image[kept], np.arange(
          len(image_ids) + 1)), found.ids[kept], found.category_ids[kept], found.is_crowd[kept],
      found.areas[kept], found.boxes[kept], (area > 0.) & ~found.is_crowd[kept],
      [entries[i].get('segmentation') for i in kept] if keep_segmentations else None, png,
      tuple(problems))


def more(problems: Sequence[Problem]) -> str:
  """Returns how many errors there are beside the first, as the end of a sentence."""
  others = sum(p.error for p in problems) - 1
  return f' ({others} more; python -m detr_jax.data.check lists them all)' if others else ''


def _parse(path: str) -> dict:
  """Returns the content of a file; UserError when it has not the three lists."""
  try:
    with open(path, encoding='utf-8') as file:
      content = json.load(file)
  except FileNotFoundError:
    raise UserError(f'the annotations {path} are missing') from None
  except (OSError, ValueError) as error:
    raise UserError(f'{path} is no JSON that can be read: {error}; write it again') from None
  for key in ('images', 'annotations', 'categories'):
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
      raise UserError(f"{path} is not of COCO's form: it has no list {key!r} of objects")
  return content


def _categories(entries: list[dict], path: str) -> Categories:
  """Returns the categories in the order of their ids."""
  wrong = [entry for entry in entries if type(entry.get('id')) is not int or 'name' not in entry]
  if wrong or not entries:
    raise UserError(f'{path}: ' + (f'category {wrong[0]} has no whole number as id, or no name'
                                   if wrong else 'it has no category'))
  ids = [entry['id'] for entry in entries]
  if len(set(ids)) < len(ids):
    twice = next(i for i, count in collections.Counter(ids).items() if count > 1)
    raise UserError(f'{path}: two categories have the id {twice}')
  entries = sorted(entries, key=lambda entry: entry['id'])
  things = tuple(bool(entry['isthing']) for entry in entries) if all(
      'isthing' in entry for entry in entries) else None
  return Categories(tuple(str(e['name']) for e in entries), tuple(e['id'] for e in entries), things)


def _image_problems(number: int, entry: dict) -> Iterator[Problem]:
  """Yields what is wrong with entry `number` of the images."""
  name = f'image {entry.get("id")} ({entry.get("file_name")}), entry {number} of images,'
  if type(entry.get('id')) is not int:
    yield Problem(f'{name} has no whole number as id')
  if not isinstance(entry.get('file_name'), str):
    yield Problem(f'{name} has no file_name')
  for side in ('width', 'height'):
    if type(entry.get(side)) is not int or entry[side] < 1:
      yield Problem(f'{name} has the {side} {entry.get(side)}; it must be a number of pixels')


def _duplicates(ids: np.ndarray, kind: str) -> Iterator[Problem]:
  values, counts = np.unique(ids, return_counts=True)
  for value, count in zip(values[counts > 1], counts[counts > 1]):
    yield Problem(f'{count} {kind} have the id {value}')


class _Annotations:
  """The annotations of a file as arrays, and what is wrong with them."""

  def __init__(self, entries, image_ids, names, sizes, categories: Categories, panoptic: bool):
    self._entries, self._names, self._panoptic = entries, names, panoptic
    order = {int(number): i for i, number in enumerate(image_ids)}
    whole = lambda value: value if type(value) is int else -1
    # Wrong references become -1, wrong boxes NaN: they are told, and never used.
    self.image = np.asarray([order.get(e.get('image_id'), -1) if isinstance(e.get('image_id'), int)
                             else -1 for e in entries], np.int64)
    self.category_ids = np.asarray([whole(e.get('category_id')) for e in entries], np.int64)
    self.ids = np.asarray([whole(e.get('id')) for e in entries], np.int64)
    self.is_crowd = np.asarray([bool(e.get('iscrowd', 0)) for e in entries], bool)
    self.boxes = np.asarray([_box(e.get('bbox')) for e in entries], np.float64).reshape(-1, 4)
    areas = [e.get('area') for e in entries]
    self.areas = np.asarray([a if isinstance(a, (int, float)) else b[2] * b[3]
                             for a, b in zip(areas, self.boxes)], np.float64)
    self._sizes = sizes[self.image] if len(sizes) else np.zeros((len(entries), 2), np.int32)
    self._known = np.isin(self.category_ids, categories.ids)
    self._categories = categories

  def _name(self, i: int) -> str:
    entry = self._entries[i]
    image = self._names[self.image[i]] if self.image[i] >= 0 else ''
    kind = 'segment' if self._panoptic else 'annotation'
    return f'{kind} {entry.get("id")} of image {entry.get("image_id")}' + f' ({image})' * bool(image)

  def _each(self, wrong: np.ndarray, text: str, error: bool = True) -> Iterator[Problem]:
    """Yields a problem for each annotation that is marked; `{}` in `text` is its box."""
    for i in np.flatnonzero(wrong):
      yield Problem(f'{self._name(i)} {text.format(self._entries[i].get("bbox"))}', error, int(i))

  def problems(self) -> Iterator[Problem]:
    """Yields all that can be told without a pixel, errors first."""
    orphan, finite = self.image < 0, np.isfinite(self.boxes).all(-1)
    if not self._panoptic:  # segments are numbered within their image
      yield from _duplicates(self.ids, 'annotations')
    for i in np.flatnonzero(orphan):
      yield Problem(f'{self._name(i)}: there is no such image in images', annotation=int(i))
    for i in np.flatnonzero(~self._known):
      yield Problem(f'{self._name(i)} has the category {self._entries[i].get("category_id")}, which is '
                    'not in categories', annotation=int(i))
    yield from self._each(~finite, 'has the box {}; it must be four numbers: left, top, width, height')
    negative = finite & (self.boxes[:, 2:] < 0.).any(-1)
    yield from self._each(negative, 'has the box {}, of negative size')
    fine = finite & ~negative & ~orphan
    over = self._over()
    far = fine & (over > SLACK + OUTSIDE * self._sizes[:, ::-1]).any(-1)
    if self._corners(fine, far):
      first = int(np.argmax(far))
      yield Problem(f'the boxes look like [left, top, right, bottom], as in {self._name(first)}: '
                    f'{self._entries[first].get("bbox")}; write [left, top, width, height]',
                    annotation=first)
    yield from self._each(far, 'has the box {}, which reaches far out of its image')
    yield from self._segmentation_problems(fine)
    zero = fine & (self.boxes[:, 2:] == 0.).any(-1)
    yield from self._each(zero, 'has the box {} without area: it is not trained on', error=False)
    yield from self._each(fine & ~far & (over > .5).any(-1),
                          'has the box {}, which is clipped at the edge of its image', error=False)

  def _over(self) -> np.ndarray:
    """Returns by how much each box reaches out of its image, `[m, 2]`: horizontally, vertically."""
    low, high = self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]
    return np.maximum(-low, high - self._sizes[:, ::-1])

  def _corners(self, fine: np.ndarray, far: np.ndarray) -> bool:
    """Tells whether the boxes make sense as two corners, and not as corner and size."""
    ordered = (self.boxes[:, 2:] > self.boxes[:, :2]).all(-1)
    inside = (self.boxes[:, 2:] <= self._sizes[:, ::-1] + SLACK).all(-1)
    return bool(far.sum() > .2 * fine.sum() and (ordered & inside)[fine].mean() > .95)

  def _segmentation_problems(self, fine: np.ndarray) -> Iterator[Problem]:
    """Yields run-length masks of another size than their image, and crowds without one."""
    for i in np.flatnonzero(fine):
      entry = self._entries[i].get('segmentation')
      if isinstance(entry, dict):
        if list(entry.get('size') or ()) != self._sizes[i].tolist():
          yield Problem(f'{self._name(i)} has a mask of {entry.get("size")}, but the image has (height, '
                        f'width) {self._sizes[i].tolist()}', annotation=int(i))
      elif self.is_crowd[i] and not self._panoptic:
        yield Problem(f'{self._name(i)} is a crowd without a run-length mask: its box stands for it',
                      error=False, annotation=int(i))

  def unreadable_masks(self) -> Iterator[Problem]:
    """Yields segmentations that are neither run lengths nor polygons; none at all is no problem here."""
    number = lambda n: type(n) in (int, float)
    polygon = lambda p: isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and all(map(number, p))
    for i, entry in enumerate(e.get('segmentation') for e in self._entries):
      runs = isinstance(entry, dict) and isinstance(entry.get('counts'), (str, list))
      if entry and not runs and not (isinstance(entry, list) and all(map(polygon, entry))):
        yield Problem(f'{self._name(i)} has a segmentation that is neither run lengths nor polygons of '
                      'three points [x, y, x, y, x, y] or more', annotation=i)


def _box(value) -> Sequence[float]:
  if isinstance(value, list) and len(value) == 4 and all(type(n) in (int, float) for n in value):
    return value
  return (np.nan,) * 4


def missing_files(folder: str, names: Sequence[str]) -> list[str]:
  """Returns the names that are no file in a folder; each folder is listed once."""
  there = {}
  out = []
  for name in names:
    place, base = os.path.split(os.path.join(folder, name))
    if place not in there:
      there[place] = set(os.listdir(place)) if os.path.isdir(place) else set()
    if base not in there[place]:
      out.append(name)
  return out
