"""Reads rows of examples on the host, in threads, and places them as batches on the mesh."""

import concurrent.futures
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from vit_jax import sharding
from vit_jax.data import images
from vit_jax.data.sources import Split
from vit_jax.data.sources.shards import FeatureError
from vit_jax.errors import Unreadable, UserError, unknown

Batch = Mapping[str, jax.Array]
Shapes = Mapping[str, tuple[tuple[int, ...], type]]
Row = Mapping[str, np.ndarray]  # views of one row of the arrays of a batch
Fill = Callable[[Row, Any, np.random.Generator | None], None]

CHUNK = 8  # rows that a thread reads at a time


class Reader:
  """Reads rows of examples on the host, in threads, and counts what could not be read."""

  def __init__(self, splits: Sequence[Split], fill: Fill, shapes: Shapes, on_error: str):
    """Takes what to read.

    Args:
      splits: of one source, or of several that are mixed.
      fill: (row, example or None, generator or None) writes the row of an example, or of padding.
      shapes: {key of a batch: (shape of a row, dtype)}.
      on_error: 'raise' or 'skip'.
    """
    if on_error not in ('raise', 'skip'):
      raise unknown('data.on_error', on_error, ('raise', 'skip'))
    self.splits, self.shapes, self._fill, self._on_error = splits, shapes, fill, on_error
    self._pool = concurrent.futures.ThreadPoolExecutor(min(images.cpus(), 32))
    self._skipped, self._lock = set(), threading.Lock()

  def _read(self, row: Row, split: int, index: int, rng) -> bool:
    """Fills a row; returns whether its example could be read."""
    try:
      self._fill(row, self.splits[split].read(index), rng)
      return True
    except FeatureError:
      raise
    except UserError as error:
      if self._on_error == 'raise':
        raise (UserError(f'{error}, or set data.on_error=skip') if isinstance(error, Unreadable)
               else error) from None
      with self._lock:
        if (split, index) not in self._skipped:
          self._skipped.add((split, index))
          print(f'skipped ({len(self._skipped)} so far): {error}', file=sys.stderr, flush=True)
      return False

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
    for at in range(start, min(start + CHUNK, len(rows))):
      row = {key: array[at, ...] for key, array in arrays.items()}
      if not self._row(row, *rows[at], rngs[at] if rngs else None):
        self._fill(row, None, None)

  def _row(self, row: Row, split: int, index: int, rng) -> bool:
    """Fills a row; returns whether anything stands in it."""
    length = len(self.splits[split])
    attempts = 0 if index < 0 else 1 if rng is None else min(length, 100)
    for attempt in range(attempts):
      if self._read(row, split, (index + attempt) % length, rng and rng()):
        return True
    if attempts > 1:
      raise UserError(f'{attempts} images in a row cannot be read, from number {index} of the training '
                      'split on; is the data damaged?')
    return False


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
