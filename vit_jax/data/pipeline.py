"""From a source to batches on the mesh: which example stands where, reading ahead, placing.

The example at row r of step s is a function of (seed, s, r) alone: the training stream is the
permutations of all epochs one behind another, without a cut. So a restart needs no state but the
step, and any number of processes and devices sees the same batches.
"""

import collections
import concurrent.futures
import os
import sys
import threading
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from vit_jax import sharding
from vit_jax.data import crops
from vit_jax.data.info import Info
from vit_jax.data.sources import Split, open_source
from vit_jax.errors import UserError, unknown

Batch = Mapping[str, jax.Array]

# Apart from each other: NumPy pads a seed with zeros, so (seed, 3) and (seed, 3, 0) are the same.
ORDER, CROP = 1, 2

AHEAD = 4  # batches that are read before they are asked for


class Reader:
  """Reads rows of examples on the host, in threads, and counts what could not be read."""

  def __init__(self, split: Split, crop: crops.Crop, shape: tuple[int, int, int], on_error: str):
    if on_error not in ('raise', 'skip'):
      raise unknown('data.on_error', on_error, ('raise', 'skip'))
    self.split, self.shape, self._crop, self._on_error = split, shape, crop, on_error
    self._pool = concurrent.futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 32))
    self._skipped, self._lock = set(), threading.Lock()

  def _read(self, index: int, rng) -> np.ndarray | None:
    try:
      return self._crop(self.split.read(index), rng)
    except UserError as error:
      if self._on_error == 'raise':
        raise
      with self._lock:
        if index not in self._skipped:
          self._skipped.add(index)
          print(f'skipped ({len(self._skipped)} so far): {error}', file=sys.stderr, flush=True)
      return None

  def submit(self, indices, rngs, replace: bool) -> list[concurrent.futures.Future]:
    """Starts reading rows.

    Args:
      indices: example of each row; -1 for padding.
      rngs: a generator per row, or None.
      replace: put the next example in the place of one that cannot be read (training), instead of
        padding.
    """
    return [self._pool.submit(self._row, int(i), r, replace) for i, r in zip(indices, rngs)]

  def _row(self, index: int, rng, replace: bool):
    """Returns (image, label, mask) of one row."""
    attempts = min(len(self.split), 100) if replace else 1
    for attempt in range(attempts if index >= 0 else 0):
      at = (index + attempt) % len(self.split)
      image = self._read(at, rng)
      if image is not None:
        return image, self.split.labels[at], 1.
    if replace and index >= 0:
      raise UserError(f'{attempts} images in a row cannot be read, from '
                      f'{self.split.names[index]} on; is the folder damaged?')
    return np.zeros(self.shape, np.uint8), 0, 0.


class Batches:
  """Places rows that are read on the host as one global batch on the mesh."""

  def __init__(self, reader: Reader, batch_size: int, mesh: Mesh):
    self.reader, self.batch_size = reader, batch_size
    self._sharding = NamedSharding(mesh, sharding.BATCH)
    where = self._sharding.addressable_devices_indices_map((batch_size,))
    # Rows that this process's devices hold; copies of a row are read once.
    self._ranges = sorted({s[0].indices(batch_size)[:2] for s in where.values()})

  def start(self, indices: np.ndarray, rng_of=None):
    """Starts to read the rows of a global batch that this process needs."""
    return [(low, high, self.reader.submit(
        indices[low:high], [rng_of(r) if rng_of else None for r in range(low, high)],
        replace=rng_of is not None)) for low, high in self._ranges]

  def finish(self, started) -> Batch:
    """Waits for the rows and returns {image, label, mask} on the devices."""
    parts = {}
    for low, high, futures in started:
      rows = [f.result() for f in futures]
      parts[low, high] = dict(image=np.stack([r[0] for r in rows]),
                              label=np.asarray([r[1] for r in rows], np.int32),
                              mask=np.asarray([r[2] for r in rows], np.float32))
    shapes = dict(image=self.reader.shape, label=(), mask=())

    def place(key, shape):
      pick = lambda index: parts[index[0].indices(self.batch_size)[:2]][key]
      return jax.make_array_from_callback((self.batch_size, *shape), self._sharding, pick)

    return {key: place(key, shape) for key, shape in shapes.items()}


