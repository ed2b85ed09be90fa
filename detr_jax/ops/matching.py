"""Bipartite matching of queries and targets (DETR, arXiv:2005.12872, section 3.1), on the device.

An exact assignment by shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987), in the form
that needs no square matrix (Crouse, IEEE Trans. Aerospace and Electronic Systems 52(4), 2016): one
augmentation for each target that is there, none for padding.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from detr_jax.ops import boxes as box_ops
from vit_jax import sharding

WORST = 1e5  # replaces a cost that is NaN or infinite


def focal_cost(logits: jax.Array, alpha: float = .25, gamma: float = 2.) -> jax.Array:
  """Returns what a sigmoid's focal loss (arXiv:1708.02002) changes by when its class is the target.

  Deformable DETR matches by it (arXiv:2010.04159, appendix A.4).
  """
  positive = alpha * jax.nn.sigmoid(-logits) ** gamma * jax.nn.softplus(-logits)
  negative = (1. - alpha) * jax.nn.sigmoid(logits) ** gamma * jax.nn.softplus(logits)
  return positive - negative


def cost(logits: jax.Array, boxes: jax.Array, labels: jax.Array, target_boxes: jax.Array, *,
         classification: str = 'softmax', cost_class: float = 1., cost_bbox: float = 5.,
         cost_giou: float = 2.) -> jax.Array:
  """Returns what each pair of a query and a target costs (equation 1 and section 3.1).

  Args:
    logits: `[..., queries, classes]`; for 'softmax' "no object" is one of the classes.
    boxes: `[..., queries, 4]`, centre and size.
    labels: `[..., targets]` classes; those of padding may be anything.
    target_boxes: `[..., targets, 4]`.
    classification: 'softmax', by the probability, or 'focal', by `focal_cost`.
    cost_class, cost_bbox, cost_giou: weights of the terms; a term of weight 0 is not computed.

  Returns:
    float32 `[..., queries, targets]`; NaN where a prediction is.
  """
  logits, boxes, target_boxes = (x.astype(jnp.float32) for x in (logits, boxes, target_boxes))
  total = 0.
  if cost_class:
    wanted = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[..., None, :], axis=-1)
    if classification == 'softmax':
      total -= cost_class * jnp.exp(wanted - jax.nn.logsumexp(logits, axis=-1, keepdims=True))
    else:
      total += cost_class * focal_cost(wanted)
  if cost_bbox:
    total += cost_bbox * jnp.abs(boxes[..., :, None, :] - target_boxes[..., None, :, :]).sum(axis=-1)
  if cost_giou:
    total -= cost_giou * box_ops.giou(box_ops.to_xyxy(boxes), box_ops.to_xyxy(target_boxes))
  return total


def _cheapest(values: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (least value, its index) of a vector without NaN; CPUs take far longer for `jnp.argmin`."""
  def better(a, b):
    second = b[0] < a[0]
    return jnp.where(second, b[0], a[0]), jnp.where(second, b[1], a[1])

  index = jnp.arange(len(values), dtype=jnp.int32)
  return jax.lax.reduce((values, index), (jnp.float32(jnp.inf), jnp.int32(0)), better, (0,))


class _State(NamedTuple):
  """A partial assignment: the prices of the columns (dual variables) and who has whom, or -1."""
  prices: jax.Array  # [columns] 0 where no row has the column, -inf where none may
  row_of: jax.Array  # [columns]
  column_of: jax.Array  # [rows]

  def give(self, row, column) -> '_State':
    """Gives a row a column."""
    return self._replace(row_of=self.row_of.at[column].set(row),
                         column_of=self.column_of.at[row].set(column))


def _augment(costs_of: Callable, start: jax.Array, state: _State) -> _State:
  """Gives one row more a column, by the shortest augmenting path.

  Args:
    costs_of: (number of a row, number of a column = 0, width = all) -> costs from there on, `[width]`.
    start: number of the row.
    state: what the rows before it have.
  """
  prices, row_of, _ = state
  away = costs_of(start) - prices  # lengths of the paths found so far, to columns not yet closed
  first = _cheapest(away)

  # A CPU runs the kernels of this loop and of the one around it one after another, as long as there
  # are at most eight in each; from nine on XLA schedules them over threads, which takes twice as long.
  def step(carry):
    length, column, away, closed, before = carry
    row = row_of[column]
    closed = jnp.where(jnp.arange(len(prices)) == column, length, closed)
    offset = costs_of(row, column, 1)[0] - prices[column] - length
    reached = costs_of(row) - prices - offset
    shorter = (closed == jnp.inf) & (reached < away)
    before = jnp.where(shorter, column, before)
    away = jnp.where(closed < jnp.inf, jnp.inf, jnp.where(shorter, reached, away))
    return *_cheapest(away), away, closed, before

  def blocked(carry):
    length, column, *_ = carry
    # Under vmap a solved problem goes on until all are, perhaps without a column that is free.
    return (row_of[column] >= 0) & (length < jnp.inf)

  def search():
    length, column, _, closed, before = jax.lax.while_loop(
        blocked, step,
        (*first, away, jnp.full_like(prices, jnp.inf), jnp.full_like(row_of, -1)))

    def shift(carry):  # along the path, from its end
      column, state = carry
      previous = before[column]
      row = jnp.where(previous < 0, start, state.row_of[previous])
      return previous, state.give(row, column)

    _, shifted = jax.lax.while_loop(lambda carry: carry[0] >= 0, shift, (column, state))
    return shifted._replace(prices=prices + jnp.minimum(closed - length, 0.))

  return jax.lax.cond(row_of[first[1]] < 0, lambda: state.give(start, first[1]), search)


