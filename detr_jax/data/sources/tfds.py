"""Detection data that TensorFlow Datasets has prepared (coco/2017, coco/2017_panoptic, voc/2012)."""

import concurrent.futures
import dataclasses
import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from detr_jax.data.sources import segmentation
from detr_jax.data.sources.base import (
    Categories, DetectionExample, DetectionSplit, coco_annotations, say)
from vit_jax.data import images, records
from vit_jax.data.sources.shards import FeatureError
from vit_jax.data.sources.tfds import open_builder, record_split
from vit_jax.errors import Unreadable, UserError

# TFDS numbers COCO's classes without gaps; these are the ids of its JSON, in the same order.
THINGS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
STUFF = (92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147,
         148, 149, 151, 154, 155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181,
         *range(184, 201))
TELL = 1000  # images from which on reading all their headers is worth a word


@dataclasses.dataclass(frozen=True)
class Record:
  """What a record holds; arrays as of `DetectionExample`, labels as TFDS numbers them."""
  content: bytes
  name: str
  image_id: int
  size: tuple[int, int]
  boxes: np.ndarray
  labels: np.ndarray
  is_crowd: np.ndarray
  areas: np.ndarray
  ids: np.ndarray
  panoptic: bytes = b''


def check_features(content: bytes, where: str, keys: Sequence[str]) -> None:
  """Raises FeatureError when a record lacks one of the features that are read."""
  try:
    there = records.parse_example(content)
  except ValueError as error:
    raise FeatureError(f'{where} is {error}') from None
  for key in keys:
    if key not in there:
      raise FeatureError(f'{where} has no feature {key!r}; it has: {", ".join(sorted(there))}')


def parsed(content: bytes, where: Callable[[], str]) -> dict[str, list]:
  """Returns the features of a record; UserError for a damaged one."""
  try:
    return records.parse_example(content)
  except ValueError as error:
    raise Unreadable(f'{where()} is {error}; write the shard again') from None


@dataclasses.dataclass(frozen=True)
class Decoder:
  """Makes sense of the features of a record.

  Attributes:
    objects: feature that holds the objects.
    classes: labels lie below it.
  """
  objects: str
  classes: int
  real = ''  # ImageNet's second labels are not used here

  def resolve(self, content: bytes, where: str) -> 'Decoder':
    """Returns itself; FeatureError when a record holds no image or no boxes."""
    check_features(content, where, ('image', f'{self.objects}/bbox', f'{self.objects}/label'))
    return self

  def __call__(self, content: bytes, where: Callable[[], str]) -> Record:
    """Returns what is in a record; UserError for a damaged one, or a label that cannot be."""
    features = parsed(content, where)
    name = bytes(features.get('image/filename', [b''])[0]).decode(errors='replace')
    name = f'{name} in {where()}' if name else where()
    size = size_of(features['image'][0], name)
    column = lambda key, kind: np.asarray(features.get(f'{self.objects}/{key}', ()), kind)
    shares = column('bbox', np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]  # theirs: top, left first
    # VOC's difficult objects are neither trained on nor counted as missed, as crowds are.
    labels, crowd = column('label', np.int32), column('is_crowd', bool)
    crowd = column('is_difficult', bool) if not len(crowd) else crowd
    areas = column('area', np.float64)
    if len(labels) != len(shares) or ((labels < 0) | (labels >= self.classes)).any():
      raise Unreadable(f'{name} has {len(shares)} boxes and the labels {labels.tolist()} of '
                       f'{self.classes} classes; write the shard again')
    boxes = np.clip(shares, 0., 1.) * ([size[1], size[0]] * 2)
    return Record(
        features['image'][0], name, int(features.get('image/id', [-1])[0]), size, boxes, labels,
        crowd if len(crowd) else np.zeros(len(labels), bool),
        areas if len(areas) else np.prod(boxes[:, 2:] - boxes[:, :2], -1), column('id', np.int64),
        features.get('panoptic_image', [b''])[0])


def size_of(content: bytes, name: str) -> tuple[int, int]:
  """Returns (height, width) of an encoded image, as its pixels lie; only the header is read."""
  try:
    with Image.open(io.BytesIO(content)) as file:
      return file.height, file.width
  except OSError as error:
    raise images.damaged(name, error) from None


def _has_area(record: Record) -> np.ndarray:
  """Returns bool `[n]`: objects without area are neither trained on nor counted."""
  return np.prod(record.boxes[:, 2:] - record.boxes[:, :2], -1) > 0.


