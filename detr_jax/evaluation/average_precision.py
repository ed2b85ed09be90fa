"""COCO's average precision, of boxes and of masks; pycocotools counts."""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from detr_jax.data.sources.base import say
from detr_jax.evaluation import collecting
from vit_jax.errors import UserError

AREAS = ('all', 'small', 'medium', 'large')  # of pycocotools: up to 32 and 96 pixels squared


class AveragePrecision:
  """An evaluator that collects the detections of all images and counts once all are there."""

  def __init__(self, detect: Callable, ground_truth: Callable[[], Mapping],
               category_ids: Sequence[int], max_detections: int = 100,
               masks: Callable | None = None):
    """Takes how a task detects, and the truth.

    Args:
      detect: (params, model_state, batch) -> dict of `scores`, `labels` `[batch, n]` and `boxes`
        `[batch, n, 4]`, see `ops.postprocess.detections`, and whatever `masks` needs.
      ground_truth: returns COCO's JSON of the split; its `images` are in the order of the split.
      category_ids: of the labels, as the data has them.
      max_detections: that count for each image and class, the best ones.
      masks: makes of a row of what `detect` gave, on the host, bool masks `[n, height, width]` of the
        image as it was, see `ops.postprocess.instance_masks`; then they are measured as well.

    Raises:
      UserError: fewer detections than the measures need.
    """
    if max_detections <= 10:
      raise UserError(f'max_detections={max_detections} must be larger than 10: recall is measured '
                      'at 1, 10 and that many detections')
    self._detect, self._ground_truth, self._masks = detect, ground_truth, masks
    self._category_ids, self._max_detections = category_ids, max_detections
    self._latest = None, None  # what was evaluated last: finish and tables need the same

  def step(self, params, model_state, batch):
    """Returns the detections, split over the devices as the batch is."""
    return collecting.split(self._detect(params, model_state, batch), batch)

  def update(self, total, outputs):
    """Adds {index: detections in COCO's format} of the images of a batch that lie on this process."""
    total = {} if total is None else total
    for row in collecting.local_rows(outputs):
      if int(row['index']) not in total:
        total[int(row['index'])] = to_coco(row, self._category_ids, self._masks and self._masks(row))
    return total

  def finish(self, total) -> dict[str, float]:
    """Returns COCO's twelve numbers as shares of 1, -1 where there is nothing to find.

    With masks, theirs follow with `mask_` before the name.
    """
    images, _, evaluations = self._evaluated(total)
    numbers = {f'{prefix}{name}': value for prefix, evaluation in evaluations.items()
               for name, value in summarize(evaluation).items()}
    return {**numbers, 'examples': len(images)}

  def tables(self, total) -> dict[str, list[dict]]:
    """Returns {'per_class': a row for each class, 'detections.json': see `to_coco`}."""
    _, found, evaluations = self._evaluated(total)
    rows = [per_class(evaluation, prefix) for prefix, evaluation in evaluations.items()]
    return {'per_class': [dict(kv for part in parts for kv in part.items()) for parts in zip(*rows)],
            'detections.json': found}

  def _evaluated(self, total):
    """Returns the images that were seen, all detections, and {prefix: evaluation}."""
    if self._latest[0] is not total:
      images = dict(collecting.join(list(total.items())))
      truth, found = seen(self._ground_truth(), images)
      kinds = {'': found}
      if self._masks:  # without boxes, as the authors' code: a detection is as large as its mask
        kinds['mask_'] = [{k: v for k, v in one.items() if k != 'bbox'} for one in found]
      self._latest = total, (images, found, {
          prefix: evaluate(truth, those, 'segm' if prefix else 'bbox', self._max_detections)
          for prefix, those in kinds.items()})
    return self._latest[1]


def seen(truth: Mapping, images: Mapping[int, list[dict]]) -> tuple[dict, list[dict]]:
  """Returns the truth of the images that were read, and all detections with `image_id`.

  An image that could not be read counts on neither side. The first process tells how many there are.

  Args:
    truth: COCO's JSON of the split.
    images: {index in the split: detections without `image_id`}.
  """
  ids = {index: truth['images'][index]['id'] for index in sorted(images)}
  kept = set(ids.values())
  lost = len(truth['images']) - len(ids)
  if lost and jax.process_index() == 0:
    say(f'{lost} of {len(truth["images"])} images of the evaluation split could not be read; neither '
        'their objects nor any detections of them count')
  found = [{'image_id': ids[index], **detection} for index in ids for detection in images[index]]
  return {**truth, 'images': [one for one in truth['images'] if one['id'] in kept],
          'annotations': [one for one in truth['annotations'] if one['image_id'] in kept]}, found


