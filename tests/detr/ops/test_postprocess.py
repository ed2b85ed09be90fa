"""Detections, masks and panoptic pictures from outputs; the authors' numbers are golden files."""

import jax
import numpy as np
import pytest

from detr_jax.ops import postprocess


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def test_a_softmax_gives_each_query_its_best_object(rng):
  logits = rng.normal(size=(2, 6, 4)).astype(np.float32)
  logits[0, 3, -1] = 50.  # no object, for sure
  boxes = np.tile(np.float32([.5, .25, .2, .1]), (2, 6, 1))
  found = jax.jit(postprocess.detections)(logits, boxes, np.array([[100, 200], [50, 40]]))
  np.testing.assert_array_equal(found['labels'], logits[..., :-1].argmax(-1))
  np.testing.assert_array_equal(found['queries'], np.tile(np.arange(6), (2, 1)))
  assert found['scores'][0, 3] < 1e-6
  np.testing.assert_allclose(found['boxes'][:, 0], [[80, 20, 120, 30], [16, 10, 24, 15]], rtol=1e-6)


def test_sigmoids_give_the_best_pairs_of_query_and_class(rng):
  logits = rng.normal(size=(2, 6, 4)).astype(np.float32)
  boxes = rng.uniform(.2, .8, (2, 6, 4)).astype(np.float32)
  found = postprocess.detections(logits, boxes, np.ones((2, 2), int), 'sigmoid', 10)
  for i in range(2):
    order = np.argsort(-logits[i], axis=None)[:10]
    np.testing.assert_array_equal(found['queries'][i], order // 4)
    np.testing.assert_array_equal(found['labels'][i], order % 4)
    np.testing.assert_allclose(found['scores'][i], 1 / (1 + np.exp(-logits[i].ravel()[order])),
                               rtol=1e-5)
    corners = boxes[i, :, :2] - boxes[i, :, 2:] / 2
    np.testing.assert_allclose(found['boxes'][i, :, :2], corners[order // 4], atol=1e-6)
  few = postprocess.detections(logits, boxes, np.ones((2, 2)), 'sigmoid', 100)
  assert few['scores'].shape == (2, 24)


def test_of_two_boxes_that_overlap_the_weaker_of_the_same_class_goes():
  boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [20, 20, 30, 30.]])
  scores, labels = np.array([.5, .9, .8, .1]), np.array([0, 0, 1, 0])
  assert postprocess.suppress(boxes, scores, labels, .5).tolist() == [1, 2, 3]
  assert postprocess.suppress(boxes, scores, labels, .95).tolist() == [1, 2, 0, 3]
  assert postprocess.suppress(boxes[:0], scores[:0], labels[:0], .5).tolist() == []


def disks(size, centres, stride=1):
  """Logits of a disk around each centre, on a canvas of `size`."""
  y, x = np.mgrid[:size[0], :size[1]]
  far = [np.hypot(y - cy, x - cx) for cy, cx in centres]
  return (12. - np.stack(far)).astype(np.float32)[:, stride // 2::stride, stride // 2::stride]


def sure(labels, classes):
  """Logits of queries that are sure of their labels."""
  return 12. * np.eye(classes + 1, dtype=np.float32)[list(labels)]


def test_masks_do_not_depend_on_the_padding():
  small, large = disks((32, 48), [(8, 8), (20, 30)]), disks((64, 64), [(8, 8), (20, 30)])
  for new in ((32, 48), (45, 91)):
    alone = postprocess.instance_masks(small, (32, 48), (32, 48), new)
    padded = postprocess.instance_masks(large, (64, 64), (32, 48), new)
    np.testing.assert_array_equal(alone, padded)
    assert alone.shape == (2, *new)
    one = postprocess.panoptic(sure([0, 1], 2), small, (32, 48), (32, 48), new, [True, False])
    other = postprocess.panoptic(sure([0, 1], 2), large, (64, 64), (32, 48), new, [True, False])
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1] == other[1]


def test_masks_one_at_a_time_are_the_masks_of_the_definition(rng):
  import cv2
  from PIL import Image
  canvas, size, original = (96, 128), (90, 101), (61, 77)
  masks = 3. * rng.normal(size=(9, 24, 32)).astype(np.float32)
  whole = np.stack([cv2.resize(mask, canvas[::-1])[:size[0], :size[1]] for mask in masks])
  rows, columns = ((np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))).astype(int)
                   for old, new in zip(size, original))
  for threshold in (.5, .8):
    np.testing.assert_array_equal(
        postprocess.instance_masks(masks, canvas, size, original, threshold),
        (whole > np.log(threshold / (1 - threshold)))[:, rows][:, :, columns])
  assert postprocess.instance_masks(masks[:0], canvas, size, original).shape == (0, *original)
  labels, is_thing = [0, 1, 2, 1, 0, 1, 2, 0, 1], [True, False, True]
  ids, segments = postprocess.panoptic(sure(labels, 3), masks, canvas, size, original, is_thing)
  first = np.array([i if is_thing[n] else labels.index(n) for i, n in enumerate(labels)])
  winner = Image.fromarray(first[whole.argmax(0)].astype(np.int32)).resize(original[::-1], 0)
  # Stuff is merged, so that others of its class are empty, and all that is left competes once more.
  left = np.flatnonzero(np.bincount(np.asarray(winner).ravel(), minlength=9) > 4)
  winner = Image.fromarray(whole[left].argmax(0).astype(np.int32)).resize(original[::-1], 0)
  np.testing.assert_array_equal(ids, np.asarray(winner) + 1)
  assert [s['label'] for s in segments] == [labels[i] for i in left]
  assert [s['area'] for s in segments] == np.bincount(ids.ravel())[1:].tolist()


def test_a_panoptic_picture_joins_stuff_and_drops_what_is_small():
  canvas = (64, 64)
  masks = disks(canvas, [(10, 10), (50, 50), (32, 32), (200, 200)])
  logits = sure([1, 1, 0, 0], 2)  # twice stuff, a thing, and a thing that no pixel belongs to
  ids, segments = postprocess.panoptic(logits, masks, canvas, canvas, canvas, [True, False])
  assert [(s['label'], s['isthing']) for s in segments] == [(1, False), (0, True)]
  assert all((ids == s['id']).sum() == s['area'] > 4 for s in segments)
  assert sum(s['area'] for s in segments) == ids.size
  unsure = postprocess.panoptic(.1 * logits, masks, canvas, canvas, (7, 9), [True, False])
  assert unsure[0].shape == (7, 9) and not unsure[0].any() and unsure[1] == []
