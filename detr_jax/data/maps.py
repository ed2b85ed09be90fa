"""From images with label maps to batches of few static shapes.

A training batch holds windows; an evaluated one whole images, at the upper left of canvases as large as
the images of a group, rounded up. A batch is a flat dict:

  image   uint8 [batch, height, width, 3]
  size    int32 [batch, 2], height and width of the image on it
  labels  uint8 [batch, height, width], the class of each pixel, 255 where none counts
  areas   uint8 [batch, height, width], of an evaluated batch, see `regions.area_classes`
  mask    float32 [batch], 1 for examples and 0 for padding rows
  index   int32 [batch], number of the example in its split, -1 in padding rows
"""

import os
import sys

import numpy as np
from jax.sharding import Mesh

from detr_jax.data import label_checking, regions, transforms
from detr_jax.data.config import segmentation_data
from detr_jax.data.info import SegmentationInfo
from detr_jax.data.pipeline import Test, Train
from detr_jax.data.sample import PixelMap, Sample
from detr_jax.data.sources import label_maps
from detr_jax.data.sources.digit_maps import DigitMaps
from detr_jax.data.sources.label_maps import IGNORED, LabelExample
from detr_jax.data.sources.tfds_maps import TFDSMaps
from detr_jax.ops.windows import Inference
from vit_jax import config as config_lib, ranges, sharding
from vit_jax.data import images
from vit_jax.data.pipeline import Data, check_splits, eval_rows
from vit_jax.data.reader import Batches, Reader
from vit_jax.errors import UserError

BUILT_IN = dict(digit_maps=DigitMaps)
MULTIPLE = 32  # of the sides of canvases, where windows make them of no matter


def open_source(config):
  """Returns the source that `config.data` names; UserError when it is none."""
  name = config['source']
  if name in BUILT_IN:
    return BUILT_IN[name]()
  if label_maps.splits(name):
    return label_maps.LabelMaps(name, config['zero_ignored'], tuple(config['ignore']))
  if os.path.isdir(name) and not os.path.isfile(os.path.join(name, 'dataset_info.json')):
    raise UserError(f'{name} is no folder with images and label PNGs; put them into {name}/images/SPLIT '
                    f'and {name}/labels/SPLIT')
  return TFDSMaps(name, config['data_dir'], config['num_classes'], config['zero_ignored'],
                  tuple(config['ignore']))


def build(config, seed: int, mesh: Mesh, eval_batch: int = 0) -> Data:
  """Opens the data of a config.

  Args:
    config: `config.data`, see `segmentation_data`.
    seed: of the order and the transforms.
    mesh: on which the batches lie.
    eval_batch: rows of a batch that is evaluated, at most; 0: `config.batch_size`.

  Raises:
    UserError: an unknown key, or a source, split, transform or batch size that cannot be used.
  """
  config_lib.check_section('data', config, segmentation_data('', 1, (1, 1)))
  ranges.check('data.', dict(window=config.window), dict(window=tuple[int, int]),
               dict(window='[1, 65535]'))
  sharding.check_batch(config.batch_size, mesh)
  inference, chain = Inference(**config.inference), transforms.make(config.transforms)
  source, window = open_source(config), tuple(config.window)
  train = source.split(config.train)
  evaluated = {key: source.split(config[key]) for key in ('validation', 'test') if config[key]}
  check_splits(config, [train], evaluated)
  for note in label_checking.look(train, config.train, source.classes, config.on_error):
    print(f'{source.name}: {note}', file=sys.stderr)
  info = SegmentationInfo(
      source.name, source.classes, 3, window, len(train), len(evaluated['test']), tuple(config.mean),
      tuple(config.std), colours=colours(source), inference=dict(config.inference))

  def batches(split, chain, canvas, size, areas=False):
    return Batches(Reader([split], filler(chain), shapes(canvas, areas), config.on_error), size, mesh)

  stream = Train([(batches(train, chain, window, config.batch_size), np.arange(len(train)))], seed)
  tests = {}
  for name, split in evaluated.items():
    groups = grouped(split.sizes, multiple(inference))
    rows = eval_rows(eval_batch or config.batch_size, max(len(found) for _, found in groups), mesh)
    tests[name] = Test([(batches(split, (), canvas, rows, areas=True), found)
                        for canvas, found in groups])
  return Data(info, stream, tests, stream.shapes, config.batch_size)


def multiple(inference: Inference) -> int:
  """Returns to what multiple the sides of a canvas are rounded up; without windows, padding is seen."""
  return MULTIPLE if inference.window else 1


def grouped(sizes: np.ndarray, unit: int) -> list[tuple[tuple[int, int], np.ndarray]]:
  """Returns (canvas, its examples int `[n]`) of images of sizes `[n, 2]`, by the sizes rounded up."""
  rounded = -(-sizes // unit) * unit
  canvases, which = np.unique(rounded, axis=0, return_inverse=True)
  return [(tuple(canvas), np.flatnonzero(which.reshape(-1) == k))
          for k, canvas in enumerate(canvases.tolist())]


def colours(source) -> tuple[tuple[int, int, int], ...]:
  """Returns the colour of each class that the data's legend gives; () where it gives none."""
  own = source.legend.colours if hasattr(source, 'legend') else None
  return () if own is None else tuple(map(tuple, own.tolist()))


def shapes(canvas: tuple[int, int], areas: bool = False) -> dict:
  """Returns {key of a batch: (shape of a row, dtype)}, with `areas` those of an evaluated one."""
  own = dict(image=((*canvas, 3), np.uint8), size=((2,), np.int32), labels=(canvas, np.uint8),
             mask=((), np.float32), index=((), np.int32))
  return dict(own, areas=(canvas, np.uint8)) if areas else own


def prepare(example: LabelExample, chain, rng) -> Sample:
  """Returns an image with its labels, after the transforms."""
  image = example.image()
  labels = PixelMap(example.labels((image.height, image.width)), IGNORED)
  sample = Sample(image, np.zeros((0, 4)), np.zeros(0, np.int32), maps=dict(labels=labels))
  for transform in chain:
    sample = transform(sample, rng)
  return sample


def filler(chain):
  """Returns what writes an example, or padding, into a row."""
  def fill(row, example, rng):
    row['image'][...], row['labels'][...], canvas = 0, IGNORED, row['labels'].shape
    row['mask'][...], row['index'][...] = (0., -1) if example is None else (1., example.index)
    row['size'][...] = canvas
    if example is None:
      return
    sample = prepare(example, chain, rng)
    height, width = sample.image.height, sample.image.width
    if height > canvas[0] or width > canvas[1]:
      raise UserError('{} is {}x{} after data.transforms, larger than data.window={}x{}; let the last '
                      'transform be dict(name="window", size=data.window)'.format(
                          example.name, height, width, *canvas))
    row['size'][...] = height, width
    row['image'][:height, :width] = images.to_array(sample.image)
    labels = row['labels'][:height, :width] = sample.maps['labels'].array
    if 'areas' in row:
      row['areas'][...] = 0
      row['areas'][:height, :width] = regions.area_classes(labels)
  return fill