def to_coco(row: Mapping[str, np.ndarray], category_ids: Sequence[int],
            masks: np.ndarray | None = None) -> list[dict]:
  """Returns the detections of an image as COCO's results format has them, less `image_id`.

  Args:
    row: `scores`, `labels` `[n]`, and `boxes` `[n, 4]` corners.
    category_ids: of the labels, as the data has them.
    masks: bool `[n, height, width]`, or None.

  Returns:
    [dict(category_id, bbox [left, top, width, height] in pixels, score)], with masks also
    `segmentation`, run lengths in pycocotools' coding.
  """
  boxes = np.concatenate([row['boxes'][:, :2], row['boxes'][:, 2:] - row['boxes'][:, :2]], axis=1)
  found = [dict(category_id=category_ids[label], bbox=box, score=score) for label, box, score in zip(
      row['labels'].tolist(), boxes.tolist(), row['scores'].tolist())]
  if masks is not None:
    from pycocotools import mask as coding
    for detection, mask in zip(found, masks):
      coded = coding.encode(np.asfortranarray(mask, np.uint8))
      detection['segmentation'] = dict(size=list(coded['size']), counts=coded['counts'].decode())
  return found


def evaluate(truth: Mapping, found: Sequence[Mapping], kind: str = 'bbox', max_detections: int = 100):
  """Returns pycocotools' `COCOeval`, accumulated, for all images.

  Args:
    truth: in COCO's format, crowds among them.
    found: in COCO's results format. How large a detection is, which decides where it counts among
      small, medium and large ones, is what it tells as `area`; else, as `COCO.loadRes` has it, that of
      its box, or of its mask where it has no box.
    kind: 'bbox' or 'segm'.
    max_detections: for each image and class.
  """
  from pycocotools.cocoeval import COCOeval
  # COCOeval takes a match with annotation 0 for none, so annotations are counted from 1. Where one has
  # no mask, as some crowds, its box stands for it.
  annotations = [{'segmentation': [_polygon(*a['bbox'])], **a, 'id': n}
                 for n, a in enumerate(truth['annotations'], 1)]
  results = [{**d, 'id': n, 'iscrowd': 0, 'area': _area(d)} for n, d in enumerate(found, 1)]
  with contextlib.redirect_stdout(io.StringIO()):
    evaluation = COCOeval(_indexed(truth, annotations), _indexed(truth, results), kind)
    evaluation.params.maxDets = [1, 10, max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
  return evaluation


def has_masks(truth: Mapping) -> bool:
  """Tells whether there are masks in COCO's JSON; `evaluate` takes the box of an object without one."""
  return any(annotation.get('segmentation') for annotation in truth['annotations'])


def _area(detection: Mapping) -> float:
  if 'area' in detection:
    return detection['area']
  if detection.get('bbox'):
    return detection['bbox'][2] * detection['bbox'][3]
  from pycocotools import mask as coding
  return float(coding.area(detection['segmentation']))


def _polygon(left: float, top: float, width: float, height: float) -> list[float]:
  right, bottom = left + width, top + height
  return [left, top, right, top, right, bottom, left, bottom]


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


def per_class(evaluation, prefix: str = '') -> list[dict]:
  """Returns a row for each class: its name, objects without crowds, AP and AP50 (NaN without any)."""
  truth, precision = evaluation.cocoGt, evaluation.eval['precision'][:, :, :, 0, -1]
  objects = {id: 0 for id in truth.cats}
  for annotation in truth.dataset['annotations']:
    objects[annotation['category_id']] += not annotation.get('iscrowd', 0)
  rows = []
  for k, id in enumerate(evaluation.params.catIds):
    ap, ap50 = (float(precision[part, :, k].mean()) if objects[id] else float('nan')
                for part in (slice(None), 0))
    rows.append({'class': truth.cats[id]['name'], 'objects': objects[id], f'{prefix}ap': ap,
                 f'{prefix}ap50': ap50})
  return rows
