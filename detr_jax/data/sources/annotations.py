"""Reads COCO's JSON, detection or panoptic, and finds all that is wrong with it."""

import collections
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from detr_jax.data.sources import objects
from detr_jax.data.sources.base import UNUSED, Categories
from detr_jax.data.sources.objects import Problem, clip
from detr_jax.data.sources.values import LIMIT, flag, readable, shown, whole
from vit_jax.errors import UserError

LARGEST_SIDE, LARGEST_IMAGE = 10 ** 6, 2 ** 28  # pixels; larger images cannot be decoded


@dataclasses.dataclass(frozen=True)
class File:
  """What a JSON file holds, its annotations sorted by image; m of them, segments where it is panoptic.

  Attributes:
    path: of the file.
    categories: in the order of their ids.
    image_ids: of the n images, whole numbers or texts, as in the file.
    file_names: of the n images.
    sizes: `[n, 2]`, (height, width).
    starts: int `[n + 1]`: the annotations of image i are starts[i] to starts[i + 1].
    ids, category_ids, is_crowd, areas: `[m]`.
    boxes: float64 `[m, 4]`: left, top, width, height.
    has_area: bool `[m]`, whether anything of the box lies in the image.
    segmentations: m entries as pycocotools reads them, or None.
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
  has_area: np.ndarray
  segmentations: list | None
  pictures: list[str] | None
  problems: tuple[Problem, ...]

  def clipped(self, image: int, part: slice) -> np.ndarray:
    """Returns boxes as float64 `[k, 4]` (left, top, right, bottom) inside an image."""
    return clip(self.boxes[part], self.sizes[image])

  def unmasked(self) -> list[int]:
    """Returns the ids of the objects without a mask, of a file whose segmentations were kept."""
    return [int(self.ids[k]) for k in np.flatnonzero(self.has_area & ~self.is_crowd)
            if not self.segmentations[k]]


def load(path: str, keep_segmentations: bool = False, outside: str = 'error', labelled: bool = True,
         read: Callable[[], tuple[dict, list[Problem]]] | None = None) -> File:
  """Reads and checks a file; what can be told without opening an image.

  Args:
    path: of the JSON.
    keep_segmentations: polygons take much memory, so they stay only where masks are wanted.
    outside: 'error', or 'clip' for boxes that reach far out of their image.
    labelled: whether the file must have annotations: one that is only predicted on needs none.
    read: gives the content of another format in COCO's form, and what is wrong with it.

  Raises:
    UserError: when it is missing, or not of COCO's form.
  """
  content, problems = read() if read else _parse(path, labelled)
  categories = _categories(content['categories'], path)
  problems += _category_notes(categories)
  image_ids, kept, found = _images(content['images'])
  names, sizes = [e['file_name'] for e in kept], [[whole(e['height']), whole(e['width'])] for e in kept]
  sizes = np.asarray(sizes, np.int32).reshape(-1, 2)
  refused = [e.get('id') for e in content['images'] if 'id' in e]
  images = objects.Images(image_ids, names, sizes, refused)
  entries, pictures = content['annotations'], None
  if any('segments_info' in entry for entry in entries):
    entries, pictures, more = _segments(entries, images)
    found += more
  annotations = objects.Objects(entries, images, categories, pictures is not None, outside)
  problems = [*found, *annotations.problems(), *problems]
  usable = annotations.image >= 0
  usable[[p.annotation for p in problems if p.error and p.annotation >= 0]] = False
  segmentations = None
  if keep_segmentations:
    segmentations, unreadable = annotations.segmentations(usable)
    problems += unreadable
    usable[[p.annotation for p in unreadable]] = False
  order = np.flatnonzero(usable)
  order = order[np.argsort(annotations.image[order], kind='stable')]
  pick = lambda values: values[order]
  return File(
      path, categories, np.asarray(image_ids) if image_ids else np.zeros(0, np.int64), names, sizes,
      np.searchsorted(pick(annotations.image), np.arange(len(image_ids) + 1)), pick(annotations.ids),
      pick(annotations.category_ids), pick(annotations.is_crowd), pick(annotations.areas),
      pick(annotations.boxes), pick(annotations.has_area),
      [segmentations[i] for i in order] if keep_segmentations else None, pictures, tuple(problems))


def more(problems: Sequence[Problem]) -> str:
  """Returns how many errors there are beside the first, as the end of a sentence."""
  others = sum(p.error for p in problems) - 1
  return f' ({others} more; python -m vit_jax.data --check lists them all)' if others else ''


def _parse(path: str, labelled: bool) -> tuple[dict, list[Problem]]:
  """Returns (content, notes) of a file; UserError when it lacks one of the three lists."""
  try:
    with open(path, 'rb') as file:
      text = file.read()
    # Names that are not UTF-8 keep their bytes, which is how the system names the files.
    content = json.loads(text.decode(json.detect_encoding(text), 'surrogateescape'))
  except FileNotFoundError:
    raise UserError(f'the annotations {path} are missing') from None
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{path} is no JSON that can be read: {error}; write it again') from None
  notes = []
  if not labelled and isinstance(content, dict) and 'annotations' not in content:
    content['annotations'] = []
    notes = [Problem('it has no annotations: detections are written, and there is no AP (-1)', False,
                     kind='unlabelled')]
  for key in ('images', 'annotations', 'categories'):
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
      raise UserError(f"{path} is not of COCO's form: it has no list {key!r} of objects")
  return content, notes


def _categories(entries: list[dict], path: str) -> Categories:
  """Returns the categories in the order of their ids; UserError for one that cannot be used."""
  if not entries:
    raise UserError(f'{path}: it has no category')
  for entry in entries:
    if whole(entry.get('id')) is None or type(entry.get('name')) not in (str, int, float):
      raise UserError(f'{path}: category {shown(entry)} has no whole number of up to 64 bits as id, or '
                      'no text as name')
    if flag(entry.get('isthing')) is None or ('isthing' in entry) != ('isthing' in entries[0]):
      raise UserError(f'{path}: category {shown(entry)} must have isthing 0 or 1, as all or none '
                      'have it')
  ids = [whole(entry['id']) for entry in entries]
  if len(set(ids)) < len(ids):
    twice = next(i for i, count in collections.Counter(ids).items() if count > 1)
    raise UserError(f'{path}: two categories have the id {twice}')
  entries = [entries[k] for k in np.argsort(ids)]
  things = tuple(flag(e['isthing']) for e in entries) if 'isthing' in entries[0] else None
  return Categories(tuple(readable(str(e['name'])) for e in entries), tuple(sorted(ids)), things)


def _category_notes(categories: Categories) -> list[Problem]:
  names = collections.Counter(n for n in categories.names if n != UNUSED)
  return [Problem(f'{count} categories have the name {name!r}', False, kind='categories')
          for name, count in names.items() if count > 1]


def _images(entries: list[dict]) -> tuple[list, list[dict], list[Problem]]:
  """Returns (ids, entries) of the images that can be used, and what is wrong with the others.

  Ids are whole numbers, or, where all are text and some is not that of a number, the texts themselves.
  """
  ids = [whole(entry.get('id')) for entry in entries]
  if entries and None in ids and all(isinstance(entry.get('id'), str) for entry in entries):
    ids = [entry['id'] for entry in entries]
  kept, problems = {}, []
  for n, (number, entry) in enumerate(zip(ids, entries)):
    found = list(_image_problems(n, number, entry))
    if not found and number in kept:
      found = [Problem(f'image {number!r} ({entry["file_name"]}), entry {n} of images, has the same id '
                       f'as another image ({kept[number]["file_name"]}); only the first of them counts')]
    if not found:
      kept[number] = entry
    problems += found
  return list(kept), list(kept.values()), problems


def _image_problems(n: int, number: int | str | None, entry: dict) -> Iterator[Problem]:
  """Yields what is wrong with entry `n` of the images, whose id was read as `number`."""
  file, given = entry.get('file_name'), entry.get('id')
  name = f'image {shown(given)} ({file if isinstance(file, str) else shown(file)}), entry {n} of images,'
  if type(given) is int and abs(given) >= LIMIT:
    yield Problem(f'{name} has an id of more than 64 bits; number the images anew')
  elif number is None:
    yield Problem(f'{name} has no whole number as id')
  if not isinstance(file, str) or not file:
    yield Problem(f'{name} has no file_name')
  elif not _can_be_opened(file):
    yield Problem(f'{name} has the file_name {shown(file)}, which no file can have')
  sides = [whole(entry.get(side)) for side in ('width', 'height')]
  for side, pixels in zip(('width', 'height'), sides):
    if pixels is None or not 1 <= pixels <= LARGEST_SIDE:
      yield Problem(f'{name} has the {side} {shown(entry.get(side))}; it must be a number of pixels '
                    f'from 1 to {LARGEST_SIDE:,}')
  if None not in sides and sides[0] * sides[1] > LARGEST_IMAGE and max(sides) <= LARGEST_SIDE:
    yield Problem(f'{name} is said to have {sides[0]}x{sides[1]} pixels, more than can be decoded')


def _can_be_opened(name: str) -> bool:
  try:
    return b'\0' not in os.fsencode(name)
  except UnicodeEncodeError:
    return False


def _segments(entries: list[dict], images: objects.Images
              ) -> tuple[list[dict], list[str], list[Problem]]:
  """Returns the segments of panoptic annotations, the n names of their pictures ('': none), problems."""
  segments, pictures, problems = [], [''] * len(images.names), []
  for n, entry in enumerate(entries):
    image, found = images.find(entry.get('image_id')), entry.get('segments_info')
    name = f'entry {n} of annotations, of image {shown(entry.get("image_id"))},'
    if image < 0:
      if not images.refused(entry.get('image_id')):
        problems.append(Problem(f'{name} is of no image in images'))
    elif not isinstance(found, list) or not all(isinstance(segment, dict) for segment in found):
      problems.append(Problem(f'{name} has no list segments_info of objects, as panoptic files have'))
    elif not isinstance(entry.get('file_name'), str) or not _can_be_opened(entry['file_name']):
      problems.append(Problem(f'{name} has no file_name of a panoptic picture'))
    elif pictures[image]:
      problems.append(Problem(f'{name} is a second one of that image; only the first counts'))
    else:
      pictures[image] = entry['file_name']
      segments += [dict(segment, image_id=entry['image_id']) for segment in found]
  return segments, pictures, problems
