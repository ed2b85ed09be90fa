"""The training command with a ledger: every row that a process reads is written down before its step.

    python -m tests.ledger FOLDER FLAGS...

A line holds the step, the row in the global batch, and the example as its own pixels tell it.
"""

import json
import os
import sys

import numpy as np

from tests.data.shards import numbers
from vit_jax import main
from vit_jax.data import pipeline


def recording(after, folder: str):
  """Returns `Train.after` that writes what it yields."""
  def recorded(self, step, last):
    with open(os.path.join(folder, f'{os.getpid()}.jsonl'), 'a') as file:
      for number, batch in after(self, step, last):
        for shard in batch['image'].addressable_shards:
          rows = range(*shard.index[0].indices(batch['image'].shape[0]))
          found = zip(rows, numbers(np.asarray(shard.data)).tolist())
          file.write(''.join(json.dumps([number, *pair]) + '\n' for pair in found))
        file.flush()
        yield number, batch
  return recorded


def read(folder: str) -> dict[tuple[int, int], set[int]]:
  """Returns {(step, row): all examples that any process read there}; a half line is a kill's."""
  found = {}
  for name in os.listdir(folder):
    for line in open(os.path.join(folder, name)).read().split('\n')[:-1]:
      step, row, example = json.loads(line)
      found.setdefault((step, row), set()).add(example)
  return found


if __name__ == '__main__':
  pipeline.Train.after = recording(pipeline.Train.after, sys.argv[1])
  main.main(sys.argv[2:])
