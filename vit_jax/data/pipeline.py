"""From sources to batches on the mesh: reading ahead, placing, nothing lost.

Which example stands where is a function of (seed, step, row) alone, see `vit_jax.data.order`. So a
restart needs no state but the step, and any number of processes and devices sees the same batches.
"""

import collections
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from vit_jax import config as config_lib, files, sharding
from vit_jax.data import augment, crops, listing
from vit_jax.data.info import Info
from vit_jax.data.order import CROP, Mixture, Shuffled, num_lanes
from vit_jax.data.reader import Batch, Batches, Fill, Reader, Shapes
from vit_jax.data.sources import Example, Split, open_source
from vit_jax.errors import UserError

AHEAD = 4  # batches that are read before they are asked for
PADDING = -1  # among labels


def draw_rng(seed: int, step: int, row: int) -> np.random.Generator:
  """Returns the generator of a row's crop; counter-based, since one is made for every image."""
  return np.random.Generator(np.random.Philox(key=[seed, CROP], counter=[step, row, 0, 0]))


def ahead(items: Iterable, start: Callable, finish: Callable) -> Iterator[tuple]:
  """Yields (item, finish(start(item))); the next few are started meanwhile."""
  waiting = collections.deque()
  for item in items:
    waiting.append((item, start(item)))
    if len(waiting) > AHEAD:
      first, started = waiting.popleft()
      yield first, finish(started)
  for item, started in waiting:
    yield item, finish(started)