class TFDS:
  """A prepared TFDS data set of images with boxes, by name."""

  def __init__(self, name: str, data_dir: str, masks: bool, id_slots: int, on_error: str,
               stored: bool = False, published: bool = False):
    """Reads what TFDS wrote beside the data.

    Args:
      name: such as 'coco/2017', 'coco/2017_panoptic' or 'voc/2012', or the folder that holds
        `dataset_info.json`.
      data_dir: where TFDS keeps its data; '' for its own default.
      masks: whether masks are wanted; panoptic data has them.
      id_slots: see `Categories.with_slots`.
      on_error: 'raise', or 'skip' records that cannot be read.
      stored: whether boxes were drawn on the pixels as they lie in the file, before an EXIF turn.
      published: whether targets are those of DETR's authors, see `data.segments`.

    Raises:
      UserError: for an unknown name, data that is not prepared (with the command), or without boxes.
    """
    self.name, self._builder = name, open_builder(name, data_dir)
    features = self._builder.info.features
    self._objects = next((key for key in ('panoptic_objects', 'objects') if key in features), '')
    if not self._objects or 'image' not in features:
      raise UserError(f"the TFDS data set {name!r} has no features 'image' and 'objects', but: "
                      f'{", ".join(sorted(features))}')
    self._panoptic = 'panoptic_image' in features
    names = tuple(features[self._objects].feature['label'].names)
    if names[:1] == ('person',) and len(names) in (len(THINGS), len(THINGS + STUFF)):
      ids = (THINGS + STUFF)[:len(names)]
      categories = Categories(names, ids, tuple(i <= 90 for i in ids) if self._panoptic else None)
    else:
      categories = Categories(names, tuple(range(len(names))))
    self.categories = categories.with_slots(id_slots)
    self._decoder = Decoder(self._objects, len(names))
    self._labels = np.asarray([self.categories.labels[i] for i in categories.ids], np.int32)
    self._published = published and self._panoptic
    self._masks, self._on_error, self._stored = masks or self._published, on_error, stored

  def split(self, name: str) -> DetectionSplit:
    """Returns a split, such as 'train[:90%]'; reads each record once, for the sizes and boxes."""
    records_of = record_split(self._builder.info, self.name, name, self._decoder)
    if len(records_of) >= TELL:
      say(f'reading the sizes and boxes of the {len(records_of):,} images of {self.name}, {name}')

    def light(i: int) -> Record:
      try:
        return dataclasses.replace(records_of.read(i), content=b'', panoptic=b'')
      except UserError:
        if self._on_error == 'raise':
          raise
        none = np.zeros(0)
        return Record(b'', '', -1, (1, 1), none.reshape(0, 4), none, none, none, none)

    with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
      return self._split(records_of, list(pool.map(light, range(len(records_of)))))

  def _split(self, records_of, light: list[Record]) -> DetectionSplit:
    image_ids = np.asarray([record.image_id for record in light])
    if len(np.unique(image_ids)) < len(light) or image_ids.min(initial=0) < 0:
      image_ids = np.arange(1, len(light) + 1)

    def read(i: int) -> DetectionExample:
      record = records_of.read(i)
      masks = (lambda: segmentation.panoptic_masks(ids(record), record.ids, record.name)) if (
          self._masks and self._panoptic) else None
      return DetectionExample(record.content, record.name, i, int(image_ids[i]), record.boxes,
                              self._labels[record.labels], record.is_crowd, record.size, masks,
                              self._stored)

    def ids(record: Record) -> np.ndarray:
      return segmentation.panoptic_ids(record.panoptic, record.size, record.name, self._stored)

    def panoptic(i: int) -> tuple[np.ndarray, list[dict]]:
      record = records_of.read(i)
      return ids(record), [
          dict(id=int(n), category_id=self._category(label), iscrowd=int(crowd), area=float(area))
          for n, label, crowd, area in zip(record.ids, record.labels, record.is_crowd, record.areas)]

    counts = [len(r.labels) if self._published else int((~r.is_crowd.astype(bool) & _has_area(r)).sum())
              for r in light]
    return DetectionSplit(read, [r.size for r in light], counts, image_ids,
                          lambda: self._truth(light, image_ids), self._panoptic,
                          panoptic if self._panoptic else None)

  def _category(self, label: int) -> int:
    return self.categories.ids[self._labels[label]]

  def _truth(self, light: list[Record], image_ids: np.ndarray) -> dict:
    objects = []
    for record, number in zip(light, image_ids):
      fields = record.boxes, record.labels, record.is_crowd, record.areas
      for box, label, crowd, area in zip(*(field[_has_area(record)] for field in fields)):
        bbox = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
        objects.append(dict(image_id=int(number), category_id=self._category(label), bbox=bbox,
                            area=float(area), iscrowd=int(crowd)))
    return coco_annotations(self.categories, [r.size for r in light], image_ids,
                            [r.name for r in light], objects)
