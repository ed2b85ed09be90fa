"""Bipartite matching of queries and targets (DETR, arXiv:2005.12872, section 3.1), on the device.

An exact assignment by shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987), in the form
that needs no square matrix (Crouse, IEEE Trans. Aerospace and Electronic Systems 52(4), 2016): one
augmentation for each target that is there, none for padding.
"""

import jax
import jax.numpy as jnp

from detr_jax.ops import boxes as box_ops
from vit_jax import sharding


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


def _finite(costs: jax.Array, real: jax.Array) -> jax.Array:
  """Replaces what is not finite by so much that no optimum takes it if it can be avoided."""
  known = real & jnp.isfinite(costs)
  high = jnp.max(costs, initial=-jnp.inf, where=known)
  low = jnp.min(costs, initial=jnp.inf, where=known)
  spread = jnp.where(high >= low, high - low, 0.)
  worst = jnp.where(high >= low, high, 0.) + (1. + spread) * min(costs.shape)
  return jnp.where(known, costs, worst)


def _augment(costs, v, row_of, waiting):
  """Gives the first of the waiting rows a column, by the shortest augmenting path.

  Args:
    costs: `[rows, columns]`.
    v: `[columns]` prices of the columns.
    row_of: `[columns]` the row that has the column, or -1.
    waiting: `[rows]` whether the row needs a column.

  Returns:
    (v, row_of) with one row more.
  """
  columns, start = v.shape[0], jnp.argmax(waiting)

  def unfinished(carry):
    return ~carry[0]

  def scan(carry):
    _, _, dist, before, closed = carry
    j = jnp.argmin(jnp.where(closed, jnp.inf, dist))
    i = row_of[j]
    closed = closed.at[j].set(i >= 0)
    reached = costs[i] - v - (costs[i, j] - v[j] - dist[j])
    better = ~closed & (reached < dist) & (i >= 0)
    return i < 0, j, jnp.where(better, reached, dist), jnp.where(better, j, before), closed

  _, j, dist, before, closed = jax.lax.while_loop(
      # Under vmap, a problem that waits for others must not search: there may be no free column.
      unfinished, scan,
      (~waiting[start], 0, costs[start] - v, jnp.full(columns, -1), jnp.zeros(columns, bool)))
  v = jnp.where(closed, v + dist - dist[j], v)

  def take(carry):
    j, row_of = carry
    return before[j], row_of.at[j].set(jnp.where(before[j] < 0, start, row_of[before[j]]))

  return v, jax.lax.while_loop(lambda c: c[0] >= 0, take, (j, row_of))[1]


def _match(costs: jax.Array, count: jax.Array) -> jax.Array:
  """Returns the query of each target of one image, see `match`; `costs` is `[M, Q]` here."""
  targets, queries = costs.shape
  real = jnp.arange(targets) < count
  costs = _finite(costs, real[:, None])
  # More targets than queries: as many columns more, which cost nothing and stand for "no query".
  columns = jnp.arange(max(targets, queries))
  costs = jnp.pad(costs, ((0, 0), (0, len(columns) - queries)))
  costs = jnp.where(columns < jnp.maximum(queries, count), costs, jnp.inf)
  # Every row takes its best column, if no row before it did.
  best = jnp.argmin(costs, axis=-1)
  wants = (best[:, None] == columns) & real[:, None]
  row_of = jnp.where(wants.any(axis=0), jnp.argmax(wants, axis=0), -1)


  def waiting(row_of):
    return real & ~(row_of[:, None] == jnp.arange(targets)).any(axis=0)

  _, row_of = jax.lax.while_loop(
      lambda carry: waiting(carry[1]).any(), lambda carry: _augment(costs, *carry, waiting(carry[1])),
      (jnp.zeros(len(columns)), row_of))
  found = row_of[:queries, None] == jnp.arange(targets)
  return jnp.where(found.any(axis=0), jnp.argmax(found, axis=0), -1)


def match(costs: jax.Array, count: jax.Array) -> jax.Array:
  """Returns the assignment of least cost for each of several problems.

  Each of the first `count` targets gets a query of its own, so that the sum of the costs is as small as
  it can be; with more targets than queries, each query gets a target, and the other targets none.

  Args:
    costs: float32 `[problems, queries, targets]`. A cost that is not finite (NaN too) is taken only
      where nothing else is left.
    count: int32 `[problems]`, how many of the targets are there; the rest is padding, is read by
      nobody and costs no time.

  Returns:
    int32 `[problems, targets]`, the query of each target, -1 where it has none.
  """
  return jax.vmap(_match)(jnp.swapaxes(costs, 1, 2), count).astype(jnp.int32)


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
