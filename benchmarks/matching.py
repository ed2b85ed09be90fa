"""CPU time of matching 16 images x 6 decoder layers x 100 queries, next to a loop over scipy.

    pip install -e '.[test]'
    python -m benchmarks.matching

One process on one core. The costs are DETR's own, of drawn predictions at three stages of training: at
its start all queries say nearly the same, in the middle most targets have two queries near them that do
not tell which of them is meant, in the end each target has its queries. A timing is refused unless both
sides find the same sums of costs.
"""

import argparse
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.sides import last_core, pin
from detr_jax.ops import matching

LAYERS, IMAGES, QUERIES, CLASSES = 6, 16, 100, 91
# Of the middle and the end: share of targets that have queries, distance of these, height of the logit.
STAGES = dict(start=None, middle=(.6, .06, 2.), end=(1., .01, 6.))
COUNTS = ('COCO', 10, 50, 100)


def sigmoid(x):
  """Returns the sigmoid."""
  return 1. / (1. + np.exp(-x))


def target_counts(rng, kind) -> np.ndarray:
  """Returns how many targets each image has; 'COCO': 7.4 on average, 60 in one of the images."""
  if kind != 'COCO':
    return np.full(IMAGES, kind, np.int32)
  count = np.r_[60, np.clip(np.round(rng.lognormal(1., .8, IMAGES - 1)), 0, 59)].astype(np.int32)
  while count.mean() > 7.4:
    count[rng.choice(np.flatnonzero((count > 0) & (count < 60)))] -= 1
  while count.mean() < 7.4:
    count[rng.integers(1, IMAGES)] += 1
  return count


def costs(stage: str, count: np.ndarray, room: int, seed: int) -> np.ndarray:
  """Returns float32 costs `[layers * images, targets, queries]`."""
  rng = np.random.default_rng(seed)
  shape = (LAYERS, IMAGES, QUERIES)
  labels = rng.integers(0, CLASSES, (IMAGES, room))
  targets = np.concatenate([rng.uniform(.1, .9, (IMAGES, room, 2)),
                            np.exp(rng.normal(-1.8, .8, (IMAGES, room, 2))).clip(.01, .9)], axis=-1)
  logits = .3 * rng.normal(size=(QUERIES, CLASSES + 1)) + .05 * rng.normal(size=(*shape, CLASSES + 1))
  places = rng.normal(size=(QUERIES, 4))
  if STAGES[stage] is None:
    boxes = sigmoid(.3 * places + .03 * rng.normal(size=(*shape, 4)))
  else:
    share, distance, height = STAGES[stage]
    boxes = sigmoid(places * [1.2, 1.2, .6, .6] - [0, 0, 1.5, 1.5] + .3 * rng.normal(size=(*shape, 4)))
    for b, number in enumerate(count):
      order = rng.permutation(QUERIES)
      for i, query in enumerate(order[:min(2 * number, QUERIES)]):
        target = i % number
        if rng.random() < share:
          near = targets[b, target] + distance * rng.normal(size=(LAYERS, 4))
          boxes[:, b, query] = near.clip(.005, .995)
          logits[:, b, query, labels[b, target]] += height * rng.uniform(.3, 1.)
  found = jax.vmap(lambda x, y: matching.cost(x, y, labels, targets))(
      logits.astype(np.float32), boxes.astype(np.float32))
  return np.ascontiguousarray(np.swapaxes(found.reshape(-1, QUERIES, room), 1, 2))


def check(given, count, found) -> None:
  """Stops unless what was found is a matching that costs as little as scipy's."""
  for matrix, number, queries in zip(given.astype(np.float64), count, np.asarray(found)):
    best = matrix[linear_sum_assignment(matrix[:number])].sum()
    queries = queries[:number]
    if len(set(queries)) != number or abs(matrix[np.arange(number), queries].sum() - best) > 1e-4:
      raise SystemExit('the two sides do not find the same sum of costs')


def cpu_ms(function, rounds: int, calls: int = 10) -> list[float]:
  """Returns CPU ms of a call, once for each round."""
  function()
  out = []
  for _ in range(rounds):
    start = time.process_time()
    for _ in range(calls):
      function()
    out.append((time.process_time() - start) / calls * 1e3)
  return out


def main() -> None:
  """Prints the table."""
  flags = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('--rounds', type=int, default=7)
  flags.add_argument('--core', type=int, default=last_core())
  flags = flags.parse_args()
  pin(flags.core)
  # As in the loss, costs lie in memory target by target: turning them round costs nothing.
  match = jax.jit(lambda given, count: matching.match(jnp.swapaxes(given, 1, 2), count))
  print(f'CPU ms of {LAYERS * IMAGES} problems: median (least-most) of {flags.rounds} timings; load '
        f'average {os.getloadavg()[0]:.1f}\n'
        '| stage | targets | scipy | detr_jax | detr_jax / scipy |\n|---|---|---|---|---|')
  for stage in STAGES:
    for kind in COUNTS:
      room = 64 if kind == 'COCO' else 100
      count = target_counts(np.random.default_rng(0), kind)
      given = costs(stage, count, room, seed=1)
      count = np.tile(count, LAYERS)
      arrays = jnp.asarray(given), jnp.asarray(count)
      check(given, count, match(*arrays))
      matrices = [matrix[:number] for matrix, number in zip(given, count)]
      theirs = cpu_ms(lambda m=matrices: [linear_sum_assignment(x) for x in m], flags.rounds)
      ours = cpu_ms(lambda a=arrays: match(*a).block_until_ready(), flags.rounds)
      shown = [f'{statistics.median(x):.2f} ({min(x):.2f}-{max(x):.2f})' for x in (theirs, ours)]
      print(f'| {stage} | {kind} | {shown[0]} | {shown[1]} | '
            f'**{statistics.median(ours) / statistics.median(theirs):.2f}** |', flush=True)


if __name__ == '__main__':
  main()
