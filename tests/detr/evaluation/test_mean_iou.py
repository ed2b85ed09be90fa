"""Mean IoU is its definition, over all pixels and by the size of regions."""

import numpy as np

from detr_jax.data import regions
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


def test_sizes_are_those_of_connected_regions():
  labels = np.zeros((120, 200), np.uint8)
  labels[:31, :33], labels[31:62, 33:66] = 1, 1  # 1023 pixels each; they touch at a corner alone
  labels[70:102, :32] = 2  # 1024
  labels[:96, 100:196] = 3  # 9216
  labels[100:, 100:] = 255
  got = regions.area_classes(labels)
  assert (got[labels == 1] == 0).all() and (got[labels == 2] == 1).all()
  assert (got[labels == 3] == 2).all() and (got[labels == 0] == 2).all() and not got[labels == 255].any()


def test_the_pixels_of_a_size_are_measured_alone():
  labels = np.zeros((1, 120, 120), np.uint8)
  labels[0, :10, :10], labels[0, 60:110, 60:110] = 1, 1
  found = np.zeros_like(labels, int)
  found[0, 60:110, 60:110] = 1  # the small one is missed
  measure = mean_iou.MeanIoU(lambda *_: found, ('ground', 'thing'))
  batch = dict(labels=labels, areas=regions.area_classes(labels[0])[None], mask=np.ones(1))
  total = measure.update(measure.update(None, measure.step({}, {}, batch)), measure.step({}, {}, batch))
  got = measure.finish(total)
  assert (got['miou_small'], got['miou_medium'], got['miou_large']) == (0., 1., 1.)
  whole = np.asarray(mean_iou.confusion(labels, found, 2))
  assert got['miou'] == mean_iou.measures(whole)[0]['miou'] and total.sum() == 2 * labels.size
