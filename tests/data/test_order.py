"""Which example stands where: every one once an epoch, whatever shards, lanes, weights and repeats."""

import collections

import numpy as np
import pytest

from vit_jax.data.order import BLOCK, Mixture, Shuffled, num_lanes
from vit_jax.data.pipeline import Train
from vit_jax.data.sources import Split
from vit_jax.errors import UserError

Reader = collections.namedtuple('Reader', 'splits')
Batches = collections.namedtuple('Batches', 'reader batch_size')


def stream(lengths, batch, steps, seed=3, **options):
  """Returns the (split, example) pairs of some steps, in the order of the rows."""
  splits = [Split(each, None) for each in lengths]
  train = Train(Batches(Reader(splits), batch), seed, **options)
  return [train.example(step, row) for step in range(steps) for row in range(batch)], train


@pytest.mark.parametrize('lengths', [[10, 3, 7, 12], [5] * 8, [100, 1], [1] * 9, [37]])
@pytest.mark.parametrize('batch', [4, 6, 8])
def test_sharded_examples_come_once_an_epoch(lengths, batch):
  n = sum(lengths)
  drawn, train = stream([lengths], batch, 3 * n)  # whole epochs: batch * 3 of them
  assert train.lanes == num_lanes(batch, len(lengths) if len(lengths) > 1 else 1)
  lanes = train.lanes
  # Positions in time: row r of a step is draw r % rows of lane r // rows.
  rows = batch // lanes
  order = [step * batch + (r % rows) * lanes + r // rows for step in range(3 * n) for r in range(batch)]
  by_position = np.empty(len(drawn), int)
  by_position[order] = [example for _, example in drawn]
  epochs = by_position.reshape(-1, n)
  np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(n), (len(epochs), 1)))
  assert n < 10 or len({tuple(e) for e in epochs}) == len(epochs)