def _solve(costs, problem, count, greedy: bool) -> jax.Array:
  """Returns the column of each row, `[rows]`, of one problem of `match`, or -1.

  Args:
    costs: `[problems, rows, columns]`, of which only the rows that are there are ever read: a slice of
      them all would take longer than to match.
    problem: number of the problem.
    count: how many rows are there.
    greedy: whether to look at all rows at once first.
  """
  _, rows, queries = costs.shape
  # More targets than queries: as many columns more, which cost nothing and stand for "no query".
  columns = max(rows, queries)
  costs = jnp.pad(costs, ((0, 0), (0, 0), (0, columns - queries)))

  def costs_of(row, column=0, width=columns):
    values = jax.lax.dynamic_slice(costs, (problem, row, column), (1, 1, width))[0, 0]
    return jnp.where(jnp.abs(values) < WORST, values, WORST)

  number, index = jnp.arange(rows, dtype=jnp.int32), jnp.arange(columns, dtype=jnp.int32)
  state = _State(jnp.where(index < jnp.maximum(queries, count), 0., -jnp.inf),
                 jnp.full(columns, -1, jnp.int32), jnp.full(rows, -1, jnp.int32))
  row_to_place = lambda k: k
  if greedy:  # each row takes its cheapest column, if no row before it does
    best = jax.vmap(lambda row: _cheapest(costs_of(row) - state.prices)[1])(number)
    wants = (best[:, None] == index) & (number < count)[:, None]
    taker = jnp.where(wants, number[:, None], rows).min(axis=0)
    state = _State(state.prices, jnp.where(taker < rows, taker, -1),
                   jnp.where(taker[best] == number, best, -1))
    waiting = (number < count) & (state.column_of < 0)
    order, count = jnp.argsort(~waiting), waiting.sum()
    row_to_place = lambda k: order[k]
  _, _, found = jax.lax.fori_loop(
      0, count, lambda k, state: _augment(costs_of, row_to_place(k), state), state)
  return jnp.where(found < queries, found, -1)


def match(costs: jax.Array, count: jax.Array) -> jax.Array:
  """Returns the assignment of least cost for each of several problems.

  Each of the first `count` targets gets a query of its own, so that the sum of the costs is as small as
  it can be; with more targets than queries, each query gets a target, and the other targets none. A
  cost that is NaN, or not between -1e5 and 1e5, counts as 1e5.

  A CPU solves one problem after another, without a step for padding; other devices all at once.

  Args:
    costs: float32 `[problems, queries, targets]`.
    count: int32 `[problems]`, how many of the targets are there; the rest is padding.

  Returns:
    int32 `[problems, targets]`, the query of each target, -1 where it has none.
  """
  def in_turn(costs, count):
    problems = jnp.arange(len(costs), dtype=jnp.int32)
    return jax.lax.map(lambda x: _solve(costs, *x, greedy=False), (problems, count))

  def at_once(costs, count):
    return jax.vmap(lambda costs, count: _solve(costs[None], 0, count, greedy=True))(costs, count)

  return jax.lax.platform_dependent(jnp.swapaxes(costs, 1, 2), count.astype(jnp.int32),
                                    cpu=in_turn, default=at_once)


def match_layers(costs: jax.Array, count: jax.Array) -> jax.Array:
  """Returns `match` for every layer and image.

  On a mesh (see `vit_jax.sharding`) every device matches its own images, and nothing is sent. No
  gradient flows.

  Args:
    costs: `[layers, batch, queries, targets]`.
    count: `[batch]`.

  Returns:
    int32 `[layers, batch, targets]`.
  """
  def local(costs, count):
    layers, batch, queries, targets = costs.shape
    found = match(costs.reshape(layers * batch, queries, targets), jnp.tile(count, layers))
    return found.reshape(layers, batch, targets)

  costs = jax.lax.stop_gradient(costs.astype(jnp.float32))
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or 'data' not in mesh.axis_names or count.shape[0] % sharding.batch_shards(mesh):
    return local(costs, count)
  rows = sharding.BATCH
  layered = jax.sharding.PartitionSpec(None, *rows)
  return jax.shard_map(local, in_specs=(layered, rows), out_specs=layered, check_vma=False)(costs, count)
