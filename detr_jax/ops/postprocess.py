"""From a set predictor's outputs to detections, masks and a panoptic picture, as DETR's authors do.

Boxes are a few numbers and are made on the device. Masks of the size of a photograph are made on the
host, an image at a time.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from detr_jax.ops import boxes as box_ops
from detr_jax.ops.masks import resized

# Of the authors' PostProcessPanoptic: a query is kept above this probability, and a segment above
# this many pixels.
PANOPTIC_THRESHOLD, SMALLEST_SEGMENT = .85, 4


def detections(logits: jax.Array, boxes: jax.Array, original_size: jax.Array,
               classifier: str = 'softmax', count: int = 100) -> dict[str, jax.Array]:
  """Returns the detections of a batch, without suppression of any (DETR, section 4 and A.4).

  A softmax gives one detection per query: the best class that is one, also where "no object" is more
  probable. Sigmoids give the `count` best pairs of query and class (Deformable DETR, arXiv:2010.04159).

  Args:
    logits: `[batch, queries, classes + 1]`, "no object" last, or `[batch, queries, classes]`.
    boxes: `[batch, queries, 4]` (centre x, centre y, width, height) as shares of the image.
    original_size: int `[batch, 2]` (height, width) of the images as they were.
    classifier: 'softmax' or 'sigmoid'.
    count: of sigmoids.

  Returns:
    float32 `scores` and int32 `labels` and `queries` `[batch, n]`, and float32 `boxes` `[batch, n, 4]`
    (left, top, right, bottom) in pixels of the images as they were; not cut at their edges.
  """
  logits, boxes = logits.astype(jnp.float32), boxes.astype(jnp.float32)
  queries = jnp.broadcast_to(jnp.arange(logits.shape[1], dtype=jnp.int32), logits.shape[:2])
  if classifier == 'softmax':
    labels, scores = best_class(logits, classifier)
  else:
    flat = jax.nn.sigmoid(logits).reshape(len(logits), -1)
    scores, best = jax.lax.top_k(flat, min(count, flat.shape[1]))
    queries, labels = best // logits.shape[-1], best % logits.shape[-1]
    boxes = jnp.take_along_axis(boxes, queries[..., None], axis=1)
  height, width = jnp.moveaxis(original_size.astype(jnp.float32), -1, 0)
  scale = jnp.stack([width, height, width, height], axis=-1)
  return dict(scores=scores, labels=labels.astype(jnp.int32), queries=queries.astype(jnp.int32),
              boxes=box_ops.to_xyxy(boxes) * scale[:, None])


def best_class(logits: jax.Array, classifier: str, none: bool = False) -> tuple[jax.Array, jax.Array]:
  """Returns the most probable class of each query and its probability, float32.

  Args:
    logits: `[..., classes + 1]` or `[..., classes]`, see `detections`.
    classifier: 'softmax' or 'sigmoid'.
    none: whether "no object" counts among the classes of a softmax, as the last one.
  """
  logits = logits.astype(jnp.float32)
  if classifier == 'softmax':
    probabilities = jax.nn.softmax(logits)
    probabilities = probabilities if none else probabilities[..., :-1]
  else:
    probabilities = jax.nn.sigmoid(logits)
  return probabilities.argmax(axis=-1), probabilities.max(axis=-1)


def suppress(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou: float) -> np.ndarray:
  """Returns which detections stay when of two of a class that overlap the weaker one goes.

  A set predictor needs no such suppression (DETR, section 4.2); a half-trained one may.

  Args:
    boxes: `[n, 4]` corners.
    scores, labels: `[n]`.
    iou: boxes overlap when their intersection over union is larger.

  Returns:
    int `[m]`, best first.
  """
  overlap = np.asarray(box_ops.iou(jnp.asarray(boxes), jnp.asarray(boxes)))
  rivals = (overlap > iou) & (labels[:, None] == labels)
  kept = []
  for i in np.argsort(-scores, kind='stable'):
    if not rivals[i, kept].any():
      kept.append(i)
  return np.array(kept, int)


def enlarge(masks: np.ndarray, canvas: Sequence[int], size: Sequence[int]) -> Iterator[np.ndarray]:
  """Yields mask logits of a padded canvas as they are over its valid part, one at a time.

  A hundred masks of a photograph at once would take hundreds of megabytes.

  Args:
    masks: float `[n, h, w]`.
    canvas: (height, width) of the padded image; the masks are enlarged to it bilinearly.
    size: (height, width) of the image on it.

  Yields:
    float32 `[*size]`, n times.
  """
  import cv2  # here: it starts threads
  height, width = (int(n) for n in size)
  for mask in np.asarray(masks, np.float32):
    yield cv2.resize(mask, (int(canvas[1]), int(canvas[0])),
                     interpolation=cv2.INTER_LINEAR)[:height, :width]


def instance_masks(masks: np.ndarray, canvas: Sequence[int], size: Sequence[int],
                   original_size: Sequence[int], threshold: float = .5) -> np.ndarray:
  """Returns where each object is, in the image as it was; masks may overlap.

  Args:
    masks: float `[n, h, w]` logits over the canvas.
    canvas, size: see `enlarge`.
    original_size: (height, width) of the image as it was; decisions are brought to it by the rule
      of `ops.masks.resized`.
    threshold: probability above which a pixel belongs to the object.

  Returns:
    bool `[n, *original_size]`.
  """
  out = np.empty((len(masks), *(int(n) for n in original_size)), bool)
  for mask, inside in zip(enlarge(masks, canvas, size), out):
    inside[:] = resized(mask, original_size) > np.log(threshold / (1 - threshold))
  return out


def panoptic(logits: np.ndarray, masks: np.ndarray, canvas: Sequence[int], size: Sequence[int],
             original_size: Sequence[int], is_thing: Sequence[bool],
             threshold: float = PANOPTIC_THRESHOLD, classifier: str = 'softmax'
             ) -> tuple[np.ndarray, list[dict]]:
  """Returns one segment per pixel of an image (DETR, section 4.4).

  Queries that are sure of a class compete for each pixel; those of one stuff class become one
  segment; small segments leave their pixels to the others.

  Args:
    logits: float `[queries, classes + 1]`, "no object" last, or `[queries, classes]`.
    masks: float `[queries, h, w]` logits over the canvas.
    canvas, size: see `enlarge`.
    original_size: (height, width) of the image as it was.
    is_thing: `[classes]`, whether objects of the class are told apart.
    threshold: probability above which a query is kept.
    classifier: 'softmax' or 'sigmoid'.

  Returns:
    Segment ids int32 `[*original_size]` from 1, 0 where there is none, and [dict(id, label, score,
    isthing, area)] in pixels.
  """
  labels, scores = (np.asarray(x) for x in best_class(jnp.asarray(logits), classifier, True))
  kept = np.flatnonzero((labels < len(is_thing)) & (scores > threshold))
  masks = _seen(np.asarray(masks)[kept], canvas, size, original_size)
  same = np.arange(len(kept))  # the first mask of the same stuff class, or the mask itself
  for i, label in enumerate(labels[kept]):
    if not is_thing[label]:
      same[i] = np.flatnonzero(labels[kept] == label)[0]
  places = np.arange(len(kept))
  ids, areas = _competition(masks, same)
  while (areas <= SMALLEST_SEGMENT).any():
    places = places[areas > SMALLEST_SEGMENT]
    # As the authors do: what was merged away is gone, and its pixels go to whoever comes next.
    ids, areas = _competition(masks[places], np.arange(len(places)))
  segments = [dict(id=n + 1, label=int(labels[q]), score=float(scores[q]),
                   isthing=bool(is_thing[labels[q]]), area=int(area))
              for n, (q, area) in enumerate(zip(kept[places], areas))]
  return ids, segments


def _seen(masks: np.ndarray, canvas: Sequence[int], size: Sequence[int],
          original_size: Sequence[int]) -> np.ndarray:
  """Returns float32 `[n, *original_size]`: what Pillow's nearest filter shows of the masks."""
  from PIL import Image

  def shown(old, new):
    pixels = Image.fromarray(np.arange(int(old), dtype=np.int32)[None])
    return np.asarray(pixels.resize((int(new), 1), Image.Resampling.NEAREST))[0]

  rows, columns = (shown(old, new) for old, new in zip(size, original_size))
  out = np.empty((len(masks), len(rows), len(columns)), np.float32)
  for mask, seen in zip(enlarge(masks, canvas, size), out):
    seen[:] = mask[rows][:, columns]
  return out


def _competition(masks: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the winner of each pixel, from 1, and the pixels of each mask."""
  if not len(masks):
    return np.zeros(masks.shape[1:], np.int32), np.zeros(0, np.int64)
  best, winner = masks[0].copy(), np.full(masks.shape[1:], same[0], np.int32)
  for mask, number in zip(masks[1:], same[1:]):  # a third of the time of `masks.argmax(axis=0)`
    more = mask > best
    np.maximum(best, mask, out=best)
    np.copyto(winner, np.int32(number), where=more)
  return winner + 1, np.bincount(winner.ravel(), minlength=len(masks))
