"""What is done with DETR's outputs: post-processing, average precision, panoptic quality."""

import json
import re

import numpy as np

from detr_jax.evaluation import average_precision, panoptic_quality
from detr_jax.ops import postprocess
from tests.goldens.base import Golden, Unknown


def detr_postprocess(golden: Golden) -> dict[str, np.ndarray]:
  """PostProcess and, where there are masks, PostProcessSegm and PostProcessPanoptic of DETR."""
  given, config = golden.inputs, golden.meta['config']
  classes = given['pred_logits'].shape[-1] - 1
  config.check('num_classes', classes)
  found = postprocess.detections(given['pred_logits'], given['pred_boxes'], given['target_sizes'])
  out = {f'bbox_{i}_{key}': found[key][i] for i in range(len(given['target_sizes']))
         for key in ('scores', 'labels', 'boxes')}
  if 'pred_masks' in given:
    return out | _masks(given, config, [label in config['thing_ids'] for label in range(classes)])
  config.skip('thing_ids', 'threshold')  # of panoptic segments
  given.skip('processed_sizes')
  return out


def _masks(given, config, is_thing) -> dict[str, np.ndarray]:
  """Returns the masks of objects and the segments of each image."""
  out, sizes = {}, given['processed_sizes']
  for i, (original, size) in enumerate(zip(given['target_sizes'], sizes, strict=True)):
    masks = postprocess.instance_masks(given['pred_masks'][i], sizes.max(0), size, original)
    ids, segments = postprocess.panoptic(
        given['pred_logits'][i], given['pred_masks'][i], size, size, original, is_thing,
        config.get('threshold', .85))
    rows = [[s['id'] - 1, s['label'], s['isthing'], s['area']] for s in segments]
    out |= {f'segm_{i}_masks': np.packbits(masks),
            f'segm_{i}_shape': np.array([len(masks), 1, *masks.shape[1:]]),
            f'panoptic_{i}_ids': ids - 1,
            f'panoptic_{i}_segments': np.array(rows, int).reshape(-1, 4)}
  return out


def decided_by_masks(system: str, name: str) -> bool:
  """Whether a real-valued threshold of mask pixels decides an output."""
  return system == 'detr_postprocess' and bool(re.fullmatch(r'segm_\d+_masks|panoptic_\d+_\w+', name))


def share_of_pixels(golden: Golden, name: str, got: np.ndarray) -> float:
  """Returns the share of an image's pixels in which such an output differs; NaN for other segments."""
  want, number = golden.outputs[name], name.split('_')[1]
  if np.shape(got) != want.shape:
    return float('nan')
  if name.endswith('_masks'):
    count = int(np.prod(golden.outputs[f'segm_{number}_shape']))
    return float((np.unpackbits(got, count=count) != np.unpackbits(want, count=count)).mean())
  if name.endswith('_ids'):
    return float((got != want).mean())
  if (got[:, :3] != want[:, :3]).any():
    return float('nan')
  pixels = int(np.prod(golden.inputs['target_sizes'][int(number)]))
  return float(np.abs(got[:, 3] - want[:, 3]).max(initial=0) / pixels)


def coco_ap(golden: Golden) -> dict[str, np.ndarray]:
  """COCOeval of pycocotools, for boxes and for masks."""
  truth, found = (json.loads(str(golden.inputs[key])) for key in ('gt_json', 'dets_json'))
  out = {}
  for kind in golden.meta['config']['types']:
    if kind not in ('bbox', 'segm'):
      raise Unknown(f'meta.config.types has {kind!r}, not bbox or segm')
    evaluation = average_precision.evaluate(truth, [_loaded(d, found[0]) for d in found], kind)
    out |= {f'{kind}_stats': np.array(list(average_precision.summarize(evaluation).values())),
            f'{kind}_recall': evaluation.eval['recall'],
            **{f'{kind}_{key}': evaluation.eval[key][..., -1] for key in ('precision', 'scores')}}
  return out


def _loaded(detection: dict, first: dict) -> dict:
  """Returns a detection with the area by which pycocotools' `loadRes` puts it into a class of sizes."""
  if first.get('bbox'):  # also where there are masks
    return {**detection, 'area': detection['bbox'][2] * detection['bbox'][3]}
  from pycocotools import mask as coding
  return {**detection, 'area': float(coding.area(detection['segmentation']))}


def panoptic_pq(golden: Golden) -> dict[str, np.ndarray]:
  """pq_compute of panopticapi."""
  truth, found = (json.loads(str(golden.inputs[key])) for key in ('gt_json', 'pred_json'))
  golden.meta['config'].check('void', 0)
  categories = truth['categories']
  label = {category['id']: i for i, category in enumerate(categories)}
  segments = lambda annotation: [{**s, 'label': label[s['category_id']]}
                                 for s in annotation['segments_info']]
  predicted = {annotation['image_id']: segments(annotation) for annotation in found['annotations']}
  counts = sum(panoptic_quality.count(
      golden.inputs[f'pred_{i}'], predicted[annotation['image_id']], golden.inputs[f'gt_{i}'],
      segments(annotation), len(categories)) for i, annotation in enumerate(truth['annotations']))
  is_thing = np.array([bool(category['isthing']) for category in categories])
  quality, numbers = panoptic_quality.qualities(counts), panoptic_quality.summarize(counts, is_thing)
  some = counts.any(axis=1)
  groups = dict(All=('', some), Things=('_things', some & is_thing), Stuff=('_stuff', some & ~is_thing))
  out = {f'{name}_{key}': numbers.get(f'{key}{suffix}')
         for name, (suffix, _) in groups.items() for key in ('pq', 'sq', 'rq')}
  out |= {f'{name}_n': group.sum() for name, (_, group) in groups.items()}
  out['per_class'] = np.column_stack([list(label), np.nan_to_num(quality)])
  return out


SYSTEMS = dict(detr_postprocess=detr_postprocess, coco_ap=coco_ap, panoptic_pq=panoptic_pq)
