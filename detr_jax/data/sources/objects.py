"""The annotations of COCO's JSON as arrays, and what is wrong with them."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from detr_jax.data.sources import segmentation
from detr_jax.data.sources.base import Categories
from detr_jax.data.sources.values import flag, number, shown, whole

OUTSIDE = .05  # share of a side by which a box may reach past the image; what reaches farther is wrong
SLACK = 2.  # pixels, beside that
FARTHEST = 10  # times the longer side: coordinates beyond are invalid
LARGEST_AREA = 1e10  # pycocotools counts no larger object
LAST_SEGMENT = 2 ** 24 - 1  # whose colour is white


@dataclasses.dataclass(frozen=True)
class Problem:
  """Something to mend, or (not `error`) something to know.

  Attributes:
    text: a sentence.
    error: whether it stops a run.
    annotation: its number in the list, -1 for none.
    kind: of a note: notes of one kind are told together.
  """
  text: str
  error: bool = True
  annotation: int = -1
  kind: str = ''


def clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  """Returns (left, top, right, bottom) inside images `[..., 2]` of (left, top, width, height)."""
  corners = np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)
  limits = np.broadcast_to(sizes[..., ::-1], boxes[..., :2].shape)
  return np.clip(corners, 0., np.concatenate([limits, limits], -1))


class Images:
  """The images of a file: ids, names of the files, and sizes int `[n, 2]`; `refused`: ids of others."""

  def __init__(self, ids: Sequence, names: Sequence[str], sizes: np.ndarray, refused: Sequence = ()):
    self.names, self.sizes, self._refused = names, sizes, set(map(str, refused))
    self._order = {str(number): i for i, number in enumerate(ids)}

  def find(self, image_id) -> int:
    """Returns which image an annotation means by its `image_id`, -1 for none."""
    found = whole(image_id)
    if found is None and not isinstance(image_id, str):
      return -1
    return self._order.get(image_id if found is None else str(found), -1)

  def refused(self, image_id) -> bool:
    """Tells whether an annotation is of an image that is listed and cannot be used, which is told."""
    return str(image_id) in self._refused


class Objects:
  """The m annotations of a file, segments where it is panoptic.

  Attributes:
    image: int `[m]`, the image of each, -1 for none.
    ids, category_ids, is_crowd, areas, boxes: as of `annotations.File`; boxes that are none are NaN.
    has_area: bool `[m]`, whether anything of the box lies in the image.
  """

  def __init__(self, entries: Sequence[dict], images: Images, categories: Categories, panoptic: bool,
               outside: str):
    self._entries, self._images, self._panoptic, self._outside = entries, images, panoptic, outside
    self.image = np.asarray([images.find(e.get('image_id')) for e in entries], np.int64)
    read = lambda key, how: [how(e.get(key)) for e in entries]
    category_ids = read('category_id', whole)
    self._known = np.asarray([number in categories.labels for number in category_ids], bool)
    self.category_ids = np.asarray([number or 0 for number in category_ids], np.int64)
    self._own = read('id', whole)
    self.ids = self._numbers()
    self._crowd_is_told = [flag(e.get('iscrowd')) is not None for e in entries]
    self.is_crowd = np.asarray([bool(flag(e.get('iscrowd'))) for e in entries], bool)
    self.boxes = np.asarray(read('bbox', _box), np.float64).reshape(-1, 4)
    areas = read('area', number)
    none = np.zeros((len(entries), 2), np.int32)
    self._sizes = images.sizes[self.image] if len(images.sizes) else none
    with np.errstate(invalid='ignore', over='ignore'):
      corners = clip(self.boxes, self._sizes)
      whole_box = np.prod(self.boxes[:, 2:], -1)
    self.areas = np.asarray([b if a is None else a for a, b in zip(areas, whole_box)], np.float64)
    self.has_area = np.prod(corners[:, 2:] - corners[:, :2], -1) > 0.

  def _numbers(self) -> np.ndarray:
    """Returns the ids of the file, or, where they do not tell annotations apart, numbers from 1 on.

    Nothing but a message shows the number of an annotation; that of a segment is its colour.
    """
    if self._panoptic or (None not in self._own and len(set(self._own)) == len(self._own)):
      return np.asarray([n or 0 for n in self._own], np.int64)
    return np.arange(1, len(self._own) + 1)

  def _name(self, i: int) -> str:
    entry = self._entries[i]
    image = self._images.names[self.image[i]] if self.image[i] >= 0 else ''
    kind = 'segment' if self._panoptic else 'annotation'
    name = shown(entry['id']) if 'id' in entry else f'{i + 1} (without id)'
    return f'{kind} {name} of image {shown(entry.get("image_id"))}' + f' ({image})' * bool(image)

  def _each(self, wrong: np.ndarray, text: str, error: bool = True, kind: str = '', key: str = 'bbox'
            ) -> Iterator[Problem]:
    """Yields a problem for each annotation that is marked; `{}` in `text` is its box, or another key."""
    for i in np.flatnonzero(wrong):
      value = shown(self._entries[i].get(key))
      yield Problem(f'{self._name(i)} {text.replace("{}", value)}', error, int(i), kind)

  def problems(self) -> Iterator[Problem]:
    """Yields all that can be told without a pixel, errors first."""
    yield from self._of_fields()
    with np.errstate(invalid='ignore', over='ignore'):
      yield from self._of_boxes()
    yield from self._of_ids()

  def _of_fields(self) -> Iterator[Problem]:
    for i in np.flatnonzero(self.image < 0):
      if self._images.refused(self._entries[i].get('image_id')):
        continue
      yield Problem(f'{self._name(i)}: there is no such image in images', annotation=int(i))
    yield from self._each(~self._known, 'has the category {}, which is not in categories',
                          key='category_id')
    yield from self._each(~np.asarray(self._crowd_is_told, bool),
                          'has the iscrowd {}; it must be 0 or 1', key='iscrowd')

  def _of_boxes(self) -> Iterator[Problem]:
    finite = np.isfinite(self.boxes).all(-1)
    yield from self._each(~finite, 'has the box {}; it must be four numbers: left, top, width, height')
    negative = finite & (self.boxes[:, 2:] < 0.).any(-1)
    yield from self._each(negative, 'has the box {}, of negative size')
    fine = finite & ~negative & (self.image >= 0)
    over, limit = self._over(), self._sizes[:, ::-1]
    far = fine & (over > SLACK + OUTSIDE * limit).any(-1)
    nowhere = fine & (over > FARTHEST * limit.max(-1, keepdims=True)).any(-1)
    like, first = self._convention(fine, far)
    if like:
      yield Problem(f'the boxes look like {like}, as in {self._name(first)}: '
                    f'{shown(self._entries[first].get("bbox"))}; write [left, top, width, height] in '
                    'pixels', annotation=first)
    wrong = nowhere if self._outside == 'clip' else far
    yield from self._each(wrong, 'has the box {}, which reaches far out of its image' + (
        '' if self._panoptic or self._outside == 'clip' else '; data.outside=clip cuts such boxes'))
    given = np.asarray([e.get('area') is not None for e in self._entries], bool)
    read = np.asarray([number(e.get('area')) is not None for e in self._entries], bool)
    read &= (self.areas >= 0.) & (self.areas <= LARGEST_AREA)
    yield from self._each(fine & ~wrong & given & ~read,
                          'has the area {}; it must be a number of pixels', key='area')
    yield from self._of_segmentations(fine)
    empty = fine & ~wrong & ~self.has_area
    yield from self._each(empty, 'has the box {} without area in its image: it is neither trained on '
                          'nor counted', error=False, kind='empty')
    yield from self._each(fine & ~wrong & ~empty & (over > .5).any(-1),
                          'has the box {}, which is clipped at the edge of its image', False, 'clipped')

  def _of_ids(self) -> Iterator[Problem]:
    if self._panoptic:
      wrong = np.asarray([n is None or not 1 <= n <= LAST_SEGMENT for n in self._own], bool)
      yield from self._each(wrong, 'has the id {}; it must be a whole number from 1 to '
                            f'{LAST_SEGMENT}, the colour of its pixels', key='id')
      pairs = np.stack([self.image, self.ids], -1)
      first = np.unique(pairs, axis=0, return_index=True)[1] if len(pairs) else []
      later = ~wrong & (self.image >= 0)
      later[first] = False
      yield from self._each(later, 'has the id of another segment of that image', key='id')
      return
    lacking = [i for i, n in enumerate(self._own) if n is None]
    if lacking:
      yield Problem(f'{len(lacking)} annotation(s) have no whole number as id, the first: '
                    f'{self._name(lacking[0])}; all are numbered by their position', False, kind='ids')
    values, counts = np.unique([n for n in self._own if n is not None], return_counts=True)
    for value, count in zip(values[counts > 1], counts[counts > 1]):
      yield Problem(f'{count} annotations have the id {value}; all are numbered by their position',
                    False, kind='ids')

  def _over(self) -> np.ndarray:
    """Returns by how much each box reaches out of its image, `[m, 2]`: horizontally, vertically."""
    low, high = self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]
    return np.maximum(-low, high - self._sizes[:, ::-1])

  def _convention(self, fine: np.ndarray, far: np.ndarray) -> tuple[str, int]:
    """Returns (what the boxes look like instead of corner and size in pixels, '' if they do not; first).

    Args:
      fine: bool `[m]`, boxes that are four numbers in an image that exists.
      far: those of them that reach far out of it.
    """
    if not fine.any():
      return '', -1
    low, high, limit = self.boxes[:, :2], self.boxes[:, 2:], self._sizes[:, ::-1]
    shares = fine & (self.boxes >= -.5).all(-1) & (self.boxes <= 1.05).all(-1) & (limit > 4).all(-1)
    broken = (self.boxes % 1. > 0.).any(-1)
    if shares.sum() > .95 * fine.sum() and (shares & broken).sum() > .5 * fine.sum():
      return 'shares of the image, from 0 to 1', int(np.argmax(shares & broken))
    corners = (high > low).all(-1) & (high <= limit + SLACK).all(-1)
    if far.sum() > .2 * fine.sum() and corners[fine].mean() > .95:
      return '[left, top, right, bottom]', int(np.argmax(far))
    centres = (low - high / 2. >= -1.).all(-1) & (low + high / 2. <= limit + 1.).all(-1)
    if far.any() and far.sum() > .02 * fine.sum() and centres[fine].all():
      return '[centre x, centre y, width, height]', int(np.argmax(far))
    return '', -1

  def _of_segmentations(self, fine: np.ndarray) -> Iterator[Problem]:
    """Yields run-length masks of another size than their image, and crowds without one."""
    for i in np.flatnonzero(fine):
      entry = self._entries[i].get('segmentation')
      if isinstance(entry, dict):
        if entry.get('size') != self._sizes[i].tolist():
          yield Problem(f'{self._name(i)} has a mask of {shown(entry.get("size"))}, but the image has '
                        f'(height, width) {self._sizes[i].tolist()}', annotation=int(i))
      elif self.is_crowd[i] and not self._panoptic:
        yield Problem(f'{self._name(i)} is a crowd without a run-length mask: its box stands for it',
                      False, int(i), 'crowd')

  def segmentations(self, usable: np.ndarray) -> tuple[list, list[Problem]]:
    """Returns (what pycocotools can read of each usable one, None for none; those that it cannot)."""
    out, problems = [None] * len(self._entries), []
    for i in np.flatnonzero(usable) if not self._panoptic else ():  # segments lie in pictures
      try:
        out[i] = segmentation.readable(self._entries[i].get('segmentation'), self._sizes[i].tolist())
      except ValueError as error:
        problems.append(Problem(f'{self._name(i)} has a segmentation {error}', annotation=int(i)))
    return out, problems


def _box(value) -> Sequence[float]:
  """Returns the four numbers of a box; NaN where there is none."""
  if isinstance(value, list) and len(value) == 4:
    value = [number(n) for n in value]
    return value if None not in value else (np.nan,) * 4
  return (np.nan,) * 4
