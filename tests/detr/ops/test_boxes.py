"""Box operations beside the golden file: degenerate boxes, NumPy, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detr_jax.ops import boxes

DEGENERATE = np.array([[0, 0, 0, 0], [.3, .3, .3, .3], [.2, .2, .2, .6], [.1, .2, .5, .6]], np.float32)


def test_conversions_are_inverse_and_stay_in_numpy():
  corners = np.array([[.1, .2, .5, .9], [0., 0., 1., 1.]], np.float32)
  back = boxes.to_xyxy(boxes.to_cxcywh(corners))
  assert isinstance(back, np.ndarray)
  np.testing.assert_allclose(back, corners, atol=1e-7)
  assert isinstance(boxes.to_xyxy(jnp.asarray(corners)), jax.Array)


def test_closed_forms():
  unit, half, apart = np.array([[0, 0, 1, 1], [0, 0, .5, 1], [2, 0, 3, 1]], np.float32)
  assert boxes.iou_elementwise(unit, half) == pytest.approx(.5)
  assert boxes.giou_elementwise(unit, half) == pytest.approx(.5)
  assert boxes.iou_elementwise(unit, apart) == 0.
  assert boxes.giou_elementwise(unit, apart) == pytest.approx(-1 / 3)


def test_pairs_are_elementwise_of_each_pair():
  a, b = DEGENERATE, DEGENERATE[:3]
  for pairs, each in ((boxes.iou, boxes.iou_elementwise), (boxes.giou, boxes.giou_elementwise)):
    found = pairs(a, b)
    assert found.shape == (4, 3)
    np.testing.assert_array_equal(found[3], each(np.broadcast_to(a[3], b.shape), b))


@pytest.mark.parametrize('overlap', [boxes.iou, boxes.giou])
def test_boxes_without_area_have_finite_overlaps_and_gradients(overlap):
  value = overlap(DEGENERATE, DEGENERATE)
  assert np.isfinite(value).all() and (np.abs(value) <= 1).all()
  grads = jax.jit(jax.grad(lambda a, b: overlap(a, b).sum(), argnums=(0, 1)))(DEGENERATE, DEGENERATE)
  assert all(np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize('overlap', [boxes.iou_elementwise, boxes.giou_elementwise])
def test_nan_stays_nan(overlap):
  assert np.isnan(overlap(DEGENERATE[3], np.array([np.nan, 0, 1, 1], np.float32)))


def test_boxes_of_masks_include_their_last_pixel():
  masks = np.zeros((3, 6, 9), bool)
  masks[0, 2:5, 3:8] = True
  masks[1, 4, 6] = True
  want = [[3, 2, 7, 4], [6, 4, 6, 4], [0, 0, 0, 0]]
  np.testing.assert_array_equal(boxes.masks_to_boxes(masks), want)
