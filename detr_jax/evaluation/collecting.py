"""What an evaluation has found, from the devices to a process and from all processes to each."""

import json
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from vit_jax import sharding


def split(rows: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """Returns arrays `[batch, ...]`, with `index` and `mask` of the batch, over the devices as it is."""
  rows = {**rows, **{key: batch[key] for key in ('index', 'mask')}}
  return jax.tree.map(sharding.constrain, rows)


def local_rows(outputs: Mapping[str, jax.Array]) -> Iterator[dict[str, np.ndarray]]:
  """Yields the examples of a split batch that lie on this process, each on one process alone."""
  shards = {key: {shard.index[0].start or 0: shard for shard in array.addressable_shards
                  if shard.replica_id == 0} for key, array in outputs.items()}
  for start in sorted(shards['index']):
    part = {key: np.asarray(found[start].data) for key, found in shards.items()}
    for row in np.flatnonzero(part['mask']):
      yield {key: values[row] for key, values in part.items()}


def join(records: list) -> list:
  """Returns the records of all processes, in their order, to each; a record is what JSON can hold.

  All processes have to call it.
  """
  mine = np.frombuffer(json.dumps(records).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(mine))).reshape(-1)
  padded = np.pad(mine, (0, sizes.max() - len(mine)))
  parts = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
  return [record for part, size in zip(parts, sizes) for record in json.loads(part[:size].tobytes())]
