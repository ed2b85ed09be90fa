"""Images with a class for every pixel: a folder of images and of label PNGs.

    ROOT/images/train/NAME.jpg     ROOT/labels/train/NAME.png      your own; `annotations/` as well
    ROOT/leftImg8bit/train/...     ROOT/gtFine/train/..._gtFine_labelTrainIds.png  Cityscapes
    ROOT/JPEGImages/NAME.jpg       ROOT/SegmentationClassContext/NAME.png  Pascal Context, of the names
                                   in ROOT/ImageSets/SegmentationContext/train.txt
    ROOT/classes.txt               a class a line, by their ids: NAME, or RED GREEN BLUE NAME

A label PNG holds the id of the class of each pixel, gray or as palette, or, where classes.txt gives
colours, the colour of its class.
"""

import dataclasses
import functools
import glob
import io
import os
import re

import numpy as np
from PIL import Image

from detr_jax.data.sources import voc
from vit_jax.data import images, listing
from vit_jax.data.sources.base import Split, chosen, parse_split
from vit_jax.errors import UserError

IGNORED = 255  # the label of pixels that count nowhere
LABELS = ('labels', 'annotations')
LEGEND = 'classes.txt'
CITYSCAPES = ('road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign',
              'vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'train',
              'motorcycle', 'bicycle')