class Train:
  """The endless training stream."""

  def __init__(self, batches: Batches, seed: int, weights: Sequence[float] = (1.,), repeats: int = 1):
    """Takes the batches and what decides their order.

    Args:
      batches: of the splits.
      seed: of the order and the random crops.
      weights: of the splits.
      repeats: how often each example comes in an epoch, in successive rows, each time cropped and
        augmented anew (repeated augmentation, arXiv:1901.09335). All of them stand in one batch where
        `repeats` divides its size; else the last ones may stand in the next batch.
    """
    self._batches, self._seed, self._repeats = batches, seed, repeats
    self.reader = batches.reader
    splits = self.reader.splits
    shards = [len(split.lengths) for split in splits if len(split.lengths) > 1]
    whole = repeats if batches.batch_size % repeats == 0 else 1
    self.lanes = num_lanes(batches.batch_size // whole, min(shards, default=1))
    self._rows = batches.batch_size // self.lanes
    self._mixture = Mixture([Shuffled(split.lengths, seed, self.lanes, stream=k)
                             for k, split in enumerate(splits)], weights, seed, self.lanes)

  def example(self, step: int, row: int) -> tuple[int, int]:
    """Returns (split, example) of a row of a step's global batch."""
    lane, within = divmod(row, self._rows)
    return self._mixture(lane, (step * self._rows + within) // self._repeats)

  def _start(self, step: int):
    return self._batches.start(lambda row: self.example(step, row),
                               lambda row: draw_rng(self._seed, step, row))

  def after(self, step: int, last: int) -> Iterator[tuple[int, Batch]]:
    """Yields (step, batch) from `step` up to, not including, `last`; reads ahead meanwhile."""
    yield from ahead(range(step, last), self._start, self._batches.finish)


class Test:
  """A split that is evaluated, once through in order; the last batch is padded, with mask 0."""

  def __init__(self, batches: Batches):
    self._batches = batches

  def __len__(self) -> int:
    """Examples of the split."""
    return len(self._batches.reader.splits[0])

  def __iter__(self) -> Iterator[Batch]:
    size, n = self._batches.batch_size, len(self)
    start = lambda first: self._batches.start(
        lambda row: (0, first + row if first + row < n else -1))
    for _, batch in ahead(range(0, n, size), start, self._batches.finish):
      yield batch


class Data:
  """What a run trains and tests on.

  Attributes:
    info: facts of the data.
    train: `train.after(step, last)` yields (step, batch).
    splits: {'validation', where there is one, and 'test': iterable that goes once through what is
      evaluated, and has a length: its examples}.
    example: shapes of a training batch.
  """

  def __init__(self, info: Info, train: Train, splits: Mapping[str, Test], shapes: Shapes,
               batch_size: int):
    augment.check_channels(info.mean, info.std, info.channels)
    self.info, self.train, self.splits = info, train, splits
    self.example = {key: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
                    for key, (shape, dtype) in shapes.items()}


def build(config, seed: int, mesh: Mesh, eval_batch: int = 0) -> Data:
  """Opens the data of a config.

  Args:
    config: `config.data`.
    seed: of the order and the random crops.
    mesh: on which the batches lie.
    eval_batch: rows of a batch that is evaluated, at most; 0: `config.batch_size`.

  Raises:
    UserError: an unknown key, or a source, split, crop or batch size that cannot be used.
  """
  config_lib.check_section('data', config, config_lib.image_data('', (0, 0), 0))
  sharding.check_batch(config.batch_size, mesh)
  source = open_source(config)
  if len(source.classes) == 1 and config.max_labels == 1:
    listing.tell(f'{config.source} has a single class, {source.classes[0]!r}: a classifier has nothing '
                 'to learn from it; is the folder perhaps a level too high?')
  splits, weights = training_splits(config, source)
  test = with_real(source.split(config.test), config.real)
  evaluated = {'validation': source.split(config.validation)} if config.validation else {}
  evaluated['test'] = test
  check_splits(config, splits, evaluated)
  size = tuple(config.resolution)
  info = Info(source.name, source.classes, source.channels, size, sum(map(len, splits)), len(test),
              tuple(config.mean), tuple(config.std), dict(config.eval_crop), config.interpolation,
              config.antialias, config.max_labels > 1, config.max_labels, test.max_real)
  shapes = dict(image=((*size, source.channels), np.uint8), mask=((), np.float32),
                label=((config.max_labels,) if info.multi_label else (), np.int32))
  real = dict(real=((test.max_real,), np.int32)) if test.max_real else {}
  train = Train(Batches(reader(config, splits, config.crop, shapes, not config.exact_resize),
                        config.batch_size, mesh), seed, weights, config.repeats)
  tests = {}
  for name, split in evaluated.items():
    wanted = {**shapes, **real} if name == 'test' else shapes
    rows = eval_rows(eval_batch or config.batch_size, len(split), mesh)
    tests[name] = Test(Batches(reader(config, [split], config.eval_crop, wanted, False), rows, mesh))
  return Data(info, train, tests, shapes, config.batch_size)


def reader(config, splits: Sequence[Split], crop: Mapping, shapes: Shapes, quick: bool) -> Reader:
  """Returns what reads the splits, cut by a crop; what fits in memory and is not cut at random is cut
  once and for all."""
  kept = all(split.in_memory for split in splits) and crop['name'] not in crops.RANDOM
  cut = cutter(config, crop, shapes['image'][0][-1], quick and not kept)
  if kept:
    splits, cut = [_cut(split, cut) for split in splits], lambda example, rng: example.content
  return Reader(splits, filler(cut), shapes, config.on_error)


def eval_rows(wanted: int, examples: int, mesh: Mesh) -> int:
  """Returns the rows of a batch that is evaluated: as wanted, no more than there are examples, and
  what the mesh divides."""
  shards = sharding.batch_shards(mesh)
  return -(-min(wanted, examples) // shards) * shards


def training_splits(config, source) -> tuple[list[Split], list[float]]:
  """Returns the splits to train on and their weights: of `data.mixture`, or the source's own.

  Raises:
    UserError: when the parts of a mixture do not have the same classes and channels.
  """
  if not config.mixture:
    return [source.split(config.train)], [1.]
  splits = []
  for part in config.mixture:
    known = dict(source='', train='', weight=1.)
    config_lib.check_section('data.mixture', part, known)
    if set(part) != set(known):
      raise UserError(f'data.mixture: {dict(part)} must have {", ".join(known)}')
    of = open_source(config, part['source'], part['train'])
    if (of.classes, of.channels) != (source.classes, source.channels):
      raise UserError(f'data.mixture: {of.name} has {len(of.classes)} classes and {of.channels} '
                      f'channels, {source.name} {len(source.classes)} and {source.channels}; they must '
                      'be the same')
    splits.append(of.split(part['train']))
  return splits, [float(part['weight']) for part in config.mixture]


def check_splits(config, train: Sequence[Split], evaluated: Mapping[str, Split]) -> None:
  """Raises UserError for a split that is empty, or has fewer shards than there are processes."""
  for split, key in (*((split, 'train') for split in train), *((s, k) for k, s in evaluated.items())):
    if not len(split):
      raise UserError(f'data.{key}={config[key]!r} of {config.source} holds no example; give it a '
                      'larger part')
  for split in train:
    if 1 < len(split.lengths) < jax.process_count():
      raise UserError(f'data.train={config.train!r} of {config.source} has {len(split.lengths)} shards, '
                      f'but {jax.process_count()} processes read it; write more shards (python -m '
                      'vit_jax.data.convert --shards=N) or start fewer processes')


def with_real(test: Split, path: str) -> Split:
  """Returns the ImageNet validation split with ReaL's labels.

  Args:
    test: named after the files, as ILSVRC2012_val_00000001.JPEG.
    path: of ReaL's `real.json`, a list for each of the 50,000 files; '' for the labels the data has.

  Raises:
    UserError: when the file cannot be read or the names of the images are others.
  """
  if not path:
    return test
  try:
    lists = files.read_json(os.path.expanduser(path), 'download real.json again')
  except FileNotFoundError:
    raise UserError(f'data.real={path!r}: there is no such file') from None
  if not isinstance(lists, list) or not lists or not all(
      isinstance(labels, list) and all(type(n) is int for n in labels) for labels in lists):
    raise UserError(f'data.real={path!r} is not ReaL\'s list of lists of labels')
  most = max(map(len, lists))

  def read(index: int) -> Example:
    example = test.read(index)
    number = re.search(r'ILSVRC2012_val_(\d{8})', example.name)
    if not number or not 1 <= int(number[1]) <= len(lists):
      raise UserError(f'data.real: {example.name} is not named ILSVRC2012_val_00000001 to '
                      f'{len(lists):08}, so its ReaL labels are not known')
    return dataclasses.replace(example, real=tuple(lists[int(number[1]) - 1]))

  return Split(test.lengths, read, max_real=most)


def cutter(config, crop: Mapping, channels: int, quick: bool):
  """Returns what makes an example an image of the model's size: (example, generator) -> uint8.

  Args:
    config: `config.data`.
    crop: `config.data.crop` or `eval_crop`.
    channels: of the result.
    quick: whether to approximate the filter, see `images.Quick`.
  """
  cut = crops.make(crop, tuple(config.resolution), config.interpolation)
  if quick or not config.antialias:
    return lambda example, rng: cut(example.quick(channels, config.antialias), rng)
  return lambda example, rng: cut(example.image(channels), rng)


def filler(cut) -> Fill:
  """Returns what writes an example, cut by (example, generator) -> uint8, or padding into a row."""
  def fill(row, example, rng):
    row['image'][...] = 0 if example is None else cut(example, rng)
    row['mask'][...] = example is not None
    _put_labels(row['label'], example.labels if example else ())
    if 'real' in row:
      _put_labels(row['real'], example.real if example else ())
  return fill


def _put_labels(row: np.ndarray, labels: Sequence[int]) -> None:
  """Writes the labels of one example: one, or several and padding."""
  if row.ndim == 0:
    row[...] = labels[0] if labels else 0
  else:
    row[...] = PADDING
    row[:len(labels)] = labels


def _cut(split: Split, cut) -> Split:
  """Returns a split in memory with all its images cut, as arrays."""
  examples = [split.read(i) for i in range(len(split))]
  examples = [dataclasses.replace(e, content=cut(e, None)) for e in examples]
  return Split(split.lengths, examples.__getitem__, in_memory=True)
