"""Batches of images with boxes: which example stands where, on which canvas, and what lies around it."""

import collections

import jax
import numpy as np
import pytest

from detr_jax.data import limits, pipeline, sources
from detr_jax.data.config import detection_data
from detr_jax.data.info import DetectionInfo
from tests.detr.data import coco
from vit_jax import sharding
from vit_jax.errors import UserError

CANVASES = ((24, 40), (40, 24))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """12 wide and 5 tall training images, 3 wide and 2 tall test images; image i shows i % 4 boxes."""
  root = str(tmp_path_factory.mktemp('animals'))
  for split, wide, tall in (('train', 12, 5), ('test', 3, 2)):
    images = {i + 1: (24, 36) if i < wide else (30, 20) for i in range(wide + tall)}
    boxes = [coco.box(10 * i + k, i, (2 + 6 * k, 3 + k, 5, 8), category=(1, 7)[k % 2])
             for i in images for k in range(i % 4)]
    coco.write(root, split, images, boxes)
  return root


def config(source, batch_size=4, canvases=CANVASES, **options):
  return detection_data(source, batch_size, canvases, **options)


def build(source, mesh=(1, 1, 1), seed=0, **options):
  devices = jax.devices()[:int(np.prod(mesh))]
  return pipeline.build(config(source, **options), seed, sharding.make_mesh(*mesh, devices=devices))


def host(batch):
  return {key: np.asarray(value) for key, value in batch.items()}


def test_a_batch_is_what_the_model_expects(folder):
  data = build(folder, max_boxes=5)
  for _, batch in data.train.after(0, 6):
    batch = host(batch)
    height, width = batch['image'].shape[1:3]
    assert (height, width) in CANVASES
    assert {k: (v.shape[1:], v.dtype) for k, v in batch.items()} == {
        k: (shape, dtype) for k, (shape, dtype) in pipeline.shapes((height, width), 5, False).items()}
    for row in range(4):
      (h, w), count = batch['size'][row], (batch['index'][row] + 1) % 4
      assert not batch['image'][row, h:].any() and not batch['image'][row, :, w:].any()
      assert (batch['labels'][row] >= 0).tolist() == [k < count for k in range(5)]
      assert not batch['boxes'][row, count:].any()
      for (x, y, bw, bh), label in zip(batch['boxes'][row, :count], batch['labels'][row]):
        left, top, right, bottom = np.round([(x - bw / 2) * w, (y - bh / 2) * h, (x + bw / 2) * w,
                                             (y + bh / 2) * h]).astype(int)
        inside = batch['image'][row, top:bottom, left:right]
        assert inside.size and (inside[..., :2] == (255, (10, 70)[label])).all()


@pytest.mark.parametrize('batch_size', [4, 5])
def test_every_example_comes_once_an_epoch_of_its_canvas(folder, batch_size):
  train = build(folder, batch_size=batch_size).train
  streams = collections.defaultdict(list)
  for step in range(120):
    streams[train.turn(step)[0]] += [train.example(step, row)[1] for row in range(batch_size)]
  for canvas, members in ((0, range(12)), (1, range(12, 17))):
    stream = streams[canvas]
    epochs = np.asarray(stream[:len(stream) // len(members) * len(members)]).reshape(-1, len(members))
    assert len(epochs) > 5
    np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(members, (len(epochs), 1)))
  assert abs(len(streams[0]) / len(streams[1]) - 12 / 5) < .6  # as often as images fit it
  assert [train.turn(step) for step in (5, 3)] == [build(folder, batch_size=batch_size).train.turn(step)
                                                   for step in (5, 3)]
  other = build(folder, batch_size=batch_size, seed=1).train
  assert [train.turn(step)[0] for step in range(60)] != [other.turn(step)[0] for step in range(60)]


def test_any_mesh_and_any_start_see_the_same_batches(folder):
  options = dict(batch_size=8, transforms=[dict(name='flip', vertical=.5), dict(name='random_crop')])
  one = [host(b) for _, b in build(folder, **options).train.after(0, 6)]
  many = [host(b) for _, b in build(folder, mesh=(4, 2, 1), **options).train.after(0, 6)]
  late = [host(b) for _, b in build(folder, **options).train.after(4, 6)]
  for a, b in [*zip(one, many, strict=True), *zip(one[4:], late, strict=True)]:
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])
  flips = [np.asarray(b['boxes']) for b in (one[0], host(next(build(
      folder, seed=9, **options).train.after(0, 1))[1]))]
  assert not np.array_equal(*flips)