def test_a_lane_reads_its_own_shards_in_each_epoch():
  """So a process opens the shards of its lanes, and no two processes read the same one, but for ends."""
  lengths, lanes = [50] * 16, 8
  order = Shuffled(lengths, seed=0, lanes=lanes)
  for epoch in range(3):
    touched = [{order(at) // 50 for at in range(epoch * 800 + lane, (epoch + 1) * 800, lanes)}
               for lane in range(lanes)]
    assert all(len(shards) == 2 for shards in touched)  # 800 / 8 examples are two shards of 50
    assert len(set().union(*touched)) == 16


def test_a_window_bounds_how_far_a_lane_looks_ahead():
  order = Shuffled([1000, 1000], seed=0, lanes=2, window=100)
  for lane in range(2):
    line = np.asarray([order(p) % 1000 for p in range(lane, 2000, 2)])
    for start in range(0, 1000, 100):
      np.testing.assert_array_equal(np.sort(line[start:start + 100]), np.arange(start, start + 100))
    assert (line != np.arange(1000)).mean() > .9


def test_an_unsharded_order_is_a_full_permutation_of_each_epoch():
  drawn, _ = stream([[500]], 50, 20)
  first, second = (np.asarray([e for _, e in drawn[k:k + 500]]) for k in (0, 500))
  assert sorted(first) == sorted(second) == list(range(500)) and (first != second).mean() > .9
  assert abs(np.corrcoef(first, np.arange(500))[0, 1]) < .15


def test_seeds_and_splits_of_a_mixture_have_orders_of_their_own():
  orders = [[Shuffled([40, 40], seed, 2, stream=s)(p) for p in range(80)] for seed, s in (
      (0, 0), (1, 0), (0, 1))]
  assert len({tuple(o) for o in orders}) == 3


@pytest.mark.parametrize('weights', [(.7, .3), (.5, .25, .25), (.9999, .0001), (1 / 3, 1 / 3, 1 / 3)])
def test_a_mixture_holds_its_weights_and_reads_each_split_without_gaps(weights):
  lengths, lanes = [[30, 50], [20, 20, 7], [11, 13]][:len(weights)], 2
  orders = [Shuffled(each, 5, lanes, stream=k) for k, each in enumerate(lengths)]
  mixture = Mixture(orders, weights, seed=5, lanes=lanes)
  drawn = [mixture(lane, draw) for draw in range(BLOCK) for lane in range(lanes)]
  for split, weight in enumerate(weights):
    of = [example for s, example in drawn if s == split]
    assert abs(len(of) - weight * 2 * BLOCK) <= 2
    n = sum(lengths[split])
    counts = np.bincount(of, minlength=n)  # some whole epochs and the begun one
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize('weights', [(.5, .6), (.5, .4), (1.5, -.5), (1., 0.)])
def test_weights_that_do_not_add_up_are_told(weights):
  with pytest.raises(UserError, match='data.mixture must be positive and add up to 1; .* add up to'):
    Mixture([Shuffled([3], 0)] * 2, weights, 0, 1)


@pytest.mark.parametrize('lengths', [[60], [20, 20, 20]])
def test_repeats_put_each_example_so_often_into_a_batch(lengths):
  drawn, _ = stream([lengths], 12, 15, repeats=3)
  batches = np.asarray([e for _, e in drawn]).reshape(15, 12)
  for batch in batches:
    assert sorted(np.bincount(batch, minlength=60)[np.unique(batch)]) == [3] * 4
  assert (np.bincount(batches.ravel(), minlength=60) == 3).all()  # 15 batches of 4 are an epoch


@pytest.mark.parametrize('lengths', [[3072], [384] * 8])
@pytest.mark.parametrize('batch', [1024, 512])
def test_repeats_need_not_divide_the_batch(lengths, batch):
  """DeiT: 3 in 1,024. An epoch of 3,072 examples takes 9,216 rows."""
  steps = 9216 // batch
  drawn, _ = stream([lengths], batch, 2 * steps, repeats=3)
  for epoch in (drawn[:9216], drawn[9216:]):
    assert (np.bincount([e for _, e in epoch], minlength=3072) == 3).all()


@pytest.mark.parametrize('lanes', [1, 64, 256])
def test_every_batch_of_a_mixture_holds_its_weights_nearly(lanes):
  """The spread over batches is that of independent draws; a lane still holds its weights exactly."""
  batch, rows = 4096, 4096 // lanes
  orders = [Shuffled([500] * 256, 0, lanes, stream=k) for k in (0, 1)]
  mixture = Mixture(orders, (.9, .1), seed=0, lanes=lanes)
  count = [sum(mixture(lane, step * rows + row)[0] for lane in range(lanes) for row in range(rows))
           for step in range(60)]
  assert np.std(count) < 1.3 * np.sqrt(batch * .9 * .1)
  of_lane = [mixture(lanes - 1, draw)[0] for draw in range(3 * BLOCK)]
  assert np.reshape(of_lane, (3, BLOCK)).sum(axis=1).tolist() == [BLOCK // 10] * 3


@pytest.mark.parametrize('lanes', [1, 8])
def test_every_lane_of_a_mixture_reads_its_splits_in_order(lanes):
  positions = [[], []]
  orders = [positions[k].append for k in (0, 1)]
  mixture = Mixture([lambda p: orders[0](p) or p, lambda p: orders[1](p) or p], (.7, .3), 3, lanes)
  for draw in range(2 * BLOCK):
    mixture(lanes - 1, draw)
  for found in positions:
    assert found == list(range(lanes - 1, lanes * len(found), lanes))


def test_a_weight_that_would_never_be_drawn_is_told():
  with pytest.raises(UserError, match='weight 4e-05 would never be drawn; give it at least 0.0001'):
    Mixture([Shuffled([3], 0)] * 2, (1 - 4e-5, 4e-5), 0, 1)


@pytest.mark.parametrize('batch, shards, want', [
    (64, 8, 8), (64, 7, 4), (7, 3, 1), (4096, 1024, 256), (1, 5, 1), (96, 40, 32)])
def test_lanes_divide_the_batch_and_leave_each_a_shard(batch, shards, want):
  assert num_lanes(batch, shards) == want
