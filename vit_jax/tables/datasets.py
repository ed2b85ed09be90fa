"""Sizes of published data sets: what a plan needs to know before the data is at hand."""

import dataclasses
from collections.abc import Mapping

from vit_jax.data.sources.base import parse_split
from vit_jax.errors import unknown
from vit_jax.data.sources import vtab


@dataclasses.dataclass(frozen=True)
class Size:
  """Classes, images of each split, and (height, width) of the commonest image for plans that ask."""
  classes: int
  splits: Mapping[str, int]
  image_size: tuple[int, int] | None = None

  @property
  def images(self) -> int:
    """Of the largest split, which papers train on."""
    return max(self.splits.values())

  def count(self, split: str) -> int:
    """Returns the images of a split such as 'train[:98%]'; UserError for an unknown one."""
    total = 0
    for part in parse_split(split):
      if part.name not in self.splits:
        raise unknown('split', part.name, self.splits)
      start, stop = part.bounds(self.splits[part.name])
      total += stop - start
    return total


# TFDS's own counts; JFT-300M as in the ViT paper (section 4.1: 18k classes, 303M images), its classes as
# in arXiv:1707.02968. The papers print no size of its validation part: the number here is nobody's.
COCO = dict(train2017=118_287, val2017=5_000), (480, 640)  # images without boxes are trained on, too
SIZES = dict(
    ade20k=Size(150, dict(training=20_210, validation=2_000), (512, 683)),
    cifar10=Size(10, dict(train=50_000, test=10_000)),
    cifar100=Size(100, dict(train=50_000, test=10_000)),
    cityscapes=Size(19, dict(train=2_975, val=500), (1024, 2048)),
    context=Size(60, dict(train=4_998, val=5_105), (375, 500)),
    coco=Size(80, *COCO), coco_panoptic=Size(133, *COCO),
    imagenet2012=Size(1_000, dict(train=1_281_167, validation=50_000)),
    imagenet21k=Size(21_843, dict(full=14_197_122)),
    jft=Size(18_291, dict(train=303_000_000, validation=50_000)),
    oxford_flowers102=Size(102, dict(train=1_020, validation=1_020, test=6_149)),
    oxford_iiit_pet=Size(37, dict(train=3_680, test=3_669)))


def size(source: str) -> Size:
  """Returns the size of a published data set, by the name that a config gives it.

  Raises:
    UserError: for an unknown one.
  """
  if source.startswith('vtab/'):
    task = vtab.task(source.removeprefix('vtab/'))
    return Size(task.num_classes, dict(train=1_000, train800=800, val200=200))
  if source not in SIZES:
    raise unknown('published data set', source, SIZES)
  return SIZES[source]
