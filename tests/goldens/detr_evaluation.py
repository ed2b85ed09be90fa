"""What is done with DETR's outputs: post-processing, average precision, panoptic quality."""

import json

import numpy as np

from detr_jax.evaluation import average_precision, panoptic_quality
from detr_jax.ops import postprocess
from tests.goldens.base import Golden


def detr_postprocess(golden: Golden) -> dict[str, np.ndarray]:
  """PostProcess, PostProcessSegm and PostProcessPanoptic of DETR."""
  given, config = golden.inputs, golden.meta['config']
  is_thing = [label in config['thing_ids'] for label in range(config['num_classes'])]
  originals, sizes = given['target_sizes'], given['processed_sizes']
  found = postprocess.detections(given['pred_logits'], given['pred_boxes'], originals)
  out = {}
  for i, (original, size) in enumerate(zip(originals, sizes)):
    out |= {f'bbox_{i}_{key}': found[key][i] for key in ('scores', 'labels', 'boxes')}
    masks = postprocess.instance_masks(given['pred_masks'][i], sizes.max(0), size, original)
    out |= {f'segm_{i}_masks': np.packbits(masks),
            f'segm_{i}_shape': np.array([len(masks), 1, *masks.shape[1:]])}
    ids, segments = postprocess.panoptic(given['pred_logits'][i], given['pred_masks'][i], size, size,
                                         original, is_thing, config['threshold'])
    out |= {f'panoptic_{i}_ids': ids - 1,
            f'panoptic_{i}_segments': np.array([[s['id'] - 1, s['label'], s['isthing'], s['area']]
                                                for s in segments])}
  return out


def coco_ap(golden: Golden) -> dict[str, np.ndarray]:
  """COCOeval of pycocotools, for boxes."""
  truth, found = (json.loads(str(golden.inputs[key])) for key in ('gt_json', 'dets_json'))
  evaluation = average_precision.evaluate(truth, found)
  return {'bbox_stats': np.array(list(average_precision.summarize(evaluation).values())),
          'bbox_recall': evaluation.eval['recall'],
          **{f'bbox_{key}': evaluation.eval[key][..., -1] for key in ('precision', 'scores')}}


def panoptic_pq(golden: Golden) -> dict[str, np.ndarray]:
  """pq_compute of panopticapi."""
  truth, found = (json.loads(str(golden.inputs[key])) for key in ('gt_json', 'pred_json'))
  categories = truth['categories']
  label = {category['id']: i for i, category in enumerate(categories)}
  segments = [[[{**s, 'label': label[s['category_id']]} for s in a['segments_info']]
               for a in annotated['annotations']] for annotated in (found, truth)]
  counts = sum(panoptic_quality.count(golden.inputs[f'pred_{i}'], segments[0][i],
                                      golden.inputs[f'gt_{i}'], segments[1][i], len(categories))
               for i in range(len(segments[0])))
  is_thing = np.array([bool(category['isthing']) for category in categories])
  quality, numbers = panoptic_quality.qualities(counts), panoptic_quality.summarize(counts, is_thing)
  some = counts.any(axis=1)
  groups = dict(All=('', some), Things=('_things', some & is_thing), Stuff=('_stuff', some & ~is_thing))
  out = {f'{name}_{key}': numbers[f'{key}{suffix}']
         for name, (suffix, _) in groups.items() for key in ('pq', 'sq', 'rq')}
  out |= {f'{name}_n': group.sum() for name, (_, group) in groups.items()}
  out['per_class'] = np.column_stack([list(label), np.nan_to_num(quality)])
  return out


SYSTEMS = dict(detr_postprocess=detr_postprocess, coco_ap=coco_ap, panoptic_pq=panoptic_pq)
