"""Golden functions of DETR's matcher, losses and box operations. Each returns {output: our value}."""

import jax
import jax.numpy as jnp
import numpy as np

from detr_jax.models.outputs import Outputs
from detr_jax.ops import boxes, losses, matching
from tests.goldens.base import Golden


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
                    masks=inputs.get('pred_masks'))
  targets = _targets(inputs, config['batch'])
  rule = losses.SetCriterion(**config['costs'], eos_coef=config['eos_coef'])
  (total, metrics), grads = jax.jit(jax.value_and_grad(
      lambda outputs: rule(outputs, targets), has_aux=True))(outputs)
  out = {'total_weighted': total}
  out |= {f'loss/{name}': found / max(count, 1) for name, (found, count) in metrics.items()}
  counts = (targets['labels'] >= 0).sum(axis=-1)
  for i, name in enumerate(names):
    out[f'grad/{name}pred_logits'], out[f'grad/{name}pred_boxes'] = grads.logits[i], grads.boxes[i]
    costs = matching.cost(outputs.logits[i], outputs.boxes[i], targets['labels'], targets['boxes'])
    match = np.asarray(matching.match(costs, counts))
    for b, count in enumerate(counts):
      order = np.argsort(match[b, :count])
      out[f'{name}match_{b}_pred'], out[f'{name}match_{b}_target'] = match[b][order], order
      if not name:
        out[f'cost_{b}'] = costs[b, :, :count]
  if outputs.masks is not None:
    out['grad/pred_masks'] = grads.masks
  return out


def box_operations(golden: Golden) -> dict[str, np.ndarray]:
  """Conversions, overlaps, boxes of masks, focal and Dice loss."""
  inputs = golden.inputs
  a, b = (boxes.to_xyxy(inputs[k]) for k in ('boxes_a', 'boxes_b'))
  overlap = boxes.iou(a, b)
  union = (boxes.area(a)[:, None] + boxes.area(b)) / (1. + overlap)  # shared = overlap * union
  logits, targets = inputs['mask_logits'], inputs['mask_targets']
  number = len(logits)
  return dict(xyxy_a=a, cxcywh_back=boxes.to_cxcywh(a), iou=overlap, union=union, giou=boxes.giou(a, b),
              mask_boxes=boxes.masks_to_boxes(inputs['masks']),
              focal=losses.focal(logits, targets).mean(axis=1).sum() / number,
              dice=losses.dice(logits[:, None], targets[:, None]).sum() / number)


SYSTEMS = dict(detr_criterion=criterion, detr_boxops=box_operations)
