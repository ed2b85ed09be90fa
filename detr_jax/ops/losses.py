"""The set criterion: each layer's predictions are matched with the targets, then compared with them.

DETR, arXiv:2005.12872, sections 3.1 and A.2; the focal variant of Deformable DETR, arXiv:2010.04159;
denoising queries, whose targets are known, of DN-DETR, arXiv:2203.01305.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from detr_jax.ops.outputs import Outputs
from detr_jax.ops import boxes as box_ops
from detr_jax.ops import masks as mask_ops
from detr_jax.ops import matching
from vit_jax.errors import UserError, unknown
from vit_jax.metrics import Pair

CLASSIFICATIONS = ('softmax', 'focal')
SLOTS = 8  # targets of an image whose masks are compared at once
Arrays = Mapping[str, jax.Array]


def focal(logits: jax.Array, targets: jax.Array, alpha: float = .25, gamma: float = 2.) -> jax.Array:
  """Returns the sigmoid's focal loss (arXiv:1708.02002, equation 5) of each logit; targets 0 or 1."""
  wrong = jax.nn.sigmoid(jnp.where(targets > 0, -logits, logits))  # 1 - the probability of the target
  weight = jnp.where(targets > 0, alpha, 1. - alpha)
  return weight * wrong ** gamma * optax.sigmoid_binary_cross_entropy(logits, targets)


