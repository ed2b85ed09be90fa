"""Mean IoU is its definition."""

import numpy as np

from detr_jax.evaluation import mean_iou


def test_it_is_counted_over_all_pixels():
  rng = np.random.default_rng(0)
  labels, found = rng.integers(0, 5, (3, 7, 9)), rng.integers(0, 5, (3, 7, 9))
  labels[rng.random(labels.shape) < .2] = 255
  counts = np.asarray(mean_iou.confusion(labels, found, 5))
  got, iou = mean_iou.measures(counts)
  known = labels != 255
  want = [(known & (labels == k) & (found == k)).sum() / (known & ((labels == k) | (found == k))).sum()
          for k in range(5)]
  np.testing.assert_allclose(iou, want)
  assert got['miou'] == np.mean(want)
  assert got['pixel_accuracy'] == (labels == found)[known].mean()


def test_a_class_that_is_nowhere_counts_nowhere():
  counts = np.asarray([[4, 1, 0], [0, 5, 0], [0, 0, 0]])
  got, iou = mean_iou.measures(counts)
  assert np.isnan(iou[2]) and got['miou'] == np.mean([4 / 5, 5 / 6])
  nothing = mean_iou.measures(np.zeros((2, 2), int))[0]
  assert nothing == dict(miou=0., pixel_accuracy=0., mean_accuracy=0.)
