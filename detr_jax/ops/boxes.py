"""Boxes: their two forms, areas and overlaps.

A box is (centre x, centre y, width, height), or (left, top, right, bottom), here called corners. The
overlaps take corners. The conversions take arrays of NumPy, for the host, or of JAX.
"""

import jax
import jax.numpy as jnp


def to_xyxy(boxes):
  """Returns the corners of boxes `[..., 4]` given as (centre x, centre y, width, height)."""
  xp = boxes.__array_namespace__()
  centre, size = boxes[..., :2], boxes[..., 2:]
  return xp.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def to_cxcywh(boxes):
  """Returns (centre x, centre y, width, height) of boxes `[..., 4]` given as corners."""
  xp = boxes.__array_namespace__()
  low, high = boxes[..., :2], boxes[..., 2:]
  return xp.concatenate([(low + high) / 2, high - low], axis=-1)


def area(boxes):
  """Returns the areas `[...]` of corners `[..., 4]`."""
  return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
  """Returns part / whole, and 0 with a gradient of 0 where the whole is 0; NaN stays NaN."""
  empty = whole == 0.
  return jnp.where(empty, 0., part / jnp.where(empty, 1., whole))


def _overlap(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (intersection over union, union)."""
  size = jnp.maximum(jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2]), 0.)
  shared = size[..., 0] * size[..., 1]
  union = area(a) + area(b) - shared
  return _ratio(shared, union), union


def iou_elementwise(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns the intersection over union `[...]` of corners `[..., 4]` with corners `[..., 4]`.

  Two boxes without area have none, so 0, and so is the gradient. A NaN gives NaN.
  """
  return _overlap(a, b)[0]


def giou_elementwise(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns the generalised IoU `[...]` of corners `[..., 4]` with corners `[..., 4]`.

  It is the IoU less the share of the smallest box around both that neither covers
  (arXiv:1902.09630, algorithm 1), from -1 to 1, without a constant added to the denominators. Where
  one of them is 0, its term is 0, and so is the gradient of it. A NaN gives NaN.
  """
  ratio, union = _overlap(a, b)
  size = jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])
  around = size[..., 0] * size[..., 1]
  return ratio - _ratio(around - union, around)


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns `iou_elementwise` of every pair: corners `[..., N, 4]`, `[..., M, 4]` -> `[..., N, M]`."""
  return iou_elementwise(a[..., :, None, :], b[..., None, :, :])


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns `giou_elementwise` of every pair: `[..., N, 4]`, `[..., M, 4]` -> `[..., N, M]`."""
  return giou_elementwise(a[..., :, None, :], b[..., None, :, :])


def masks_to_boxes(masks):
  """Returns the corners `[..., 4]`, float32, of the pixels that are set in masks `[..., H, W]`.

  They are the indices of the first and the last column and row (both included, so that one pixel
  gives a box without area), as DETR's authors take them; zeros for an empty mask.
  """
  xp = masks.__array_namespace__()
  masks = masks.astype(bool)
  ends = []
  for seen in (masks.any(axis=-2), masks.any(axis=-1)):  # columns, rows
    last = seen.shape[-1] - 1 - seen[..., ::-1].argmax(axis=-1)
    ends.append((seen.argmax(axis=-1), xp.where(seen.any(axis=-1), last, 0)))
  (left, right), (top, bottom) = ends
  return xp.stack([left, top, right, bottom], axis=-1).astype(xp.float32)