def dice(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns `[...]` 1 - the Dice coefficient of sigmoids `[..., H, W]`, 1 added to both its parts."""
  found = jax.nn.sigmoid(logits)
  both = 2. * (found * targets).sum(axis=(-2, -1))
  return 1. - (both + 1.) / (found.sum(axis=(-2, -1)) + targets.sum(axis=(-2, -1)) + 1.)


def _ratio(total: jax.Array, count: jax.Array) -> jax.Array:
  """Returns total / count; 0 of nothing."""
  return total / jnp.where(count > 0, count, 1.)


def _at(values: jax.Array, query: jax.Array) -> jax.Array:
  """Returns `[..., M, *rest]`: the values `[..., Q, *rest]` of the queries `[..., M]`; -1 gives any."""
  rest = (1,) * (values.ndim - query.ndim)
  return jnp.take_along_axis(values, jnp.maximum(query, 0).reshape(*query.shape, *rest),
                             axis=query.ndim - 1)


def _pairs(predicted: jax.Array, boxes: jax.Array, query: jax.Array):
  """Returns (whether there is a pair `[..., M]`, predictions `[..., M, 4]`, targets `[..., M, 4]`).

  Without a pair both boxes are 0, so that nothing of them, not even NaN, gets into a gradient.
  """
  matched = query >= 0
  return matched, *(jnp.where(matched[..., None], x, 0.) for x in (_at(predicted, query), boxes))


def _classes(labels: jax.Array, query: jax.Array, num_queries: int) -> jax.Array:
  """Returns the class that each query should find, or -1.

  Args:
    labels: `[B, M]`.
    query: `[layers, B, M]`, of each target.
    num_queries: Q.

  Returns:
    `[layers, B, Q]`.
  """
  taken = query[..., None, :] == jnp.arange(num_queries)[:, None]
  return jnp.where(taken, labels[:, None, :], -1).max(axis=-1, initial=-1)


def _layer(index: int, layers) -> str:
  """Returns what stands behind the name of a layer's loss: nothing for the last."""
  return '' if index == len(layers) - 1 else f'_{index}'


def _in_parts(x: jax.Array) -> jax.Array:
  """Returns `[B, M, ...]` as `[B, parts, SLOTS, ...]`; slots that are added hold zeros."""
  more = -x.shape[1] % SLOTS
  x = jnp.pad(x, ((0, 0), (0, more), *((0, 0),) * (x.ndim - 2)))
  return x.reshape(len(x), -1, SLOTS, *x.shape[2:])


class _Term(NamedTuple):
  """A term of the loss: its coefficient, its sum in each layer, and what the sums are divided by."""
  coef: float
  sums: jax.Array
  count: jax.Array


@dataclasses.dataclass(frozen=True)
class SetCriterion:
  """The loss of a set predictor; a coefficient or cost of 0 leaves its term out, uncomputed.

  Attributes:
    classification: 'softmax', whose last class is "no object", or 'focal', a sigmoid for each class.
    class_coef, bbox_coef, giou_coef: of the losses of every layer.
    mask_coef, dice_coef: of the last layer's masks.
    cost_class, cost_bbox, cost_giou: what the matching goes by. With 'focal', Deformable DETR takes 2
      for the class.
    eos_coef: weight of "no object" in the softmax's cross-entropy.
    aux_loss: whether every layer is trained, or the last one only.
  """
  SHARES: ClassVar[tuple[str, ...]] = ('box_share', 'class_share')

  classification: str = 'softmax'
  class_coef: float = 1.
  bbox_coef: float = 5.
  giou_coef: float = 2.
  mask_coef: float = 1.
  dice_coef: float = 1.
  cost_class: float = 1.
  cost_bbox: float = 5.
  cost_giou: float = 2.
  eos_coef: float = .1
  aux_loss: bool = True

  def __post_init__(self):
    """Raises UserError for an unknown classification, or if nothing is left to match by."""
    if self.classification not in CLASSIFICATIONS:
      raise unknown('classification of the set criterion', self.classification, CLASSIFICATIONS)
    if not (self.cost_class or self.cost_bbox or self.cost_giou):
      raise UserError('cost_class, cost_bbox and cost_giou are all 0, so there is nothing to match by; '
                      'set at least one of them')

  def shares(self, targets: Arrays, num_queries: int) -> dict[str, jax.Array]:
    """Returns each image's share of what the losses are divided by, on the whole global batch.

    The divisors are the number of boxes, at least 1, and for the softmax the sum of the weights of all
    queries' classes, which the number of boxes tells before anything is matched. An image has the same
    share of them as any other. So the losses of parts of a batch, weighted by their numbers of images,
    add up to the loss of the batch, whichever part has the boxes; and the numbers are global.

    Args:
      targets: `labels` `[B, M]`, -1 where there is no box, and `mask` `[B]`, 0 for padding images.
      num_queries: of the model.

    Returns:
      `box_share` and `class_share`, float32 `[B]`; 0 for padding images.
    """
    mask = targets['mask'].astype(jnp.float32)
    count = (targets['labels'] >= 0).sum(axis=-1)
    images = jnp.maximum(mask.sum(), 1.)
    box_share = mask * jnp.maximum((count * mask).sum(), 1.) / images
    if self.classification == 'focal':
      return dict(box_share=box_share, class_share=box_share)
    matched = jnp.minimum(count, num_queries)
    weights = matched + self.eos_coef * (num_queries - matched)
    return dict(box_share=box_share, class_share=mask * (weights * mask).sum() / images)

  def __call__(self, outputs: Outputs, targets: Arrays, share: Arrays | None = None
               ) -> tuple[jax.Array, dict[str, Pair]]:
    """Returns the loss of a batch, or of a part of one, and what is logged.

    Everything is float32. An image without boxes has the loss of "no object" alone. With more targets
    than queries, the cheapest set of pairs is compared. Boxes without area overlap nothing. A
    prediction that is NaN is matched last (see `matching.match`) and makes the loss NaN.

    Args:
      outputs: of the model.
      targets: `labels` int32 `[B, M]`, real ones first, then -1; `boxes` `[B, M, 4]` centre and size;
        `mask` `[B]`, 0 for padding images, which count nothing; `masks` bool `[B, M, H, W]` if the
        outputs have masks, 0 outside the image, where predictions count as they do in the authors' code.
      share: what `shares` gave for the whole batch, cut as the batch was; None: this is all of it.

    Returns:
      (scalar, {name: (sum, count)}): the losses by the authors' names, of the layers before the last
      with their number behind; `class_error` in percent and `matched_iou` of the last layer's matched
      queries; `cardinality_error`, how many objects each layer finds too many or too few. Denoising
      queries' names have `denoising_` behind `loss_`.
    """
    share = self.shares(targets, outputs.logits.shape[2]) if share is None else share
    real = share['box_share'] > 0
    targets = {**targets, 'labels': jnp.where(real[:, None], targets['labels'], -1)}
    boxes = share['box_share'].sum()
    logits, predicted = self._layers(outputs, real)
    query = self._match(logits, predicted, targets)
    background = (self.eos_coef if self.classification == 'softmax' else 1.) * real[:, None]
    classes = share['class_share'].sum()
    terms = {**self._class_term(logits, targets['labels'], query, background, classes),
             **self._box_terms(predicted, targets['boxes'], query, boxes)}
    if outputs.masks is not None:
      terms |= self._mask_terms(outputs.masks, targets['masks'], query[-1], boxes)
    if outputs.denoising is not None:
      terms |= self._denoising_terms(outputs.denoising, targets, real, boxes)
    total = sum(t.coef * _ratio(t.sums.sum(), t.count) for t in terms.values())
    metrics = {f'loss_{name}{_layer(i, t.sums)}': (t.sums[i], t.count)
               for name, t in terms.items() for i in range(len(t.sums))}
    return total, {**metrics, **self._measures(logits, predicted, targets, query, real)}

  def _layers(self, outputs: Outputs, real: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns float32 (logits, boxes) of the layers that are trained, 0 in padding images."""
    start = 0 if self.aux_loss else -1
    return tuple(jnp.where(real[:, None, None], x[start:].astype(jnp.float32), 0.)
                 for x in (outputs.logits, outputs.boxes))

  def _match(self, logits, boxes, targets) -> jax.Array:
    """Returns `[layers, B, M]`, the query of each target in each layer, or -1."""
    def layer(logits, boxes):
      return matching.cost(
          logits, boxes, targets['labels'], targets['boxes'], classification=self.classification,
          cost_class=self.cost_class, cost_bbox=self.cost_bbox, cost_giou=self.cost_giou)

    costs = jax.vmap(layer)(*jax.lax.stop_gradient((logits, boxes)))
    return matching.match_layers(costs, (targets['labels'] >= 0).sum(axis=-1))

  def _class_term(self, logits, labels, query, background, count) -> dict[str, _Term]:
    """Returns the classification's term; `background` `[B, 1]` weighs queries that no target has."""
    if not self.class_coef:
      return {}
    wanted = _classes(labels, query, logits.shape[2])
    weight = jnp.where(wanted < 0, background, 1.)
    if self.classification == 'focal':
      each = focal(logits, jax.nn.one_hot(wanted, logits.shape[-1])).sum(axis=-1)
    else:
      each = optax.softmax_cross_entropy_with_integer_labels(
          logits, jnp.where(wanted < 0, logits.shape[-1] - 1, wanted))
    return {'ce': _Term(self.class_coef, (each * weight).sum(axis=(1, 2)), count)}

  def _box_terms(self, predicted, boxes, query, count) -> dict[str, _Term]:
    """Returns the terms of the matched boxes: L1 of centre and size, and generalised IoU."""
    matched, ours, theirs = _pairs(predicted, boxes, query)
    terms = {}
    if self.bbox_coef:
      terms['bbox'] = _Term(self.bbox_coef, jnp.abs(ours - theirs).sum(axis=(1, 2, 3)), count)
    if self.giou_coef:
      each = 1. - box_ops.giou_elementwise(box_ops.to_xyxy(ours), box_ops.to_xyxy(theirs))
      terms['giou'] = _Term(self.giou_coef, jnp.where(matched, each, 0.).sum(axis=(1, 2)), count)
    return terms

  def _mask_terms(self, predicted, masks, query, count) -> dict[str, _Term]:
    """Returns the terms of the matched masks; the predictions are brought to the targets' size.

    Full masks are made of a few target slots at a time, again in the backward pass, and of no slots that
    all images leave empty: time goes by the objects, and a slot takes less memory than one float mask.
    """
    coefs = {name: coef for name, coef in (('mask', self.mask_coef), ('dice', self.dice_coef)) if coef}
    if not coefs:
      return {}
    matched = query >= 0
    logits = jnp.where(matched[..., None, None], _at(predicted.astype(jnp.float32), query), 0.)
    losses = dict(mask=lambda *pair: focal(*pair).mean(axis=(-2, -1)), dice=dice)

    @jax.checkpoint
    def compared(logits, masks, matched):
      pair = mask_ops.bilinear(logits, masks.shape[-2:]), masks.astype(jnp.float32)
      return {name: jnp.where(matched, losses[name](*pair), 0.).sum() for name in coefs}

    def add(sums, part):
      nothing = lambda *part: dict.fromkeys(coefs, jnp.float32(0.))
      return jax.tree.map(jnp.add, sums, jax.lax.cond(part[-1].any(), compared, nothing, *part)), None

    slots = [jnp.moveaxis(_in_parts(x), 1, 0) for x in (logits, masks, matched)]
    sums, _ = jax.lax.scan(add, dict.fromkeys(coefs, jnp.float32(0.)), slots)
    return {name: _Term(coef, sums[name][None], count) for name, coef in coefs.items()}

  def _denoising_terms(self, outputs, targets, real, count) -> dict[str, _Term]:
    """Returns the terms of queries whose targets are known, divided by the number of such queries."""
    logits, predicted = self._layers(outputs, real)
    groups = logits.shape[2] // targets['labels'].shape[1]
    labels = jnp.tile(targets['labels'], (1, groups))
    boxes = jnp.tile(targets['boxes'], (1, groups, 1))
    query = jnp.where(labels >= 0, jnp.arange(labels.shape[1]), -1)
    query = jnp.broadcast_to(query, (len(logits), *query.shape))
    terms = {**self._class_term(logits, labels, query, jnp.zeros((len(real), 1)), groups * count),
             **self._box_terms(predicted, boxes, query, groups * count)}
    return {f'denoising_{name}': term for name, term in terms.items()}

  def _measures(self, logits, predicted, targets, query, real) -> dict[str, Pair]:
    """Returns what is logged and not minimised."""
    labels = targets['labels']
    wanted = _classes(labels, query[-1:], logits.shape[2])[0]
    wrong = (wanted >= 0) & (logits[-1].argmax(axis=-1) != wanted)
    number = (wanted >= 0).sum().astype(jnp.float32)
    _, ours, theirs = _pairs(predicted[-1], targets['boxes'], query[-1])
    overlaps = box_ops.iou_elementwise(box_ops.to_xyxy(ours), box_ops.to_xyxy(theirs))
    if self.classification == 'softmax':
      found = logits.argmax(axis=-1) < logits.shape[-1] - 1
    else:
      found = logits.max(axis=-1) > 0.  # a probability above a half
    errors = jnp.abs(found.sum(axis=-1) - (labels >= 0).sum(axis=-1))
    errors = jnp.where(real, errors, 0).sum(axis=-1).astype(jnp.float32)
    measures = {'class_error': (100. * wrong.sum(), number), 'matched_iou': (overlaps.sum(), number)}
    images = real.sum().astype(jnp.float32)
    return measures | {f'cardinality_error{_layer(i, errors)}': (errors[i], images)
                       for i in range(len(errors))}
