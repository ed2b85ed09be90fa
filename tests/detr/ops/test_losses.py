"""Properties of the set criterion; its numbers are held by the golden files."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detr_jax.ops.outputs import Outputs
from detr_jax.ops import losses
from vit_jax import sharding
from vit_jax.errors import UserError

LAYERS, BATCH, QUERIES, TARGETS, CLASSES, GROUPS = 2, 8, 6, 4, 3, 2
COUNTS = [0, 1, 4, 2, 3, 0, 1, 4]
KINDS = {'softmax': CLASSES + 1, 'focal': CLASSES}


def make_targets(counts, room=TARGETS, seed=0):
  """Returns targets of images with so many boxes each, and masks."""
  rng = np.random.default_rng(seed)
  real = np.arange(room) < np.array(counts)[:, None]
  shape = real.shape
  return dict(labels=np.where(real, rng.integers(0, CLASSES, shape), -1).astype(np.int32),
              boxes=np.where(real[..., None], rng.uniform(.1, .6, (*shape, 4)), 0.).astype(np.float32),
              mask=np.ones(len(real), np.float32),
              masks=(rng.random((*shape, 8, 12)) > .5) & real[..., None, None])


def make_outputs(kind, batch=BATCH, room=TARGETS, dtype=np.float32):
  """Returns outputs with masks and denoising queries."""
  rng = np.random.default_rng(1)
  def heads(queries):
    return (rng.normal(size=(LAYERS, batch, queries, KINDS[kind])).astype(dtype),
            rng.uniform(.1, .6, (LAYERS, batch, queries, 4)).astype(dtype))
  return Outputs(*heads(QUERIES), rng.normal(size=(batch, QUERIES, 4, 6)).astype(dtype),
                 Outputs(*heads(GROUPS * room)))


def plain(outputs):
  """Returns the outputs without masks and denoising queries, which take long to compile."""
  return dataclasses.replace(outputs, masks=None, denoising=None)


@jax.jit(static_argnums=0)
def shares(criterion, targets):
  return criterion.shares(targets, QUERIES)


@jax.jit(static_argnums=0)
def compiled(criterion, outputs, targets, share):
  return jax.value_and_grad(lambda o: criterion(o, targets, share), has_aux=True)(outputs)


def evaluate(criterion, outputs, targets, share=None):
  """Returns ((loss, metrics), gradients), compiled once for each shape."""
  share = shares(criterion, targets) if share is None else share
  values, grads = compiled(criterion, outputs, targets, share)
  return jax.tree.map(np.asarray, values), grads


def rows(tree, part):
  """Returns part of the images of outputs (images are the axis before queries) or of targets."""
  if isinstance(tree, dict):
    return {k: v[part] for k, v in tree.items()}
  masks = None if tree.masks is None else tree.masks[part]
  denoising = tree.denoising and rows(tree.denoising, part)
  return Outputs(tree.logits[:, part], tree.boxes[:, part], masks, denoising)


def finite(tree) -> bool:
  return all(np.isfinite(np.asarray(x, np.float32)).all() for x in jax.tree.leaves(tree))


@pytest.fixture(scope='module', params=KINDS)
def case(request):
  """Returns (criterion, outputs, targets, what the criterion gives); an image is empty, one padding."""
  criterion = losses.SetCriterion(request.param)
  outputs, targets = make_outputs(request.param), make_targets(COUNTS)
  targets['mask'][-1] = 0.
  return criterion, outputs, targets, evaluate(criterion, outputs, targets)


def test_loss_is_finite_and_every_layer_is_logged(case):
  _, _, _, ((total, metrics), grads) = case
  assert finite((total, metrics, grads))
  names = [f'loss_{origin}{name}{layer}' for origin in ('', 'denoising_')
           for name in ('ce', 'bbox', 'giou') for layer in ('', '_0')]
  names += ['loss_mask', 'loss_dice', 'class_error', 'matched_iou', 'cardinality_error',
            'cardinality_error_0']
  assert sorted(metrics) == sorted(names)
  assert metrics['class_error'][1] == metrics['matched_iou'][1] == 11


def test_parts_add_up_to_the_whole(case, assert_close):
  criterion, outputs, targets, ((total, metrics), grads) = case
  share = shares(criterion, targets)
  parts = [slice(0, 4), slice(4, 8)]  # weighted by their numbers of images, of which one is padding
  found = [evaluate(criterion, *(rows(x, part) for x in (outputs, targets, share))) for part in parts]
  weights = 4 / 7, 3 / 7
  assert_close(sum(w * loss for w, ((loss, _), _) in zip(weights, found)), total)
  assert_close(jax.tree.map(lambda *x: sum(x), *(values[1] for values, _ in found)), metrics)
  for part, weight, (_, grad) in zip(parts, weights, found):
    assert_close(jax.tree.map(lambda x, w=weight: w * x, grad), rows(grads, part), atol=1e-6)


def test_padding_images_count_nothing(case, assert_close):
  criterion, outputs, targets, _ = case
  values, grads = evaluate(criterion, rows(outputs, slice(0, 4)), rows(targets, slice(0, 4)))
  padded = {**targets, 'mask': np.array([1, 1, 1, 1, 0, 0, 0, 0], np.float32)}
  worse = jax.tree.map(np.copy, outputs)
  for x in (worse.logits, worse.boxes, worse.denoising.logits):
    x[:, 4:] = np.nan
  found, changed = evaluate(criterion, worse, padded)
  assert_close(found, values)
  assert_close(rows(changed, slice(0, 4)), grads)
  assert not any(np.any(x) for x in jax.tree.leaves(rows(changed, slice(4, 8))))


def test_room_for_more_targets_changes_nothing(assert_close):
  outputs, targets = plain(make_outputs('softmax')), make_targets(COUNTS)
  wider = {k: v if k == 'mask' else np.concatenate([v, np.full_like(v, -1 if k == 'labels' else 0)], 1)
           for k, v in targets.items()}
  found, want = (evaluate(losses.SetCriterion(), outputs, x) for x in (wider, targets))
  assert_close(found, want, atol=1e-6)


def test_sharded_over_devices_is_unsharded(assert_close):
  criterion, outputs, targets = losses.SetCriterion(), make_outputs('softmax'), make_targets(COUNTS)
  want = evaluate(criterion, outputs, targets)
  mesh = sharding.make_mesh(data=4, fsdp=2)
  where = lambda *axes: jax.NamedSharding(mesh, jax.P(*axes, *sharding.BATCH))
  place = Outputs(where(None), where(None), where(), Outputs(where(None), where(None)))
  with jax.set_mesh(mesh):
    found = evaluate(criterion, jax.device_put(outputs, place), jax.device_put(targets, where()))
  assert_close(found, want, atol=1e-5)


def test_no_boxes_at_all_leave_no_object_alone():
  criterion, outputs = losses.SetCriterion(), make_outputs('softmax')
  (total, metrics), grads = evaluate(criterion, outputs, make_targets([0] * BATCH))
  assert finite((total, grads)) and metrics['loss_bbox'] == (0., 1.)
  want = -jax.nn.log_softmax(outputs.logits)[..., -1].mean(axis=(1, 2)).sum()
  assert total == pytest.approx(float(want), rel=1e-5)


def test_more_targets_than_queries_and_boxes_without_area():
  room = QUERIES + 3
  outputs, targets = make_outputs('softmax', room=room), make_targets([room] * BATCH, room)
  outputs = plain(outputs)
  targets['boxes'][0] = 0.
  outputs.boxes[:, 0] = 0.
  (total, metrics), grads = evaluate(losses.SetCriterion(), outputs, targets)
  assert finite((total, metrics, grads))
  assert metrics['class_error'][1] == BATCH * QUERIES
  assert metrics['loss_bbox'][1] == BATCH * room and metrics['loss_ce'][1] == BATCH * QUERIES


def test_nan_predictions_end_in_a_nan_loss():
  outputs = make_outputs('softmax')
  outputs.logits[0, 2, 1], outputs.boxes[0, 3] = np.nan, np.nan
  (total, metrics), _ = evaluate(losses.SetCriterion(), outputs, make_targets([2] * BATCH))
  assert np.isnan(total) and np.isnan(metrics['loss_ce_0'][0]) and finite(metrics['loss_ce'])


def test_coefficients_of_zero_leave_terms_out_and_weigh_the_rest():
  outputs, targets = make_outputs('softmax'), make_targets([2] * BATCH)
  full = losses.SetCriterion()
  (_, metrics), _ = evaluate(full, outputs, targets)
  mean = lambda name: metrics[name][0] / metrics[name][1]
  only = losses.SetCriterion(class_coef=0., bbox_coef=0., mask_coef=0., giou_coef=3., dice_coef=2.)
  total, found = evaluate(only, outputs, targets)[0]
  assert sorted(n for n in found if n.startswith('loss')) == [
      'loss_denoising_giou', 'loss_denoising_giou_0', 'loss_dice', 'loss_giou', 'loss_giou_0']
  want = 3. * sum(mean(n) for n in found if 'giou' in n) + 2. * mean('loss_dice')
  assert total == pytest.approx(want, rel=1e-5)


def test_without_auxiliary_losses_only_the_last_layer_learns():
  outputs, targets = plain(make_outputs('focal')), make_targets([2] * BATCH)
  (_, metrics), grads = evaluate(losses.SetCriterion('focal', aux_loss=False), outputs, targets)
  assert 'loss_ce' in metrics and 'loss_ce_0' not in metrics
  assert not np.any(grads.logits[0]) and np.any(grads.logits[1])


def test_half_precision_outputs_have_float32_losses():
  outputs = plain(make_outputs('softmax', dtype=jnp.bfloat16))
  exact = jax.tree.map(lambda x: x.astype(np.float32), outputs)
  targets = make_targets([2] * BATCH)
  (total, _), grads = evaluate(losses.SetCriterion(), outputs, targets)
  assert total.dtype == np.float32 and grads.logits.dtype == jnp.bfloat16
  assert total == pytest.approx(evaluate(losses.SetCriterion(), exact, targets)[0][0], rel=1e-6)


def test_perfect_predictions_are_counted_so():
  targets = make_targets([3, 1, 0, 4, 2, 1, 1, 1])
  logits = np.full((LAYERS, BATCH, QUERIES, CLASSES + 1), -20., np.float32)
  boxes = np.full((LAYERS, BATCH, QUERIES, 4), .05, np.float32)
  image, target = np.nonzero(targets['labels'] >= 0)
  logits[..., -1] = 0.
  logits[:, image, target, targets['labels'][image, target]] = 20.
  boxes[:, :, :TARGETS] = targets['boxes']
  (total, metrics), _ = evaluate(losses.SetCriterion(), Outputs(logits, boxes), targets)
  mean = {k: float(s / c) for k, (s, c) in metrics.items()}
  assert total < 1e-5 and mean['class_error'] == mean['cardinality_error'] == 0.
  assert mean['matched_iou'] == pytest.approx(1., abs=1e-5)


def test_mistakes_are_explained():
  with pytest.raises(UserError, match='softmax'):
    losses.SetCriterion('sofmax')
  with pytest.raises(UserError, match='nothing to match by'):
    losses.SetCriterion(cost_class=0., cost_bbox=0., cost_giou=0.)


def test_slots_for_masks_take_less_than_a_mask_of_floats_each():
  side, queries = 256, 10

  def memory(slots):
    shape = lambda *s, dtype=jnp.float32: jax.ShapeDtypeStruct((1, *s), dtype)
    targets = dict(labels=shape(slots, dtype=jnp.int32), boxes=shape(slots, 4), mask=shape(),
                   masks=shape(slots, side, side, dtype=jnp.bool_))
    logits, boxes = (jax.ShapeDtypeStruct((1, 1, queries, n), jnp.float32) for n in (4, 4))

    def loss(masks, logits, boxes, targets):
      return losses.SetCriterion()(Outputs(logits, boxes, masks), targets)[0]

    gradient = jax.jit(jax.grad(loss))
    compiled = gradient.lower(shape(queries, side // 4, side // 4), logits, boxes, targets).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert (memory(72) - memory(8)) / 64 < 4 * side ** 2


def test_masks_in_parts_are_compared_as_at_once():
  rng = np.random.default_rng(0)
  targets = 11  # in two parts, the second not full
  outputs = Outputs(*(jnp.asarray(rng.normal(size=(1, 2, 15, n)), jnp.float32) for n in (4, 4)),
                    jnp.asarray(rng.normal(size=(2, 15, 6, 8)), jnp.float32))
  labels = np.where(np.arange(targets) < [[11], [3]], 1, -1)
  masks = rng.random((2, targets, 24, 32)) < .5
  truth = dict(labels=jnp.asarray(labels), boxes=jnp.asarray(rng.uniform(.2, .5, (2, targets, 4))),
               mask=jnp.ones(2), masks=jnp.asarray(masks))
  criterion = losses.SetCriterion()
  _, found = criterion(outputs, truth)
  query = np.asarray(criterion._match(*criterion._layers(outputs, jnp.ones(2, bool)), truth))[0]
  want = dict(mask=0., dice=0.)
  for image, target in zip(*np.nonzero(labels > 0)):
    chosen = outputs.masks[image, query[image, target]][None, None]
    logits = jax.image.resize(chosen, (1, 1, 24, 32), 'linear', antialias=False)
    want['mask'] += losses.focal(logits, masks[image, target].astype(np.float32)).mean()
    want['dice'] += losses.dice(logits, masks[image, target].astype(np.float32)).sum()
  for name, value in want.items():
    np.testing.assert_allclose(found[f'loss_{name}'][0], value, rtol=1e-5)
