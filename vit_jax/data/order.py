"""Which example stands where: a function of (seed, step, row), for any number of processes.

The rows of a batch are cut into equal blocks, the lanes. In each epoch a lane reads a stretch of the
shards of its own, and a process the lanes of its rows: the shards are divided between the processes, and
any number of processes sees the same batches. All lanes end an epoch together, so that each example
comes once in it. A restart needs no state but the step.
"""

import functools
from collections.abc import Sequence

import numpy as np

from vit_jax.errors import UserError

# Apart from each other: NumPy pads a seed with zeros, so (seed, 3) and (seed, 3, 0) are the same.
ORDER, CROP, SHARDS, MIXTURE = 1, 2, 3, 4

LANES = 256  # at most
WINDOW = 16_384  # examples of a lane that are mixed with each other
BLOCK = 10_000  # draws in which a mixture holds its weights exactly


class Shuffled:
  """The order of one split, epoch after epoch, in lanes.

  In an epoch the shards are put in a random order, one behind another, and this line is cut into one
  stretch for each lane; within its stretch a lane mixes windows of examples. A split of one shard, whose
  examples cost the same anywhere, is a full random permutation.
  """

  def __init__(self, lengths: Sequence[int], seed: int, lanes: int = 1, stream: int = 0,
               window: int = WINDOW):
    """Takes the facts of the split.

    Args:
      lengths: examples of each shard.
      seed: of the order.
      lanes: that read side by side.
      stream: number of the split in a mixture; each has an order of its own.
      window: examples of a lane that are mixed with each other.
    """
    self._lengths, self._lanes, self._window = np.asarray(lengths, np.int64), lanes, window
    self._starts = np.concatenate([[0], np.cumsum(self._lengths)])
    self._seed, self._stream, self._size = seed, stream, int(self._starts[-1])
    # The few epochs and windows that are in use; a lane moves on from one to the next.
    self._line = functools.lru_cache(4)(self._line)
    self._mixed = functools.lru_cache(4 * lanes)(self._mixed)

  def _line(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (order of the shards, where each begins on the line, and its end)."""
    rng = np.random.default_rng((self._seed, SHARDS, epoch, self._stream))
    order = rng.permutation(len(self._lengths))
    return order, np.concatenate([[0], np.cumsum(self._lengths[order])])

  def _mixed(self, size: int, epoch: int, *place: int) -> np.ndarray:
    """Returns a permutation for an epoch, or for a (lane, window) of it."""
    return np.random.default_rng((self._seed, ORDER, epoch, self._stream, *place)).permutation(size)

  def __call__(self, position: int) -> int:
    """Returns the example at a position of the endless stream."""
    epoch, at = divmod(position, self._size)
    if len(self._lengths) == 1:
      return int(self._mixed(self._size, epoch)[at])
    lane, at = at % self._lanes, at // self._lanes
    # Lane l holds the positions l, l + lanes, ... of the epoch.
    share, rest = divmod(self._size, self._lanes)
    begin = share * lane + min(lane, rest)
    window, within = divmod(at, self._window)
    size = min(self._window, share + (lane < rest) - window * self._window)
    at = begin + window * self._window + int(self._mixed(size, epoch, lane, window)[within])
    order, begins = self._line(epoch)
    place = int(np.searchsorted(begins, at, side='right')) - 1
    return int(self._starts[order[place]]) + at - int(begins[place])


class Mixture:
  """Several splits drawn by weight; of one split, that split.

  In every block of `BLOCK` draws of a lane each split has its share, in a random order, so that how
  often a split was drawn before any position is known without counting. Each lane begins this order at
  a place of its own: if all lanes drew the same split at the same moment, batches would be lumpy.
  """

  def __init__(self, orders: Sequence[Shuffled], weights: Sequence[float], seed: int, lanes: int):
    """Takes the splits and their weights.

    Raises:
      UserError: when the weights do not add up to 1, or one is too small to be drawn in a block.
    """
    if any(w <= 0. for w in weights) or abs(sum(weights) - 1.) > 1e-6:
      raise UserError(f'the weights of data.mixture must be positive and add up to 1; {list(weights)} '
                      f'add up to {sum(weights):g}')
    self._orders, self._seed, self._lanes = orders, seed, lanes
    ends = np.floor(np.cumsum(weights) * BLOCK + .5).astype(int)
    self._counts = np.diff(ends, prepend=0)
    if not self._counts.all():
      raise UserError(f'data.mixture: a split of weight {min(weights):g} would never be drawn; give it '
                      f'at least {1 / BLOCK:g}, or leave it out')
    self._block = functools.lru_cache(4)(self._block)

  def _block(self, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the order of a block.

    Returns:
      (split of each draw `[BLOCK]`, how many draws of that split came before it `[BLOCK]`, how many
      draws of each split came before the place at which each lane begins `[lanes, splits]`).
    """
    splits = np.repeat(np.arange(len(self._counts)), self._counts)
    splits = np.random.default_rng((self._seed, MIXTURE, block)).permutation(splits)
    # How many draws of each split there are up to each draw, with it.
    drawn = np.cumsum(splits[:, None] == np.arange(len(self._counts)), axis=0)
    before = drawn[np.arange(BLOCK), splits] - 1
    begins = np.concatenate([np.zeros_like(drawn[:1]), drawn])[self._begin(np.arange(self._lanes))]
    return splits, before, begins

  def _begin(self, lane):
    """Returns where in a block's order a lane begins."""
    return lane * BLOCK // self._lanes

  def __call__(self, lane: int, draw: int) -> tuple[int, int]:
    """Returns (split, example) of a draw of a lane."""
    if len(self._orders) == 1:
      return 0, self._orders[0](draw * self._lanes + lane)
    block, at = divmod(draw, BLOCK)
    splits, before, begins = self._block(block)
    at = (at + self._begin(lane)) % BLOCK  # behind the last draw of the order comes its first
    split = int(splits[at])
    count = int(self._counts[split])
    of_split = block * count + int(before[at] - begins[lane, split]) % count
    return split, self._orders[split](of_split * self._lanes + lane)


def num_lanes(rows: int, shards: int) -> int:
  """Returns the largest number of lanes that divides the rows of a batch and leaves each a shard."""
  return next(n for n in range(min(rows, shards, LANES), 0, -1) if rows % n == 0)