@pytest.mark.parametrize('mesh', [(1, 1, 1), (8, 1, 1)])
@pytest.mark.parametrize('batch_size', [8, 16])
def test_evaluation_covers_each_image_once(folder, mesh, batch_size):
  data = build(folder, mesh=mesh, batch_size=batch_size)
  seen = []
  for batch in map(host, data.splits['test']):
    real = batch['mask'] > 0
    seen += batch['index'][real].tolist()
    assert (batch['index'][~real] == -1).all() and not batch['image'][~real].any()
    assert (batch['size'][~real] == batch['image'].shape[1:3]).all() and (batch['size'] > 0).all()
    assert set(map(tuple, batch['original_size'][real])) <= {(24, 36), (30, 20)}
  assert sorted(seen) == list(range(5))
  assert [i['id'] for i in sources.ground_truth(config(folder))['images']] == [1, 2, 3, 4, 5]


def test_what_is_larger_than_its_canvas_is_shrunk_and_a_lone_canvas_takes_all(folder):
  data = build(folder, canvases=((12, 20),))
  for _, batch in data.train.after(0, 5):
    batch = host(batch)
    assert {tuple(size) for size in batch['size']} <= {(12, 18), (12, 8)}
  assert data.train.canvases() == [((12, 20), 17)]


def test_a_group_smaller_than_a_batch_joins_the_largest(folder):
  assert build(folder, batch_size=6).train.canvases() == [(CANVASES[0], 17)]


def test_images_that_are_shrunk_to_fit_are_told(folder, capsys):
  build(folder)
  assert 'shrunk' not in capsys.readouterr().err
  build(folder, canvases=((24, 40),), transforms=[dict(name='resize', size=24, max_size=40)])
  training, test = capsys.readouterr().err.splitlines()
  assert training.startswith('data.canvases: 5 of 17 training images are shrunk by up to 1.50') and (
      '36x24' in training)
  assert test.startswith('data.test_canvases: 2 of 5 test images are shrunk by up to 1.25')
  build(folder, batch_size=6)
  assert 'as many images suit it as a batch has' in capsys.readouterr().err


def test_what_no_query_can_find_is_told(capsys):
  info = DetectionInfo('mine', ('a',), 3, (8, 8), max_boxes=136, box_counts=((3, 9), (130, 2)),
                       test_box_counts=((60, 1), (110, 1)))
  limits.tell(info, 200, 0, 150)
  assert not capsys.readouterr().err
  limits.tell(info, 50, 2, 100)
  said = capsys.readouterr().err.splitlines()
  more = ' image(s) have more objects (up to '
  assert said[0].startswith(f'2 training{more}130) than the model has queries (50)')
  assert said[1].startswith(f'2 test{more}110) than the model has queries (50)')
  assert said[2].startswith(f'1 test{more}110) than detections are counted (100)')
  assert 'groups of 136 box slots add 272 queries to the 50' in said[3] and len(said) == 4


def test_objects_per_image_are_facts_of_the_data(folder):
  info = build(folder).info
  assert info.box_counts == ((0, 4), (1, 5), (2, 4), (3, 4))
  assert sum(images for _, images in info.test_box_counts) == 5


def test_published_targets_are_all_segments_with_the_boxes_of_their_pixels(tmp_path):
  coco.panoptic_scene(tmp_path)
  options = dict(train='val', test='val', panoptic=True, canvases=((32, 32),), batch_size=2)
  rows = {}
  for segments in ('annotated', 'published'):
    data = build(str(tmp_path), segments=segments, **options)
    batch = host(next(data.train.after(0, 1))[1])
    row = int(np.argmin(batch['index']))
    kept = batch['labels'][row] >= 0
    centre, size = np.split(batch['boxes'][row][kept] * 32, 2, -1)
    corners = np.concatenate([centre - size / 2, centre + size / 2], -1)
    rows[segments] = batch['labels'][row][kept].tolist(), corners
    assert 'masks' not in batch
  labels, boxes = rows['annotated']  # the crowd of dogs is left out
  assert labels == [0, 2]
  np.testing.assert_allclose(boxes, [[3, 4, 20, 20], [0, 0, 32, 32]], atol=1e-4)
  labels, boxes = rows['published']
  assert labels == [0, 1, 2]  # the last pixel's number is the end, as in the code of DETR's authors
  np.testing.assert_allclose(boxes, [[3, 4, 19, 19], [12, 2, 29, 9], [0, 0, 31, 31]], atol=1e-4)


def test_the_canvas_is_the_smallest_that_holds_an_image():
  canvases = [(800, 1344), (1344, 800), (800, 800)]
  sizes = [(800, 1066), (1066, 800), (800, 800), (900, 900), (900, 1200)]
  assert [pipeline.fitting(size, canvases) for size in sizes] == [0, 1, 2, 2, 0]


def test_more_boxes_than_the_limit_are_told_and_the_smallest_left_out(folder, capsys):
  data = build(folder, max_boxes=2, transforms=[dict(name='resize', size=24)])
  said = capsys.readouterr().err
  assert 'data.max_boxes=2: 4 training image(s) have more boxes, up to 3; 4 of 25 boxes' in said
  for _, batch in data.train.after(0, 4):
    assert batch['boxes'].shape[1] == 2
  assert build(folder).info.max_boxes == 8


