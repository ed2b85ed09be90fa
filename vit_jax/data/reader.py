"""Reads rows of examples on the host, in threads, and places them as batches on the mesh."""

import concurrent.futures
import os
import sys
import threading
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from vit_jax import sharding
from vit_jax.data.sources import Example, Split
from vit_jax.data.sources.shards import FeatureError
from vit_jax.errors import UserError, unknown

Batch = Mapping[str, jax.Array]
Shapes = Mapping[str, tuple[tuple[int, ...], type]]

CHUNK = 8  # rows that a thread reads at a time
PADDING = -1  # among labels


class Reader:
  """Reads rows of examples on the host, in threads, and counts what could not be read."""

  def __init__(self, splits: Sequence[Split], crop, shapes: Shapes, on_error: str):
    """Takes what to read.

    Args:
      splits: of one source, or of several that are mixed.
      crop: (example, generator) -> uint8 `[height, width, channels]`.
      shapes: {key of a batch: (shape of a row, dtype)}.
      on_error: 'raise' or 'skip'.
    """
    if on_error not in ('raise', 'skip'):
      raise unknown('data.on_error', on_error, ('raise', 'skip'))
    self.splits, self.shapes, self._crop, self._on_error = splits, shapes, crop, on_error
    self._pool = concurrent.futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 32))
    self._skipped, self._lock = set(), threading.Lock()

  def _read(self, split: int, index: int, rng) -> tuple[Example, np.ndarray] | None:
    try:
      example = self.splits[split].read(index)
      return example, self._crop(example, rng)
    except FeatureError:
      raise
    except UserError as error:
      if self._on_error == 'raise':
        raise
      with self._lock:
        if (split, index) not in self._skipped:
          self._skipped.add((split, index))
          print(f'skipped ({len(self._skipped)} so far): {error}', file=sys.stderr, flush=True)
      return None

  def submit(self, rows: Sequence[tuple[int, int]], rngs: Sequence | None):
    """Starts reading rows.

    Args:
      rows: (split, example) of each row; the example is -1 for padding.
      rngs: returns the generator of each row (training: the next example stands in for one that
        cannot be read), or None (evaluation: such a row becomes padding).

    Returns:
      (arrays that fill, futures to wait for).
    """
    arrays = {key: np.empty((len(rows), *shape), dtype) for key, (shape, dtype) in self.shapes.items()}
    return arrays, [self._pool.submit(self._rows, rows, rngs, arrays, start)
                    for start in range(0, len(rows), CHUNK)]

  def _rows(self, rows, rngs, arrays, start: int) -> None:
    for row in range(start, min(start + CHUNK, len(rows))):
      found = self._row(*rows[row], rngs[row] if rngs else None)
      labels, real = (found[0].labels, found[0].real) if found else ((), ())
      _put_labels(arrays['label'], row, labels)
      if 'real' in arrays:
        _put_labels(arrays['real'], row, real)
      arrays['image'][row], arrays['mask'][row] = (found[1], 1.) if found else (0, 0.)

  def _row(self, split: int, index: int, rng) -> tuple[Example, np.ndarray] | None:
    """Returns what stands in one row."""
    length = len(self.splits[split])
    attempts = 0 if index < 0 else 1 if rng is None else min(length, 100)
    for attempt in range(attempts):
      found = self._read(split, (index + attempt) % length, rng and rng())
      if found:
        return found
    if attempts > 1:
      raise UserError(f'{attempts} images in a row cannot be read, from number {index} of the training '
                      'split on; is the data damaged?')
    return None


def _put_labels(array: np.ndarray, row: int, labels: Sequence[int]) -> None:
  """Writes the labels of one row, padded."""
  if array.ndim == 1:
    array[row] = labels[0] if labels else 0
  else:
    array[row] = PADDING
    array[row, :len(labels)] = labels


class Batches:
  """Places rows that are read on the host as one global batch on the mesh."""

  def __init__(self, reader: Reader, batch_size: int, mesh: Mesh):
    self.reader, self.batch_size = reader, batch_size
    self._sharding = NamedSharding(mesh, sharding.BATCH)
    where = self._sharding.addressable_devices_indices_map((batch_size,))
    # Rows that this process's devices hold; copies of a row are read once.
    self._ranges = sorted({s[0].indices(batch_size)[:2] for s in where.values()})

  def start(self, example_of, rng_of=None):
    """Starts to read the rows of a global batch that this process needs.

    Args:
      example_of: row -> (split, example).
      rng_of: row -> generator, for training.
    """
    started = []
    for low, high in self._ranges:
      rngs = [lambda r=row: rng_of(r) for row in range(low, high)] if rng_of else None
      started.append((low, high, self.reader.submit([example_of(r) for r in range(low, high)], rngs)))
    return started

  def finish(self, started) -> Batch:
    """Waits for the rows and returns the batch on the devices."""
    parts = {}
    for low, high, (arrays, futures) in started:
      for future in futures:
        future.result()
      parts[low, high] = arrays

    def place(key):
      shape, _ = self.reader.shapes[key]
      pick = lambda index: parts[index[0].indices(self.batch_size)[:2]][key]
      return jax.make_array_from_callback((self.batch_size, *shape), self._sharding, pick)

    return {key: place(key) for key in self.reader.shapes}
