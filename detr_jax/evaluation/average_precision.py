"""COCO's average precision of boxes; pycocotools counts."""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from vit_jax import sharding
from vit_jax.errors import UserError

AREAS = ('all', 'small', 'medium', 'large')  # of pycocotools: up to 32 and 96 pixels squared
KEPT = ('scores', 'labels', 'boxes')


class AveragePrecision:
  """An evaluator that collects the detections of all images and counts once all are there."""

  def __init__(self, detect: Callable, ground_truth: Callable[[], Mapping],
               category_ids: Sequence[int], max_detections: int = 100):
    """Takes how a task detects, and the truth.

    Args:
      detect: (params, model_state, batch) -> dict of `scores`, `labels` `[batch, n]` and `boxes`
        `[batch, n, 4]`, see `ops.postprocess.detections`.
      ground_truth: returns COCO's JSON of the split; its `images` are in the order of the split.
      category_ids: of the labels, as the data has them.
      max_detections: that count for each image and class, the best ones.

    Raises:
      UserError: fewer detections than the measures need.
    """
    if max_detections <= 10:
      raise UserError(f'max_detections={max_detections} must be larger than 10: recall is measured '
                      'at 1, 10 and that many detections')
    self._detect, self._ground_truth = detect, ground_truth
    self._category_ids, self._max_detections = category_ids, max_detections
    self._latest = None, [], None  # what was evaluated last: finish and tables need the same

  def step(self, params, model_state, batch):
    """Returns the detections of the global batch, on every device, with `index` and `mask`."""
    found = self._detect(params, model_state, batch)
    return sharding.gather({**{key: found[key] for key in KEPT},
                            'index': batch['index'], 'mask': batch['mask']})

  def update(self, total, outputs):
    """Adds the images of a batch as {index: detections}; each counts once."""
    total = {} if total is None else total
    rows = jax.device_get(outputs)
    for row in np.flatnonzero(rows['mask']):
      total.setdefault(int(rows['index'][row]), {key: rows[key][row] for key in KEPT})
    return total

  def finish(self, total) -> dict[str, float]:
    """Returns COCO's twelve numbers as shares of 1, -1 where there is nothing to find."""
    return {**summarize(self._evaluated(total)[1]), 'examples': len(total)}

  def tables(self, total) -> dict[str, list[dict]]:
    """Returns {'per_class': a row for each class, 'detections.json': see `to_coco`}."""
    found, evaluation = self._evaluated(total)
    return {'per_class': per_class(evaluation), 'detections.json': found}

  def _evaluated(self, total):
    if self._latest[0] is not total:
      truth = self._ground_truth()
      found = to_coco(total, [image['id'] for image in truth['images']], self._category_ids)
      self._latest = total, found, evaluate(truth, found, self._max_detections)
    return self._latest[1:]


def to_coco(detections: Mapping[int, Mapping[str, np.ndarray]], image_ids: Sequence[int],
            category_ids: Sequence[int]) -> list[dict]:
  """Returns detections as COCO's results format has them.

  Args:
    detections: {index of the image: dict of `scores`, `labels` `[n]`, `boxes` `[n, 4]` corners}.
    image_ids: of the indices, as the data has them.
    category_ids: of the labels, as the data has them.

  Returns:
    [dict(image_id, category_id, bbox [left, top, width, height] in pixels, score)]
  """
  found = []
  for index, rows in sorted(detections.items()):
    boxes = np.concatenate([rows['boxes'][:, :2], rows['boxes'][:, 2:] - rows['boxes'][:, :2]], axis=1)
    found += [dict(image_id=image_ids[index], category_id=category_ids[label], bbox=box, score=score)
              for label, box, score in zip(rows['labels'].tolist(), boxes.tolist(),
                                           rows['scores'].tolist())]
  return found


def evaluate(truth: Mapping, found: Sequence[Mapping], max_detections: int = 100):
  """Returns pycocotools' `COCOeval`, accumulated, for the boxes of all images.

  Args:
    truth: in COCO's format, crowds among them.
    found: in COCO's results format.
    max_detections: for each image and class.
  """
  from pycocotools.cocoeval import COCOeval
  # COCOeval takes a match with annotation 0 for none, so annotations are counted from 1.
  annotations = [{**a, 'id': n} for n, a in enumerate(truth['annotations'], 1)]
  results = [{**d, 'id': n, 'iscrowd': 0, 'area': d['bbox'][2] * d['bbox'][3]}
             for n, d in enumerate(found, 1)]
  with contextlib.redirect_stdout(io.StringIO()):
    evaluation = COCOeval(_indexed(truth, annotations), _indexed(truth, results), 'bbox')
    evaluation.params.maxDets = [1, 10, max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
  return evaluation


def _indexed(truth: Mapping, annotations: list[dict]):
  from pycocotools.coco import COCO
  out = COCO()
  out.dataset = dict(images=truth['images'], categories=truth['categories'], annotations=annotations)
  out.createIndex()
  return out


def summarize(evaluation) -> dict[str, float]:
  """Returns the twelve numbers of an accumulated `COCOeval`, in COCO's order.

  `ar_1`, `ar_10`, `ar_100` are recalls with so many detections per image and class; the last one is
  named after the largest number that was allowed. -1 where there is nothing to find.
  """
  precision, recall = evaluation.eval['precision'], evaluation.eval['recall']
  mean = lambda values: float(values[values > -1].mean()) if (values > -1).any() else -1.
  numbers = {'ap': mean(precision[:, :, :, 0, -1]), 'ap50': mean(precision[0, :, :, 0, -1]),
             'ap75': mean(precision[5, :, :, 0, -1])}
  numbers |= {f'ap_{area}': mean(precision[:, :, :, i, -1]) for i, area in enumerate(AREAS) if i}
  numbers |= {f'ar_{n}': mean(recall[:, :, 0, i]) for i, n in enumerate(evaluation.params.maxDets)}
  return numbers | {f'ar_{area}': mean(recall[:, :, i, -1]) for i, area in enumerate(AREAS) if i}


def per_class(evaluation) -> list[dict]:
  """Returns a row for each class: its name, objects without crowds, AP and AP50 (NaN without any)."""
  truth, precision = evaluation.cocoGt, evaluation.eval['precision'][:, :, :, 0, -1]
  objects = {id: 0 for id in truth.cats}
  for annotation in truth.dataset['annotations']:
    objects[annotation['category_id']] += not annotation.get('iscrowd', 0)
  rows = []
  for k, id in enumerate(evaluation.params.catIds):
    some = objects[id] > 0
    rows.append({'class': truth.cats[id]['name'], 'objects': objects[id],
                 'ap': float(precision[:, :, k].mean()) if some else float('nan'),
                 'ap50': float(precision[0, :, k].mean()) if some else float('nan')})
  return rows