def test_facts_come_from_the_data(folder, tmp_path):
  info = build(folder, test_transforms=[dict(name='resize', size=24)]).info
  assert (info.classes, info.category_ids) == (('cat', 'dog'), (1, 7))
  assert (info.num_train, info.num_test, info.masks, info.panoptic) == (17, 5, False, False)
  assert info.canvases == info.test_canvases == CANVASES
  info.save(tmp_path)
  assert type(info).load(tmp_path) == info
  slots = build(folder, id_slots=9).info
  assert slots.num_classes == 9 and slots.classes[7] == 'dog' and slots.classes[2] == 'N/A'


def test_masks_lie_as_the_boxes(tmp_path):
  square = [[4., 4., 20., 4., 20., 12., 4., 12.]]
  coco.write(tmp_path, 'train', {1: (20, 30), 2: (20, 30)},
             [coco.box(i, i, (4, 4, 16, 8), segmentation=square) for i in (1, 2)])
  options = dict(test='train', canvases=((40, 60),), batch_size=2)
  data = build(str(tmp_path), masks=True, transforms=[dict(name='resize', size=40)], **options)
  batch = host(next(data.train.after(0, 1))[1])
  assert batch['masks'].shape == (2, 8, 40, 8) and data.info.masks
  masks = np.unpackbits(batch['masks'], axis=-1)[..., :60].astype(bool)
  for row in range(2):
    np.testing.assert_array_equal(masks[row, 0], batch['image'][row, ..., 0] > 127)
    assert not masks[row, 1:].any()
  assert 'masks' not in host(next(iter(data.splits['test'])))


@pytest.mark.parametrize('options, said', [
    (dict(canvases=()), r'data.canvases=\(\) must be pairs of height and width'),
    (dict(test_transforms=[dict(name='flip')]), 'random; test images may only be resized'),
    (dict(masks=True), 'data.masks is set, but not every object'),
    (dict(train='trian'), "no annotations of the split 'trian'.*annotations/instances_test.json"),
    (dict(on_error='ignore'), "unknown data.on_error 'ignore'"),
    (dict(id_slots=5), 'category ids reach from 1 to 7; set it to at least 8'),
    (dict(outside='cut'), "unknown data.outside 'cut'"),
    (dict(exif='no'), "unknown data.exif 'no'"),
    (dict(segments='all'), "unknown data.segments 'all'"),
    (dict(max_boxes=-1), 'data.max_boxes=-1 must be a whole number, at least 0'),
    (dict(batch_size=6, mesh=(8, 1, 1)), 'not divisible by the 8 shards'),
    (dict(canvas=((1, 2),)), "unknown config key 'data.canvas'; did you mean 'data.canvases'")])
def test_what_cannot_be_used_is_told_before_any_work(folder, options, said):
  with pytest.raises(UserError, match=said):
    build(folder, **options)


def test_real_data_goes_through_once(shared):
  """BCCD: 159 images to test on, whose boxes lie where the annotations say."""
  small = [dict(name='resize', size=60, max_size=80)]
  data = build(shared('data/bccd'), batch_size=32, canvases=((60, 80),), test='val+test',
               transforms=small, test_transforms=small)
  truth = sources.ground_truth(config(shared('data/bccd'), test='val+test'))
  assert len(truth['images']) == 159 == len({i['id'] for i in truth['images']})
  assert len(truth['annotations']) == 1137 + 945
  assert data.info.max_boxes == 32 and data.info.num_train == 205
  seen = np.concatenate([host(b)['index'] for b in data.splits['test']])
  assert sorted(seen[seen >= 0]) == list(range(159))


def test_real_panoptic_masks_lie_as_their_boxes(shared):
  data = build(shared('data/coco_panoptic_sample'), batch_size=2, canvases=((800, 1344),),
               train='val2017', test='val2017', panoptic=True, masks=True,
               transforms=[dict(name='flip'), dict(name='resize', size=800, max_size=1333)])
  batch = host(next(data.train.after(0, 1))[1])
  assert batch['masks'].shape == (2, 32, 800, 168) and data.info.panoptic
  assert len(data.info.is_thing) == 133 and sum(data.info.is_thing) == 80
  masks = np.unpackbits(batch['masks'], axis=-1)[..., :1344]
  for row, (h, w) in enumerate(batch['size']):
    for (x, y, bw, bh), label, mask in zip(batch['boxes'][row], batch['labels'][row], masks[row]):
      if label >= 0 and mask.sum() > 500:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        got = [columns[0] / w, rows[0] / h, (columns[-1] + 1) / w, (rows[-1] + 1) / h]
        np.testing.assert_allclose(got, [x - bw / 2, y - bh / 2, x + bw / 2, y + bh / 2], atol=.02)
