"""From images with boxes to batches of few static shapes.

An image lies at the top left of a canvas, an array of fixed size; the rest is zero. Every step uses one
canvas, on all processes, chosen as a function of (seed, step) as often as images fit it best; so a run
compiles once for each canvas, and a restart needs no state but the step. A batch is a flat dict:

  image          uint8 [batch, height, width, 3], of the canvas
  size           int32 [batch, 2], height and width of the image on it
  mask           float32 [batch], 1 for examples and 0 for padding rows (their size is the canvas)
  boxes          float32 [batch, max_boxes, 4], (centre x, centre y, width, height) as shares of `size`;
                 real ones first, then 0
  labels         int32 [batch, max_boxes], -1 where there is no box
  original_size  int32 [batch, 2], height and width of the file
  index          int32 [batch], number of the example in its split, -1 in padding rows
  masks          uint8 [batch, max_boxes, height, ceil(width / 8)], bits packed along the width
                 (`ops.masks.pack`); only of training, and where data.masks
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jax.sharding import Mesh

from detr_jax.data import limits, transforms
from detr_jax.data.config import detection_data
from detr_jax.data.info import DetectionInfo
from detr_jax.data.sample import Sample, areas, resize
from detr_jax.data.sources import DetectionExample, DetectionSplit, open_source
from detr_jax.data.sources.base import say
from detr_jax.ops import boxes, masks
from vit_jax import config as config_lib, ranges, sharding
from vit_jax.data import images
from vit_jax.data.order import Mixture, Shuffled
from vit_jax.data.pipeline import Data, ahead, check_splits, draw_rng, eval_rows
from vit_jax.data.reader import Batch, Batches, Reader, Shapes
from vit_jax.errors import UserError

Canvas = tuple[int, int]
TOLD = .99  # an image that is shrunk by less is not told of: it may be a matter of rounding
SMALLEST = .001  # share of the images below which a canvas is not worth compiling for


def build(config, seed: int, mesh: Mesh, eval_batch: int = 0) -> Data:
  """Opens the data of a config.

  Args:
    config: `config.data`, see `detection_data`.
    seed: of the order and the transforms.
    mesh: on which the batches lie.
    eval_batch: rows of a batch that is evaluated, at most; 0: `config.batch_size`.

  Raises:
    UserError: an unknown key, or a source, split, transform, canvas or batch size that cannot be used.
  """
  config_lib.check_section('data', config, detection_data('', 1, ()))
  sharding.check_batch(config.batch_size, mesh)
  chain, test_chain = transforms.make(config.transforms), transforms.make(config.test_transforms)
  transforms.check_fixed(test_chain)
  canvases = check_canvases(config.canvases, 'canvases')
  test_canvases = check_canvases(config.test_canvases or config.canvases, 'test_canvases')
  source = open_source(config)
  train = source.split(config.train)
  evaluated = {key: source.split(config[key]) for key in ('validation', 'test') if config[key]}
  check_splits(config, [train], evaluated)
  check_objects(config, train)
  limit = box_limit(config, train)
  info = DetectionInfo(
      source.name, source.categories.names, 3, canvases[0], len(train), len(evaluated['test']),
      tuple(config.mean), tuple(config.std), category_ids=source.categories.ids,
      is_thing=source.categories.is_thing or (),
      canvases=canvases, test_canvases=test_canvases, max_boxes=limit, masks=config.masks,
      box_counts=limits.histogram(train.counts),
      test_box_counts=limits.histogram(evaluated['test'].counts),
      test_transforms=tuple(map(dict, config.test_transforms)), panoptic=train.panoptic is not None)

  def batches(split, chain, canvas, size, with_masks, published=False):
    wanted = shapes(canvas, limit, with_masks)
    return Batches(Reader([split], filler(chain, published), wanted, config.on_error), size, mesh)

  groups = grouped(train, chain, canvases, max(config.batch_size, SMALLEST * len(train)))
  tell_shrunk(train, chain, groups, 'canvases', 'training')
  published = config.get('segments') == 'published' and info.panoptic
  stream = Train([(batches(train, chain, canvas, config.batch_size, config.masks, published), members)
                  for canvas, members in groups], seed)
  tests = {}
  for name, split in evaluated.items():
    groups = grouped(split, test_chain, test_canvases, 1)
    tell_shrunk(split, test_chain, groups, 'test_canvases', name)
    rows = eval_rows(eval_batch or config.batch_size, max(len(found) for _, found in groups), mesh)
    tests[name] = Test([(batches(split, test_chain, canvas, rows, False), found)
                        for canvas, found in groups])
  return Data(info, stream, tests, stream.shapes, config.batch_size)


class Train:
  """The endless training stream: each step of one canvas, each canvas in an order of its own."""

  def __init__(self, groups: Sequence[tuple[Batches, np.ndarray]], seed: int):
    """Takes (batches, examples `[n]`) of each canvas, and the seed of the order and the transforms."""
    self._groups, self._seed = groups, seed
    self.reader, self.shapes = groups[0][0].reader, groups[0][0].reader.shapes
    weights = np.asarray([len(members) for _, members in groups]) / sum(len(m) for _, m in groups)
    self._orders = [Shuffled([len(members)], seed, stream=k) for k, (_, members) in enumerate(groups)]
    self._turns = Mixture([int] * len(groups), weights.tolist(), seed, lanes=1)  # (canvas, its own step)

  def canvases(self) -> list[tuple[Canvas, int]]:
    """Returns (canvas, number of its images)."""
    return [(batches.reader.shapes['image'][0][:2], len(members)) for batches, members in self._groups]

  def turn(self, step: int) -> tuple[int, int]:
    """Returns (canvas, how many steps of it came before) of a step."""
    return self._turns(0, step)

  def example(self, step: int, row: int) -> tuple[int, int]:
    """Returns (0, example) of a row of a step's global batch."""
    canvas, own = self.turn(step)
    batches, members = self._groups[canvas]
    return 0, int(members[self._orders[canvas](own * batches.batch_size + row)])

  def _start(self, step: int):
    batches, _ = self._groups[self.turn(step)[0]]
    return batches, batches.start(lambda row: self.example(step, row),
                                  lambda row: draw_rng(self._seed, step, row))

  def after(self, step: int, last: int) -> Iterator[tuple[int, Batch]]:
    """Yields (step, batch) from `step` up to, not including, `last`; reads ahead meanwhile."""
    yield from ahead(range(step, last), self._start, lambda found: found[0].finish(found[1]))