CONTEXT = ('background', 'aeroplane', 'bag', 'bed', 'bedclothes', 'bench', 'bicycle', 'bird', 'boat',
           'book', 'bottle', 'building', 'bus', 'cabinet', 'car', 'cat', 'ceiling', 'chair', 'cloth',
           'computer', 'cow', 'cup', 'curtain', 'dog', 'door', 'fence', 'floor', 'flower', 'food',
           'grass', 'ground', 'horse', 'keyboard', 'light', 'motorbike', 'mountain', 'mouse', 'person',
           'plate', 'platform', 'pottedplant', 'road', 'rock', 'sheep', 'shelves', 'sidewalk',
           'sign', 'sky', 'snow', 'sofa', 'table', 'track', 'train', 'tree', 'truck', 'tvmonitor',
           'wall', 'water', 'window', 'wood')


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where a data set keeps its files.

  Attributes:
    images, labels: folders below its root; no `labels`: the first of `LABELS` that is there.
    endings: of an image's and of its label's name, without the suffix.
    lists: folder of SPLIT.txt, a name a line; '' where each split has folders of its own.
    names: of the classes; none: they are in `LEGEND`.
  """
  images: str = 'images'
  labels: str = ''
  endings: tuple[str, str] = ('', '')
  lists: str = ''
  names: tuple[str, ...] = ()


OWN = Layout()
PUBLISHED = (
    Layout('leftImg8bit', 'gtFine', ('_leftImg8bit', '_gtFine_labelTrainIds'), names=CITYSCAPES),
    Layout('JPEGImages', 'SegmentationClassContext', names=CONTEXT,
           lists=os.path.join('ImageSets', 'SegmentationContext')))


@dataclasses.dataclass(frozen=True)
class Legend:
  """The classes of a data set.

  Attributes:
    names: in the order of the labels.
    colours: uint8 `[classes, 3]` of the label PNGs; None where they hold ids.
  """
  names: tuple[str, ...]
  colours: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class LabelExample:
  """An image that is not decoded yet, with the class of each pixel.

  Attributes:
    content: of an image file, or pixels uint8 `[height, width, channels]`.
    name: for messages and pictures.
    index: number in the split.
    label: path of the label PNG, its content, or labels uint8 `[height, width]`.
    source: that reads it.
  """
  content: bytes | np.ndarray
  name: str
  index: int
  label: str | bytes | np.ndarray
  source: 'LabelMaps | None' = None

  def image(self) -> Image.Image:
    """Decodes the image as RGB; UserError when it is damaged."""
    if isinstance(self.content, bytes):
      return images.decode(self.content, 3, self.name)
    return images.convert(images.from_array(self.content), 3)

  def labels(self, size: tuple[int, int]) -> np.ndarray:
    """Returns uint8 `[height, width]`, `IGNORED` where nothing counts.

    Raises:
      UserError: for a map of another size, damaged, or with an unknown id or colour.
    """
    where = self.label if isinstance(self.label, str) else self.name
    found = self.label
    if isinstance(found, str | bytes):
      found = self.source.labels(images.read_file(where) if isinstance(found, str) else found, where)
    if found.shape != tuple(size):
      raise UserError('the labels {} are {}x{}, their image is {}x{}; give both one size'.format(
          where, *found.shape, *size))
    return found


class LabelSplit(Split):
  """A sequence of images with label maps; `sizes`, int `[n, 2]`, is (height, width) of each."""

  def __init__(self, read, sizes):
    """Takes what reads example i, and the sizes."""
    super().__init__([len(sizes)], read)
    self.sizes = np.asarray(sizes, np.int32).reshape(-1, 2)


class LabelMaps:
  """A folder of images and label PNGs, see the top of the file."""

  def __init__(self, root: str, zero_ignored: bool = False, ignore: tuple[int, ...] = (),
               legend: Legend | None = None):
    """Reads the legend.

    Args:
      root: the folder.
      zero_ignored: whether id 0 counts nowhere and the classes begin with 1, as in ADE20K.
      ignore: ids that count nowhere, beside 255.
      legend: None: that of the folder.

    Raises:
      UserError: for a folder without labels, or a legend that cannot be read.
    """
    self.root, self.name = root, root
    self._zero, self._ignore = zero_ignored, (*ignore, IGNORED)
    self._layout = layout_of(root)
    self.legend = legend or (
        Legend(self._layout.names) if self._layout.names else read_legend(os.path.join(root, LEGEND)))
    self.classes = self.legend.names
    if len(self.classes) > IGNORED - len(self._ignore):
      raise UserError(f'{root} has {len(self.classes)} classes; at most {IGNORED} are supported')

  @functools.cached_property
  def _grays(self) -> bool:
    """Whether the legend's colours are grays, so that a gray PNG holds them, and not ids."""
    return bool((self.legend.colours == self.legend.colours[:, :1]).all())

  def pairs(self, split: str) -> list[tuple[str, str]]:
    """Returns (image, label PNG) of a split; UserError where one has no partner, or there are none."""
    found, lonely = self.partners(split)
    if lonely:
      raise UserError(f'{len(lonely)} image(s) of {split!r} in {self.root} have no labels, such as '
                      f'{lonely[0]}; python -m vit_jax.data --check {self.root} lists them')
    return found

  def partners(self, split: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Returns ([(image, label PNG)], [what has no partner]) of a split; UserError where it is not."""
    place = os.path.join(self.root, self._layout.lists or self._layout.images, split)
    if not (os.path.isfile(f'{place}.txt') if self._layout.lists else os.path.isdir(place)):
      raise UserError(f'{self.root} has no split {split!r}; it has '
                      f'{", ".join(splits(self.root)) or "none"}')
    pairs = [(path, self._label(path)) for path in self._images(place)]
    return ([pair for pair in pairs if os.path.isfile(pair[1])],
            [path for path, label in pairs if not os.path.isfile(label)])

  def _images(self, place: str) -> list[str]:
    if not self._layout.lists:
      return listing.images_below(place).files
    return [os.path.join(self.root, self._layout.images, f'{stem}.jpg')
            for stem in voc.stems(f'{place}.txt')]

  def _label(self, path: str) -> str:
    inner = os.path.splitext(os.path.relpath(path, os.path.join(self.root, self._layout.images)))[0]
    stem = inner.removesuffix(self._layout.endings[0]) + self._layout.endings[1]
    return os.path.join(self.root, self._layout.labels or label_folder(self.root), stem + '.png')

  def split(self, name: str) -> LabelSplit:
    """Returns a split, such as 'train', 'train[:90%]' or 'val+test'; UserError for no such folder."""
    parts = parse_split(name)
    whole = [self.pairs(part.name) for part in parts]
    index = chosen([(len(pairs), part) for pairs, part in zip(whole, parts)])
    every = [pair for pairs in whole for pair in pairs]
    pairs = [every[i] for i in index]

    def read(i: int) -> LabelExample:
      path, label = pairs[i]
      return LabelExample(images.read_file(path), path, i, label, self)

    return LabelSplit(read, [size_of(path) for path, _ in pairs])

  def labels(self, content: bytes, path: str) -> np.ndarray:
    """Returns the labels of a PNG, uint8 `[height, width]`; UserError for an unknown id or colour.

    Args:
      content: of the file.
      path: for messages.
    """
    try:
      with Image.open(io.BytesIO(content)) as file:
        file.load()
        gray = file.mode in ('L', 'P', 'I', 'I;16', '1')
        values = np.asarray(file if gray else file.convert('RGB'))
    except images.DAMAGE as error:
      raise images.damaged(path, error) from None
    if gray and self.legend.colours is not None and (file.mode == 'P' or self._grays):
      values, gray = np.asarray(file.convert('RGB')), False
    return self._of_ids(values, path) if gray else self._of_colours(values, path)

  def _of_ids(self, values, path):
    ids = values.astype(np.int64)
    labels = ids - 1 if self._zero else ids
    ignored = np.isin(ids, self._ignore) | (self._zero & (ids == 0))
    out = np.where((labels >= 0) & (labels < len(self.classes)) & ~ignored, labels, IGNORED)
    known = (out != IGNORED) | ignored
    if not known.all():
      first = int(ids[~known][0])
      raise UserError(f'{path} has the id {first}, which is none of the {len(self.classes)} classes of '
                      f'{self.root} and is not ignored; add it to {LEGEND}, or to data.ignore')
    return out.astype(np.uint8)

  def _of_colours(self, values, path):
    if self.legend.colours is None:
      raise UserError(f'{path} holds colours, but {os.path.join(self.root, LEGEND)} gives none; write a '
                      'line RED GREEN BLUE NAME for each class')
    packed = lambda rgb: (rgb.astype(np.int64) * [65536, 256, 1]).sum(-1)
    keys, wanted = packed(values), packed(self.legend.colours)
    order = np.argsort(wanted)
    at = np.clip(np.searchsorted(wanted[order], keys), 0, len(order) - 1)
    out, known = order[at], wanted[order][at] == keys
    void = (keys == 0) | (keys == packed(np.asarray([255, 255, 255])))  # black or white: unlabelled
    if not (known | void).all():
      first = values[~(known | void)][0].tolist()
      raise UserError(f'{path} has the colour {first}, which no class of '
                      f'{os.path.join(self.root, LEGEND)} has; add it there')
    return np.where(known, out, IGNORED).astype(np.uint8)


def label_folder(root: str) -> str:
  """Returns which of the names of label folders is there; UserError where none is."""
  for name in LABELS:
    if os.path.isdir(os.path.join(root, name)):
      return name
  raise UserError(f'{root} has no folder of label PNGs; put them into {root}/labels/SPLIT, beside '
                  f'{root}/images/SPLIT')


def layout_of(root: str) -> Layout:
  """Returns which of the published layouts a folder has, by its folder of labels, or `OWN`."""
  return next((layout for layout in PUBLISHED if os.path.isdir(os.path.join(root, layout.labels))), OWN)


def splits(root: str) -> list[str]:
  """Returns the splits of a folder, by name."""
  layout = layout_of(root)
  if layout.lists:
    found = glob.glob(os.path.join(glob.escape(os.path.join(root, layout.lists)), '*.txt'))
    return sorted(os.path.basename(path).removesuffix('.txt') for path in found)
  folder = os.path.join(root, layout.images)
  return listing.folders_in(folder) if os.path.isdir(folder) else []


def holds(root: str) -> bool:
  """Tells whether a folder has images and label PNGs in a known layout; boxes lie in JSON or text."""
  if layout_of(root) != OWN:
    return True
  first = lambda name, pattern: next(glob.iglob(
      os.path.join(glob.escape(root), name, pattern), recursive=True), '')
  return os.path.isdir(os.path.join(root, 'images')) and any(
      first(name, '**/*.png') and not first(name, '*.json') for name in LABELS)


@functools.cache
def size_of(path: str) -> tuple[int, int]:
  """Returns (height, width) of the upright image, from the header of the file."""
  try:
    with Image.open(path) as file:
      turned = images.orientation(file) > 4
      return file.size if turned else file.size[::-1]
  except images.DAMAGE as error:
    raise images.damaged(path, error) from None


def read_legend(path: str) -> Legend:
  """Returns the classes of a text file; UserError where it is missing or unclear."""
  try:
    with open(path, encoding='utf-8-sig') as file:
      lines = [line.strip() for line in file if line.strip()]
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'the classes cannot be read from {path} ({error}); write a line for each, in the '
                    'order of the ids: NAME, or RED GREEN BLUE NAME') from None
  found = [re.fullmatch(r'(\d+)[ ,]+(\d+)[ ,]+(\d+)[ ,]+(.+)', line) for line in lines]
  if not lines or any(found) and not all(found):
    raise UserError(f'{path} must name a class a line, all with a colour (RED GREEN BLUE NAME) or none')
  if not all(found):
    return Legend(tuple(lines))
  colours = np.asarray([[int(n) for n in match.groups()[:3]] for match in found])
  if colours.max() > 255 or len({tuple(c) for c in colours.tolist()}) < len(colours):
    raise UserError(f'{path}: colours must differ, and be numbers from 0 to 255')
  return Legend(tuple(match.group(4) for match in found), colours.astype(np.uint8))
