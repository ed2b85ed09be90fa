"""Panoptic quality (Kirillov et al., arXiv:1801.00868), as panopticapi counts it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from detr_jax.evaluation import collecting

VOID = 0  # the segment id of pixels that belong to none
# What is counted for each class: sum of IoU over matches, matches, segments too many, segments missed.
IOU, MATCHED, SURPLUS, MISSED = range(4)


def count(ids: np.ndarray, segments: Sequence[Mapping], true_ids: np.ndarray,
          true_segments: Sequence[Mapping], num_classes: int) -> np.ndarray:
  """Returns what an image adds to the counts (arXiv:1801.00868, section 4.1 and its void rules).

  Segments of one class match when they share more than half of their union, less the pixels that are
  void in the truth. A crowd is neither matched nor missed. A segment that mostly lies in void, or in
  the crowd of its class, is not counted against.

  Args:
    ids: int `[height, width]`, the segment of each pixel, `VOID` for none.
    segments: [dict(id, label)].
    true_ids, true_segments: the truth; its segments may have `iscrowd`.
    num_classes: number of labels.

  Returns:
    float64 `[num_classes, 4]`, see `IOU` and the others.
  """
  counts = np.zeros((num_classes, 4))
  labels = {s['id']: s['label'] for s in segments}
  truth = {s['id']: s for s in true_segments}
  shared, area, true_area = _overlaps(ids, true_ids)
  found, hits = set(), set()  # true segments, and ours, that match
  for (t, p), n in shared.items():
    if t not in truth or p not in labels or truth[t].get('iscrowd') or truth[t]['label'] != labels[p]:
      continue
    iou = n / (area[p] + true_area[t] - n - shared.get((VOID, p), 0))
    if iou > .5:
      counts[labels[p], [IOU, MATCHED]] += iou, 1
      found.add(t)
      hits.add(p)
  crowds = {s['label']: s['id'] for s in true_segments if s.get('iscrowd')}
  for t, segment in truth.items():
    counts[segment['label'], MISSED] += not segment.get('iscrowd') and t not in found
  for p, label in labels.items():
    if p not in hits and p in area:
      excused = shared.get((VOID, p), 0) + shared.get((crowds.get(label), p), 0)
      counts[label, SURPLUS] += excused / area[p] <= .5
  return counts


def _overlaps(ids: np.ndarray, true_ids: np.ndarray) -> tuple[dict, Counter, Counter]:
  """Returns the pixels of each pair {(true segment, ours): n}, of each of ours, and of each true one."""
  width = int(ids.max(initial=0)) + 1  # one number for each pair: sorting pairs takes 50 times as long
  keys, pixels = np.unique(true_ids.astype(np.int64).ravel() * width + ids.ravel(), return_counts=True)
  shared, area, true_area = {}, Counter(), Counter()
  for key, n in zip(keys.tolist(), pixels.tolist()):
    t, p = divmod(key, width)
    shared[t, p] = n
    true_area[t] += n
    area[p] += n
  return shared, area, true_area


def qualities(counts: np.ndarray) -> np.ndarray:
  """Returns (PQ, SQ, RQ) of each class `[classes, 3]` from counts `[classes, 4]`; NaN without any."""
  iou, matched, surplus, missed = counts.T
  segments = matched + .5 * surplus + .5 * missed
  with np.errstate(invalid='ignore', divide='ignore'):
    quality = np.stack([iou / segments, np.where(matched > 0, iou / matched, 0.),
                        matched / segments], axis=1)
  return np.where(segments[:, None] > 0, quality, np.nan)


def summarize(counts: np.ndarray, is_thing: Sequence[bool]) -> dict[str, float]:
  """Returns `pq`, `sq`, `rq`, and the same of things and of stuff where the data has both.

  Each is the mean over the classes that the truth or a prediction has, as a share of 1.
  """
  quality, is_thing = qualities(counts), np.asarray(is_thing, bool)
  groups = {'': np.ones_like(is_thing), '_things': is_thing, '_stuff': ~is_thing}
  out = {}
  for suffix, group in groups.items():
    some = quality[group & ~np.isnan(quality[:, 0])]
    mean = some.mean(axis=0) if len(some) else np.full(3, np.nan)
    if group.any():
      out |= {f'{name}{suffix}': float(value) for name, value in zip(('pq', 'sq', 'rq'), mean)}
  return out


class PanopticQuality:
  """An evaluator of one segment per pixel. Each process counts its own images; the sums are joined.

  Masks are large: they stay where they were made, and every batch is counted at once.
  """

  def __init__(self, predict: Callable, picture: Callable, truth: Callable[[int], tuple],
               classes: Sequence[str], category_ids: Sequence[int], is_thing: Sequence[bool]):
    """Takes how a task predicts, and the truth.

    Args:
      predict: (params, model_state, batch) -> dict of arrays `[batch, ...]`.
      picture: makes of a row of them, on the host, segment ids `[height, width]` of the image as it
        was, and its segments, see `ops.postprocess.panoptic`.
      truth: returns segment ids and COCO's `segments_info` of an image of the split, by its index; None
        where they are damaged, and are to be skipped.
      classes: names of the labels.
      category_ids: of the labels, as the data has them.
      is_thing: whether objects of a label are told apart.
    """
    self._predict, self._picture, self._truth = predict, picture, truth
    self._classes, self._is_thing = classes, is_thing
    self._labels = {number: label for label, number in enumerate(category_ids)}

  def step(self, params, model_state, batch):
    """Returns what a picture is made of, split over the devices as the batch is."""
    return collecting.split(self._predict(params, model_state, batch), batch)

  def update(self, total, outputs):
    """Adds {index: counts `[classes, 4]`} of the images of a batch that lie on this process.

    An image counts on both sides or, where it or its truth could not be read, on neither.
    """
    total = {} if total is None else total
    for row in collecting.local_rows(outputs):
      index = int(row['index'])
      known = None if index in total else self._truth(index)
      if known:
        true_ids, segments = known
        segments = [{**s, 'label': self._labels[s['category_id']]} for s in segments]
        total[index] = count(*self._picture(row), true_ids, segments, len(self._classes))
    return total

  def _counts(self, total) -> np.ndarray:
    own = sum(total.values(), np.zeros((len(self._classes), 4)))
    return np.sum(collecting.join([own.tolist()]), axis=0)

  def finish(self, total) -> dict[str, float]:
    """Returns PQ, SQ and RQ, see `summarize`."""
    return summarize(self._counts(total), self._is_thing)

  def tables(self, total) -> dict[str, list[dict]]:
    """Returns {'panoptic_per_class': a row for each class that the truth or a prediction has}; {} where
    there are none."""
    rows, counts = [], self._counts(total)
    for name, thing, quality, (_, *numbers) in zip(self._classes, self._is_thing, qualities(counts),
                                                   counts):
      if any(numbers):
        rows.append({'class': name, 'is_thing': bool(thing),
                     **dict(zip(('pq', 'sq', 'rq'), quality.tolist())),
                     **dict(zip(('matched', 'surplus', 'missed'), map(int, numbers)))})
    return {'panoptic_per_class': rows} if rows else {}
