"""Images with label maps that TensorFlow Datasets has prepared, such as scene_parse150."""

import concurrent.futures
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from detr_jax.data.sources.base import say
from detr_jax.data.sources.label_maps import LabelExample, LabelMaps, LabelSplit, Legend
from detr_jax.data.sources.tfds import TELL, check_features, parsed, size_of
from vit_jax.data import images
from vit_jax.data.sources.tfds import open_builder, record_split
from vit_jax.errors import UserError

IMAGES = ('image', 'image_left')
MAPS = ('annotation', 'segmentation_label', 'segmentation_mask', 'label')


class Pair(NamedTuple):
  """An image file, the label PNG of its pixels, and a name for messages."""
  content: bytes
  label: bytes
  name: str


@dataclasses.dataclass(frozen=True)
class Decoder:
  """Makes sense of the features of a record: `image` and `label` are their names."""
  image: str
  label: str
  real = ''  # ImageNet's second labels are not used here

  def resolve(self, content: bytes, where: str) -> 'Decoder':
    """Returns itself; FeatureError when a record holds no image or no labels."""
    check_features(content, where, (self.image, self.label))
    return self

  def __call__(self, content: bytes, where: Callable[[], str]) -> Pair:
    """Returns what is in a record; UserError for a damaged one."""
    features = parsed(content, where)
    return Pair(features[self.image][0], features[self.label][0], where())


class TFDSMaps(LabelMaps):
  """A prepared TFDS data set of images with label maps, by name."""

  def __init__(self, name: str, data_dir: str, num_classes: int, zero_ignored: bool = False,
               ignore: tuple[int, ...] = ()):
    """Reads what TFDS wrote beside the data.

    Args:
      name: such as 'scene_parse150', or the folder that holds `dataset_info.json`.
      data_dir: where TFDS keeps its data; '' for its own default.
      num_classes: which TFDS does not tell of label maps.
      zero_ignored, ignore: as of `LabelMaps`.

    Raises:
      UserError: for an unknown name, data that is not prepared (with the command), or without maps.
    """
    self._builder = open_builder(name, data_dir)
    features = self._builder.info.features
    there = {key for key, feature in features.items() if type(feature).__name__ == 'Image'}
    image = next((key for key in IMAGES if key in there), '')
    label = next((key for key in MAPS if key in there), '')
    if not (image and label):
      raise UserError(f'the TFDS data set {name!r} has no image with a label map, but: '
                      f'{", ".join(sorted(features))}')
    if num_classes < 2:
      raise UserError(f'TFDS does not tell how many classes the label maps of {name!r} have; set '
                      'data.num_classes')
    super().__init__(name, zero_ignored, ignore, Legend(tuple(map(str, range(num_classes)))))
    self._decoder = Decoder(image, label)

  def split(self, name: str) -> LabelSplit:
    """Returns a split, such as 'train[:90%]'; reads each record once, for the sizes."""
    pairs = record_split(self._builder.info, self.name, name, self._decoder)
    if len(pairs) >= TELL:
      say(f'reading the sizes of the {len(pairs):,} images of {self.name}, {name}')

    def size(i: int) -> tuple[int, int]:
      pair = pairs.read(i)
      return size_of(pair.content, pair.name)

    def read(i: int) -> LabelExample:
      pair = pairs.read(i)
      return LabelExample(pair.content, pair.name, i, pair.label, self)

    with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
      return LabelSplit(read, list(pool.map(size, range(len(pairs)))))
