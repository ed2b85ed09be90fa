"""What every source of detection data gives: images with boxes, and their truth in COCO's form."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from vit_jax.data import images
from vit_jax.data.sources import Split
from vit_jax.errors import UserError

UNUSED = 'N/A'  # the name of a label that no category has, as published for COCO's holes


@dataclasses.dataclass(frozen=True)
class Categories:
  """The categories of a data set.

  Attributes:
    names: of the classes, in the order of the labels.
    ids: the data set's own number of each.
    is_thing: of each class whether its objects are counted; None where the data does not tell.
  """
  names: tuple[str, ...]
  ids: tuple[int, ...]
  is_thing: tuple[bool, ...] | None = None

  @functools.cached_property
  def labels(self) -> dict[int, int]:
    """{category id: label}."""
    return {number: label for label, number in enumerate(self.ids) if self.names[label] != UNUSED}

  def things(self) -> 'Categories':
    """Returns the categories whose objects are counted; all, where the data does not tell."""
    kept = [i for i in range(len(self.ids)) if not self.is_thing or self.is_thing[i]]
    pick = lambda values: tuple(values[i] for i in kept)
    return Categories(pick(self.names), pick(self.ids), self.is_thing and pick(self.is_thing))

  def with_slots(self, slots: int) -> 'Categories':
    """Returns the categories with their ids as labels, of `slots`; the holes between them are unused.

    Raises:
      UserError: when an id does not fit.
    """
    if not slots:
      return self
    if min(self.ids) < 0 or max(self.ids) >= slots:
      raise UserError(f'data.id_slots={slots}: the category ids reach from {min(self.ids)} to '
                      f'{max(self.ids)}; set it to at least {max(self.ids) + 1}, or to 0')
    label = {number: i for i, number in enumerate(self.ids)}
    names = tuple(self.names[label[i]] if i in label else UNUSED for i in range(slots))
    things = self.is_thing and tuple(i in label and self.is_thing[label[i]] for i in range(slots))
    return Categories(names, tuple(range(slots)), things)

  def coco(self) -> list[dict]:
    """Returns `categories` as COCO's JSON has them."""
    things = self.is_thing or (None,) * len(self.ids)
    return [dict(id=i, name=name, **({} if thing is None else dict(isthing=int(thing))))
            for i, name, thing in zip(self.ids, self.names, things) if name != UNUSED]


@dataclasses.dataclass(frozen=True)
class DetectionExample:
  """An image that is not decoded yet, with its objects.

  Attributes:
    content: of an image file, or pixels, uint8 `[height, width, channels]`.
    name: for messages and pictures.
    index: number in the split.
    image_id: the data set's own number, or text.
    boxes: float64 `[n, 4]`, (left, top, right, bottom) in pixels, as annotated.
    labels: int32 `[n]`.
    is_crowd: bool `[n]`, boxes around groups, which are not training targets.
    size: (height, width) that the annotations tell, if they do.
    masks: returns bool `[n, height, width]`; None where there are none.
    stored: whether the boxes were drawn on the pixels as they lie in the file, before an EXIF turn.
  """
  content: bytes | np.ndarray
  name: str
  index: int
  image_id: int | str
  boxes: np.ndarray
  labels: np.ndarray
  is_crowd: np.ndarray
  size: tuple[int, int] | None = None
  masks: Callable[[], np.ndarray] | None = None
  stored: bool = False

  def image(self) -> Image.Image:
    """Decodes the image as RGB, the way up on which its boxes were drawn.

    That is upright as its EXIF tag says, or as `stored` says, and the other way where only that has the
    size that the annotations tell.

    Raises:
      UserError: when it is damaged, or not of the size that its annotations tell.
    """
    if not isinstance(self.content, bytes):
      return images.convert(images.from_array(self.content), 3)
    image = decode(self.content, self.name, self.size, self.stored)
    if self.size and image.size != self.size[::-1]:
      raise UserError(f'the image {self.name} (id {self.image_id}) is {image.width}x{image.height} '
                      f'pixels, but its annotations say {self.size[1]}x{self.size[0]}; mend the '
                      'annotations or put the right image there')
    return image


def decode(content: bytes, name: str, size: tuple[int, int] | None, stored: bool) -> Image.Image:
  """Returns an image file as RGB: upright as its EXIF tag says, or `stored`, as its pixels lie.

  The other way is taken where the image has not the (height, width) `size` otherwise.
  """
  ways = (images.decode_flat, images.decode) if stored else (images.decode, images.decode_flat)
  image = ways[0](content, 3, name)
  return image if not size or image.size == size[::-1] else ways[1](content, 3, name)


class DetectionSplit(Split):
  """A sequence of images with boxes, any of which is read at the same cost.

  Attributes:
    sizes: int `[n, 2]`, (height, width) of each image.
    counts: int `[n]`, training targets of each image.
    image_ids: int or text `[n]`.
    has_masks: whether examples have masks.
    panoptic: returns (segment ids int32 `[height, width]`, segments_info) of image i; None where the
      data is not panoptic.
    instances: returns, as `annotations` does, the instance annotations of the things of panoptic data;
      None where it has none. UserError where they do not fit it.
  """

  def __init__(self, read: Callable[[int], DetectionExample], sizes, counts, image_ids,
               annotations: Callable[[], dict], has_masks: bool = False, panoptic=None,
               instances: Callable[[], dict] | None = None):
    """Collects what describes the examples.

    Args:
      read: returns example i.
      sizes, counts, image_ids, has_masks, panoptic, instances: see above.
      annotations: returns the truth, see `annotations`.
    """
    super().__init__([len(image_ids)], read)
    self.sizes, self.counts = np.asarray(sizes, np.int32).reshape(-1, 2), np.asarray(counts, np.int32)
    self.image_ids, self.has_masks, self.panoptic = np.asarray(image_ids), has_masks, panoptic
    self.instances, self._annotations = instances, annotations

  def annotations(self) -> dict:
    """Returns what COCO's JSON would hold of this split: images, annotations (crowds too), categories.

    Image i of the split is entry i of `images`. Annotations are numbered from 1, since COCO's own
    evaluation takes number 0 for "no match".
    """
    return self._annotations()


class Source(Protocol):
  """A data set."""
  name: str
  categories: Categories

  def split(self, name: str) -> DetectionSplit:
    """Returns a split by its name, such as 'train', 'train[:90%]' or 'val+test'."""


def coco_annotations(categories: Categories, sizes, image_ids, file_names: Sequence[str],
                     objects: Sequence[dict]) -> dict:
  """Returns the truth of a split in COCO's form.

  Args:
    categories: of the data set.
    sizes: `[n, 2]`, (height, width).
    image_ids, file_names: n of each.
    objects: `image_id`, `category_id`, `bbox` [x, y, width, height], `area`, `iscrowd` and, where there
      is one, `segmentation`.
  """
  pictures = [dict(id=i, file_name=str(name), height=int(h), width=int(w))
              for i, name, (h, w) in zip(np.asarray(image_ids).tolist(), file_names, sizes)]
  return dict(images=pictures, categories=categories.coco(),
              annotations=[dict(one, id=number) for number, one in enumerate(objects, 1)])


def say(text: str) -> None:
  """Tells what was done to the data, on stderr: what is clipped or left out must not go unseen."""
  text = text.encode('utf-8', 'backslashreplace').decode('utf-8')  # names of files may be any bytes
  print(text, file=sys.stderr, flush=True)