class Test:
  """A split that is evaluated, once through, canvas by canvas; the last batch of each is padded, with
  mask 0."""

  def __init__(self, groups: Sequence[tuple[Batches, np.ndarray]]):
    """Takes (batches, examples `[n]`) of each canvas."""
    self._groups, self.split = groups, groups[0][0].reader.splits[0]

  def __len__(self) -> int:
    """Examples of the split."""
    return sum(len(members) for _, members in self._groups)

  def _start(self, place: tuple[int, int]):
    (batches, members), first = self._groups[place[0]], place[1]
    return batches, batches.start(
        lambda row: (0, int(members[first + row]) if first + row < len(members) else -1))

  def __iter__(self) -> Iterator[Batch]:
    places = [(k, first) for k, (batches, members) in enumerate(self._groups)
              for first in range(0, len(members), batches.batch_size)]
    for _, batch in ahead(places, self._start, lambda found: found[0].finish(found[1])):
      yield batch


def check_canvases(canvases, key: str) -> tuple[Canvas, ...]:
  """Returns the canvases as tuples; UserError for none, or one that is no pair of sizes."""
  ranges.check('data.', {key: canvases}, {key: Sequence[tuple[int, int]]}, {key: '[1, 65535]'})
  if not canvases:
    raise UserError(f'data.{key}={tuple(canvases)} must be pairs of height and width, such as '
                    '((800, 1344), (1344, 800))')
  return tuple(tuple(canvas) for canvas in canvases)


def check_objects(config, split: DetectionSplit) -> None:
  """Raises UserError where there is nothing to find, or masks are wanted and some object has none."""
  if not split.counts.any():
    raise UserError(f'data.train={config.train!r} of {config.source} contains no boxes')
  if config.masks and not split.has_masks:
    raise UserError(f'data.masks is set, but not every object of {config.source} has a segmentation; '
                    'add them, or set data.masks=false')


