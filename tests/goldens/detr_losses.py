"""Golden functions of DETR's matcher, losses and box operations. Each returns {output: our value}."""

import jax
import jax.numpy as jnp
import numpy as np

from detr_jax.ops.outputs import Outputs
from detr_jax.ops import boxes, losses, matching
from tests.goldens.base import Golden, Unknown

COEFS = dict(loss_ce='class_coef', loss_bbox='bbox_coef', loss_giou='giou_coef', loss_mask='mask_coef',
             loss_dice='dice_coef')  # the authors' names of the weights of the terms


def _targets(inputs, number: int) -> dict[str, jax.Array]:
  """Returns the targets of all images, padded with one more than any has."""
  each = [{k: inputs[f'target_{b}_{k}'] for k in ('labels', 'boxes', 'masks')
           if f'target_{b}_{k}' in inputs} for b in range(number)]
  room = max(len(t['labels']) for t in each) + 1
  out = dict(labels=np.full((number, room), -1, np.int32), boxes=np.zeros((number, room, 4), np.float32),
             mask=np.ones(number, np.float32))
  if 'masks' in each[0]:
    out['masks'] = np.zeros((number, room, *np.max([t['masks'].shape[1:] for t in each], axis=0)), bool)
  for b, target in enumerate(each):
    for name, value in target.items():
      out[name][(b, *map(slice, value.shape))] = value
  return out


def criterion(golden: Golden) -> dict[str, np.ndarray]:
  """Costs, matches, losses of every layer, and gradients."""
  inputs, config = golden.inputs, golden.meta['config']
  names = [*(f'aux_{i}_' for i in range(config['aux'])), '']
  outputs = Outputs(*(jnp.stack([inputs[f'{n}pred_{k}'] for n in names]) for k in ('logits', 'boxes')),
                    masks=inputs['pred_masks'] if 'pred_masks' in inputs else None)
  config.check('num_classes', outputs.logits.shape[-1] - 1)
  config.check('batch', outputs.logits.shape[1])
  config.check('masks', outputs.masks is not None)
  targets, rule = _targets(inputs, config['batch']), _rule(config)
  (total, metrics), grads = jax.jit(jax.value_and_grad(
      lambda outputs: rule(outputs, targets), has_aux=True))(outputs)
  out = {'total_weighted': total}
  out |= {f'loss/{name}': found / max(count, 1) for name, (found, count) in metrics.items()}
  counts = (targets['labels'] >= 0).sum(axis=-1)
  if not counts.sum():  # the authors log the accuracy of no targets as 0
    out['loss/class_error'] = np.float32(100.)
  for i, name in enumerate(names):
    out[f'grad/{name}pred_logits'], out[f'grad/{name}pred_boxes'] = grads.logits[i], grads.boxes[i]
    costs = matching.cost(outputs.logits[i], outputs.boxes[i], targets['labels'], targets['boxes'],
                          **config['costs'])
    match = np.asarray(matching.match(costs, counts))
    for b, count in enumerate(counts):
      pairs = np.stack([match[b, :count], np.arange(count)])
      pairs = pairs[:, pairs[0] >= 0]  # with more targets than queries some have none
      out[f'{name}match_{b}_pred'], out[f'{name}match_{b}_target'] = pairs[:, pairs[0].argsort()]
      out[f'{name}cost_{b}'] = costs[b, :, :count]
  if outputs.masks is not None:
    out['grad/pred_masks'] = grads.masks
  return out


def _rule(config) -> losses.SetCriterion:
  """Returns the criterion of a config."""
  coefs = {}
  for name, value in config.get('weights', config.get('weight_dict', {})).items():
    if name not in COEFS:
      raise Unknown(f'meta.config.weights.{name} is not one of {list(COEFS)}')
    coefs[COEFS[name]] = value
  return losses.SetCriterion(**config['costs'], **coefs, eos_coef=config['eos_coef'])


def box_operations(golden: Golden) -> dict[str, np.ndarray]:
  """Conversions, overlaps, boxes of masks, focal and Dice loss."""
  inputs, config = golden.inputs, golden.meta['config']
  a, b = (boxes.to_xyxy(inputs[k]) for k in ('boxes_a', 'boxes_b'))
  overlap = boxes.iou(a, b)
  union = (boxes.area(a)[:, None] + boxes.area(b)) / (1. + overlap)  # shared = overlap * union
  out = dict(xyxy_a=a, cxcywh_back=boxes.to_cxcywh(a), iou=overlap, union=union, giou=boxes.giou(a, b))
  if 'masks' in inputs:
    out['mask_boxes'] = boxes.masks_to_boxes(inputs['masks'])
  if 'mask_logits' not in inputs:
    return out
  logits, targets = inputs['mask_logits'], inputs['mask_targets']
  number = config.get('num_boxes', len(logits))
  focal = losses.focal(logits, targets, config.get('alpha', .25), config.get('gamma', 2.))
  return out | dict(focal=focal.mean(axis=1).sum() / number,
                    dice=losses.dice(logits[:, None], targets[:, None]).sum() / number)


SYSTEMS = dict(detr_criterion=criterion, detr_boxops=box_operations)
