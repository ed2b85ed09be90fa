"""The table of VTAB: 19 tasks, their splits and the rules of their labels."""

import collections
import re

import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.data.sources import vtab


def test_the_groups_have_the_tasks_of_the_paper():
  assert collections.Counter(task.group for task in vtab.TASKS.values()) == dict(
      natural=7, specialized=4, structured=8)
  assert sorted(name for name, task in vtab.TASKS.items() if task.manual) == [
      'diabetic_retinopathy', 'resisc45']


@pytest.mark.parametrize('name', sorted(vtab.TASKS))
def test_a_thousand_examples_train_and_none_of_them_tests(name):
  task = vtab.TASKS[name]
  pieces = [re.fullmatch(r'(\w+)\[(\d*):(\d*)\]', s) for s in task.train.split('+')]
  assert sum(int(p[3]) - int(p[2] or 0) for p in pieces) == 1000
  assert task.train800 == 'train[:800]'
  test = re.fullmatch(r'(\w+)(?:\[(\d+):\])?', task.test)
  for piece in pieces:
    assert piece[1] != test[1] or int(piece[3]) <= int(test[2])


@pytest.mark.parametrize('name, features, label', [
    ('cifar100', dict(label=np.int64(42)), 42),
    ('dsprites_location', dict(label_x_position=31), 15),
    ('dsprites_location', dict(label_x_position=1), 0),
    ('dsprites_orientation', dict(label_orientation=39), 15),
    ('dsprites_orientation', dict(label_orientation=2), 0),
    ('dsprites_orientation', dict(label_orientation=3), 1),
    ('smallnorb_azimuth', dict(label_azimuth=17), 17),
    ('smallnorb_elevation', dict(label_elevation=8), 8),
    ('clevr_count', dict(objects=dict(size=np.zeros(3))), 0),
    ('clevr_count', dict(objects=dict(size=np.zeros(10))), 7)])
def test_labels_are_read_and_grouped(name, features, label):
  assert vtab.task(name).label(features) == label < vtab.task(name).num_classes


@pytest.mark.parametrize('depths, label', [([12., 7.9], 0), ([8.], 0), ([8.2, 11.], 1), ([8.6], 2),
                                           ([9.1], 3), ([9.6], 4), ([10.1, 30.], 5)])
def test_clevr_takes_the_closest_object(depths, label):
  pixels = np.stack([np.zeros(len(depths)), np.zeros(len(depths)), depths], axis=1)
  assert vtab.clevr_distance(dict(objects=dict(pixel_coords=pixels))) == label


@pytest.mark.parametrize('types, depths, label', [
    ([0, 3], [25., 5.], 2), ([2, 0], [7.5, 30.], 0), ([1], [8.5], 1), ([3, 4], [1., 2.], 3),
    ([], [], 3)])
def test_kitti_takes_the_closest_vehicle(types, depths, label):
  location = np.stack([np.zeros(len(depths)), np.zeros(len(depths)), depths], axis=1)
  assert vtab.kitti_distance(dict(objects=dict(type=np.array(types, int), location=location))) == label


def test_records_hold_the_same_features_flat():
  flat = {'objects/type': np.array([3, 0]), 'objects/location': np.array([0., 0., 1., 0., 0., 9.])}
  assert vtab.kitti_distance(flat) == 1
  assert vtab.clevr_distance({'objects/pixel_coords': np.array([0., 0., 8.6])}) == 2
  assert vtab.clevr_count({'objects/size': np.zeros(4)}) == 1
  assert vtab.TASKS['svhn'].label({'label': np.array([7])}) == 7


@pytest.mark.parametrize('name, values', [('dsprites_location', 32), ('dsprites_orientation', 40)])
def test_dsprites_has_sixteen_bins_of_equal_width(name, values):
  feature = 'label_x_position' if values == 32 else 'label_orientation'
  bins = [vtab.TASKS[name].label({feature: v}) for v in range(values)]
  assert bins == [int(v // (values / 16)) for v in range(values)] and set(bins) == set(range(16))


def test_scores_are_means_over_tasks_and_incomplete_groups_have_none():
  every = {name: i / 19 for i, name in enumerate(vtab.TASKS)}
  found = vtab.scores(every)
  assert found['mean'] == pytest.approx(np.mean(list(every.values())))
  assert found['natural'] == pytest.approx(np.mean([v for n, v in every.items()
                                                    if vtab.TASKS[n].group == 'natural']))
  del every['svhn']
  assert set(vtab.scores(every)) == {'specialized', 'structured'}
  with pytest.raises(UserError, match="'svhn'"):
    vtab.scores({'svhm': 1.})