def box_limit(config, split: DetectionSplit) -> int:
  """Returns the boxes of a row; tells how many images have more."""
  limit = config.max_boxes or max(-(-int(split.counts.max(initial=0)) // 8) * 8, 8)
  over = split.counts[split.counts > limit]
  if len(over):
    say(f'data.max_boxes={limit}: {len(over)} training image(s) have more boxes, up to {over.max()}; '
        f'{int((over - limit).sum())} of {split.counts.sum()} boxes are left out, the smallest of each')
  return limit


def shapes(canvas: Canvas, limit: int, with_masks: bool) -> Shapes:
  """Returns {key of a batch: (shape of a row, dtype)}."""
  height, width = canvas
  out = dict(image=((height, width, 3), np.uint8), size=((2,), np.int32), mask=((), np.float32),
             boxes=((limit, 4), np.float32), labels=((limit,), np.int32),
             original_size=((2,), np.int32), index=((), np.int32))
  return out | (dict(masks=((limit, height, -(-width // 8)), np.uint8)) if with_masks else {})


def grouped(split: DetectionSplit, chain, canvases: Sequence[Canvas],
            least: float) -> list[tuple[Canvas, np.ndarray]]:
  """Returns (canvas, its examples int `[n]`) for every canvas that is used.

  Args:
    split: the images.
    chain: transforms, which tell how large an image becomes.
    canvases: to choose from.
    least: a canvas with fewer images gives them to the largest group.
  """
  sizes, which = np.unique(split.sizes, axis=0, return_inverse=True)
  best = np.asarray([fitting(transforms.extent(chain, *map(int, size)), canvases) for size in sizes])
  best = best[which.reshape(-1)]
  counts = np.bincount(best, minlength=len(canvases))
  best[(counts < least)[best]] = counts.argmax()
  return [(canvas, found) for k, canvas in enumerate(canvases)
          if len(found := np.flatnonzero(best == k))]


def fitting(size: tuple[int, int], canvases: Sequence[Canvas]) -> int:
  """Returns which canvas suits an image: the smallest that holds it, or shrinks it least."""
  shrink = [min(canvas[0] / size[0], canvas[1] / size[1], 1.) for canvas in canvases]
  return min(range(len(canvases)), key=lambda k: (-shrink[k], canvases[k][0] * canvases[k][1]))


def tell_shrunk(split: DetectionSplit, chain, groups: Sequence[tuple[Canvas, np.ndarray]], key: str,
                kind: str) -> None:
  """Tells how many images of a split must be made smaller than the transforms make them."""
  extents = {size: transforms.extent(chain, *size) for size in set(map(tuple, split.sizes.tolist()))}
  shrink, worst = np.ones(len(split)), (1., (0, 0))
  for (height, width), members in groups:
    for i in members:
      size = extents[tuple(split.sizes[i].tolist())]
      shrink[i] = min(height / size[0], width / size[1], 1.)
      worst = min(worst, (shrink[i], size))
  count, most, (height, width) = int((shrink < TOLD).sum()), 1 / worst[0], worst[1]
  if count:
    say(f'data.{key}: {count} of {len(split)} {kind} images are shrunk by up to {most:.2f} to fit their '
        f'canvas; a canvas of {height}x{width} (height x width) would hold the largest and '
        'is used where as many images suit it as a batch has')


def prepare(example: DetectionExample, chain, canvas: Canvas, rng, with_masks: bool,
            published: bool = False) -> tuple[Sample, tuple[int, int]]:
  """Returns (sample as it lies on the canvas, (height, width) of the file).

  What a transform makes larger than the canvas is shrunk until it fits. Crowds, and boxes without area,
  are left out; `published`: nothing is, and boxes are those of the masks, see `data.segments`.
  """
  image = example.image()
  original = image.height, image.width
  found = example.masks() if with_masks or published else None
  sample = Sample(image, example.boxes, example.labels, found if with_masks else None,
                  dict(is_crowd=example.is_crowd))
  if published:
    sample = dataclasses.replace(sample, boxes=boxes.masks_to_boxes(found).astype(np.float64))
  else:
    sample = sample.keep(~sample.objects['is_crowd'] & (areas(sample.boxes) > 0.))
  for transform in chain:
    sample = transform(sample, rng)
  height, width = sample.image.height, sample.image.width
  scale = min(canvas[0] / height, canvas[1] / width)
  if scale < 1.:
    sample = resize(sample, *(max(min(round(side * scale), limit), 1)
                              for side, limit in zip((height, width), canvas)))
  return sample, original


def filler(chain, published: bool = False):
  """Returns what writes an example, or padding, into a row; `published`: see `prepare`."""
  def fill(row, example, rng):
    for key, value in dict(image=0, boxes=0, labels=-1, masks=0).items():
      if key in row:
        row[key][...] = value
    canvas = row['image'].shape[:2]
    row['mask'][...], row['index'][...] = (0., -1) if example is None else (1., example.index)
    row['size'][...] = row['original_size'][...] = canvas
    if example is None:
      return
    sample, row['original_size'][...] = prepare(example, chain, canvas, rng, 'masks' in row,
                                               published)
    limit = len(row['labels'])
    if len(sample.labels) > limit:
      largest = np.argsort(-areas(sample.boxes), kind='stable')[:limit]
      sample = sample.keep(np.sort(largest))
    height, width, count = sample.image.height, sample.image.width, len(sample.labels)
    row['size'][...] = height, width
    row['image'][:height, :width] = images.to_array(sample.image)
    row['labels'][:count] = sample.labels
    row['boxes'][:count] = boxes.to_cxcywh(sample.boxes) / ([width, height] * 2)
    if 'masks' in row:
      packed = masks.pack(sample.masks)
      row['masks'][:count, :height, :packed.shape[-1]] = packed
  return fill