class Train:
  """The endless training stream."""

  def __init__(self, batches: Batches, seed: int):
    self._batches, self._seed = batches, seed
    self._order = None, None

  def indices(self, step: int) -> np.ndarray:
    """Returns the examples of the global batch of a step, int `[batch]`."""
    size, n = self._batches.batch_size, len(self._batches.reader.split)
    at = np.arange(step * size, (step + 1) * size)
    out = np.empty(size, np.int64)
    for epoch in np.unique(at // n):
      if self._order[0] != epoch:
        self._order = epoch, np.random.default_rng((self._seed, ORDER, int(epoch))).permutation(n)
      rows = at // n == epoch
      out[rows] = self._order[1][at[rows] % n]
    return out

  def after(self, step: int, last: int) -> Iterator[tuple[int, Batch]]:
    """Yields (step, batch) from `step` up to, not including, `last`; reads ahead meanwhile."""
    waiting = collections.deque()
    for ahead in range(step, last):
      rng_of = lambda row, s=ahead: np.random.default_rng((self._seed, CROP, s, row))
      waiting.append((ahead, self._batches.start(self.indices(ahead), rng_of)))
      if len(waiting) > AHEAD:
        number, started = waiting.popleft()
        yield number, self._batches.finish(started)
    for number, started in waiting:
      yield number, self._batches.finish(started)


class Test:
  """The test split, once through in order; the last batch is padded, with mask 0."""

  def __init__(self, batches: Batches):
    self._batches = batches

  def __iter__(self) -> Iterator[Batch]:
    size, n = self._batches.batch_size, len(self._batches.reader.split)
    rows = np.arange(-(-n // size) * size)
    rows[n:] = -1
    waiting = collections.deque()
    for indices in rows.reshape(-1, size):
      waiting.append(self._batches.start(indices))
      if len(waiting) > AHEAD:
        yield self._batches.finish(waiting.popleft())
    for started in waiting:
      yield self._batches.finish(started)


class Data:
  """What a run trains and tests on.

  Attributes:
    info: facts of the data.
    train: `train.after(step, last)` yields (step, batch).
    test: iterating it goes through the test split once.
    example: shapes of a batch.
  """

  def __init__(self, info: Info, train: Train, test: Test, batch_size: int):
    self.info, self.train, self.test = info, train, test
    shape = (batch_size, *info.image_size, info.channels)
    self.example = dict(image=jax.ShapeDtypeStruct(shape, np.uint8),
                        label=jax.ShapeDtypeStruct((batch_size,), np.int32),
                        mask=jax.ShapeDtypeStruct((batch_size,), np.float32))


def build(config, seed: int, mesh: Mesh) -> Data:
  """Opens the data of a config.

  Args:
    config: `config.data`.
    seed: of the order and the random crops.
    mesh: on which the batches lie.

  Raises:
    UserError: a source, split, crop or batch size that cannot be used.
  """
  sharding.check_batch(config.batch_size, mesh)
  source = open_source(config.source, config.train, config.channels)
  train, test = source.split(config.train), source.split(config.test)
  for key, split in (('train', train), ('test', test)):
    if not len(split):
      raise UserError(f'data.{key}={config[key]!r} of {config.source} holds no example; give it a '
                      'larger part')
  size = tuple(config.resolution)
  shape = (*size, source.channels)
  info = Info(source.name, source.classes, source.channels, size, len(train), len(test),
              tuple(config.mean), tuple(config.std), dict(config.eval_crop), config.interpolation)
  eval_size = min(config.batch_size, len(test))
  eval_size = -(-eval_size // sharding.batch_shards(mesh)) * sharding.batch_shards(mesh)
  parts = []
  for split, crop, batch_size in ((train, config.crop, config.batch_size),
                                  (test, config.eval_crop, eval_size)):
    cut = crops.make(crop, size, config.interpolation)
    if split.in_memory and crop['name'] not in crops.RANDOM:
      split, cut = _resized(split, cut), lambda array, rng: array
    parts.append(Batches(Reader(split, cut, shape, config.on_error), batch_size, mesh))
  return Data(info, Train(parts[0], seed), Test(parts[1]), config.batch_size)


def _resized(split: Split, cut: crops.Crop) -> Split:
  """Returns a split in memory with all its images cut once and for all, as arrays."""
  arrays = [cut(split.read(i), None) for i in range(len(split))]
  return Split(split.names, split.labels, arrays.__getitem__, in_memory=True)
