"""Images with boxes from COCO's JSON, from scenes of digits and from TFDS; and their truth."""

import contextlib
import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from detr_jax.data import sources
from detr_jax.data.config import detection_data
from tests.data.test_tfds import CORE, feature, image, label, prepare
from tests.detr.data import coco
from vit_jax.errors import UserError


def split(source, name='train', **options):
  return sources.open_source(detection_data(str(source), 4, ((8, 8),), **options)).split(name)


IMAGES = {7: (20, 30), 3: (10, 10), 4: (16, 16)}
BOXES = [coco.box(0, 4, (1, 2, 3, 4), 7), coco.box(5, 7, (4, 4, 10, 5)),
         coco.box(3, 7, (0, 0, 30.4, 20), 7), dict(coco.box(9, 7, (2, 2, 8, 8)), iscrowd=1),
         coco.box(11, 4, (5, 5, 0, 3))]


def test_labels_have_no_gaps_and_crowds_are_told_apart(tmp_path):
  coco.write(tmp_path, 'train', IMAGES, BOXES, categories=((7, 'dog'), (1, 'cat')), draw=False)
  for number in IMAGES:
    os.makedirs(tmp_path / 'train', exist_ok=True)
    Image.new('RGB', IMAGES[number][::-1]).save(tmp_path / 'train' / f'{number}.png')
  found = split(tmp_path)
  assert found.sizes.tolist() == [[20, 30], [10, 10], [16, 16]] and found.counts.tolist() == [2, 0, 1]
  first, none, last = (found.read(i) for i in range(3))
  assert (first.image_id, first.labels.tolist(), first.is_crowd.tolist()) == (7, [0, 1, 0], [0, 0, 1])
  np.testing.assert_array_equal(first.boxes, [[4, 4, 14, 9], [0, 0, 30, 20], [2, 2, 10, 10]])  # clipped
  assert none.boxes.shape == (0, 4) and last.labels.tolist() == [1, 0] and first.image().size == (30, 20)
  truth = found.annotations()
  assert [i['id'] for i in truth['images']] == [7, 3, 4]
  assert [(a['id'], a['image_id'], a['category_id'], a['iscrowd']) for a in truth['annotations']] == [
      (1, 7, 1, 0), (2, 7, 7, 0), (3, 7, 1, 1), (4, 4, 7, 0)]  # the box without area counts nowhere
  assert truth['annotations'][1]['bbox'] == [0, 0, 30.4, 20]  # as annotated
  assert truth['categories'] == [dict(id=1, name='cat'), dict(id=7, name='dog')]


def test_the_truth_is_read_by_pycocotools(tmp_path):
  from pycocotools.coco import COCO
  from pycocotools.cocoeval import COCOeval
  coco.write(tmp_path, 'train', IMAGES, BOXES[:4])
  with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO()
    truth.dataset = split(tmp_path).annotations()
    truth.createIndex()
    results = truth.loadRes([dict(image_id=a['image_id'], category_id=a['category_id'], bbox=a['bbox'],
                                  score=.9) for a in truth.dataset['annotations'] if not a['iscrowd']])
    measure = COCOeval(truth, results, 'bbox')
    measure.evaluate(), measure.accumulate(), measure.summarize()
  assert measure.stats[0] == pytest.approx(1.)


@pytest.mark.parametrize('layout', ['{}', 'images/{}', '{}/images', 'images', '', 'roboflow'])
def test_usual_folders_are_found(tmp_path, layout):
  coco.write(tmp_path, 'train', {1: (8, 8)}, [coco.box(1, 1, (1, 1, 4, 4))])
  if layout == 'roboflow':
    shutil.move(tmp_path / 'annotations' / 'instances_train.json', tmp_path / 'train' /
                '_annotations.coco.json')
  elif layout != '{}':
    os.makedirs(tmp_path / layout.format('train'), exist_ok=True)
    shutil.move(tmp_path / 'train' / '1.png', tmp_path / layout.format('train') / '1.png')
  assert split(tmp_path).read(0).image().size == (8, 8)


def test_files_may_be_named_and_splits_added_and_cut(tmp_path):
  coco.write(tmp_path, 'train', {i: (8, 8) for i in range(1, 11)}, [coco.box(1, 2, (1, 1, 4, 4))])
  coco.write(tmp_path, 'test', {i: (8, 8) for i in range(1, 5)}, [coco.box(1, 2, (2, 2, 4, 4))])
  shutil.move(tmp_path / 'annotations' / 'instances_test.json', tmp_path / 'other.json')
  shutil.move(tmp_path / 'test', tmp_path / 'pictures')
  both = split(tmp_path, 'train+other.json:pictures')
  assert len(both) == 14 and len(set(both.image_ids.tolist())) == 14
  truth = both.annotations()
  boxes = {a['image_id']: a['bbox'] for a in truth['annotations']}
  assert boxes == {2: [1, 1, 4, 4], both.image_ids[11]: [2, 2, 4, 4]}
  parts = [split(tmp_path, name).image_ids.tolist() for name in ('train[:70%]', 'train[70%:]')]
  assert sorted(parts[0] + parts[1]) == list(range(1, 11)) and len(parts[0]) == 7


def test_run_lengths_and_polygons_give_masks(tmp_path):
  from pycocotools import mask
  inside = np.zeros((10, 12), np.uint8)
  inside[2:5, 3:9] = 1
  packed = mask.encode(np.asfortranarray(inside))
  polygon = [[3, 2, 9, 2, 9, 5, 3, 5]]
  plain = dict(size=[10, 12], counts=[32, *[3, 7] * 5, 3, 35])
  for number, entry in enumerate((dict(packed, counts=packed['counts'].decode()), polygon, plain)):
    root = tmp_path / str(number)
    coco.write(root, 'train', {1: (10, 12)}, [coco.box(1, 1, (3, 2, 6, 3), segmentation=entry)])
    found = split(root, masks=True)
    assert found.has_masks and found.read(0).masks().shape == (1, 10, 12)
    np.testing.assert_array_equal(found.read(0).masks()[0], inside)
    assert found.annotations()['annotations'][0]['segmentation'] == entry
    assert 'segmentation' not in split(root).annotations()['annotations'][0]


def test_real_panoptic_data_equals_its_detection_form(shared):
  root = shared('data/coco_panoptic_sample')
  panoptic = split(root, 'val2017', train='val2017', panoptic=True, masks=True)
  plain = 'annotations/panoptic_detection_format.json:val2017'
  boxes = split(root, plain, train=plain, masks=True)
  for i in range(2):
    a, b = panoptic.read(i), boxes.read(i)
    np.testing.assert_array_equal(a.boxes, b.boxes)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.masks(), b.masks())
    ids, segments = panoptic.panoptic(i)
    assert [int((ids == s['id']).sum()) for s in segments] == [s['area'] for s in segments]
  assert [a['id'] for a in boxes.annotations()['annotations']] == list(range(1, 51))


def test_an_image_turned_by_its_tag_is_read_as_it_was_annotated(tmp_path):
  coco.write(tmp_path, 'train', {1: (8, 12), 2: (12, 8)}, [], draw=False)
  exif = Image.Exif()
  exif[0x0112] = 6  # a quarter turn
  for number in (1, 2):
    Image.new('RGB', (12, 8)).save(tmp_path / 'train' / f'{number}.png', exif=exif)
  found = split(tmp_path)
  assert [found.read(i).image().size for i in range(2)] == [(12, 8), (8, 12)]


def test_digit_scenes_show_digits_where_the_boxes_are():
  train, test = (split('digit_scenes', name) for name in ('train', 'test'))
  assert (len(train), len(test)) == (4096, 300)
  assert set(test.counts.tolist()) <= {1, 2, 3, 4, 5} and 2.5 < train.counts.mean() < 3.2
  for i in range(20):
    example = test.read(i)
    pixels = np.asarray(example.image())
    assert pixels.shape == (64, 64, 3) and (pixels[..., 0] == pixels[..., 2]).all()
    outside = np.ones((64, 64), bool)
    for left, top, right, bottom in example.boxes.astype(int):
      assert 3 <= right - left <= 24 and 8 <= bottom - top <= 24
      assert pixels[top:bottom, left:right].max() > 150
      assert outside[top:bottom, left:right].all()  # they do not overlap
      outside[top:bottom, left:right] = False
    assert pixels[outside].max() < 150  # but for noise and a rim, all ink is in boxes
  again = split('digit_scenes', 'test[:10%]', on_error='skip')
  first = dict(zip(test.image_ids.tolist(), range(300)))
  assert len(again) == 30 and first
  assert sources.ground_truth(detection_data('digit_scenes', 4, ((8, 8),)))['annotations'][0]['id'] == 1


def sequence(**features):
  inner = dict(pythonClassName=CORE + 'features_dict.FeaturesDict', featuresDict=dict(features=features))
  return feature('Sequence', feature=inner, length='-1')


def number(kind='int64'):
  return feature('Tensor', dtype=kind, shape={}, encoding='none')


def png(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  return file.getvalue()


def test_tfds_data_gives_boxes_masks_and_truth(tmp_path):
  """Two segments in each picture: left and right of column i + 2; the second is a crowd."""
  def record(i):
    ids = np.zeros((8, 10, 3), np.uint8)
    ids[:, :i + 2], ids[:, i + 2:] = (5, 1, 0), (9, 0, 0)
    share = (i + 2) / 10
    return {'image': [png(np.full((8, 10, 3), i, np.uint8))], 'image/filename': [b'%d.png' % i],
            'image/id': [40 + i], 'panoptic_image': [png(ids)],
            'panoptic_objects/bbox': [0., 0., 1., share, 0., share, 1., 1.],
            'panoptic_objects/label': [1, 2], 'panoptic_objects/id': [261, 9],
            'panoptic_objects/is_crowd': [0, 1], 'panoptic_objects/area': [8 * (i + 2), 8 * (8 - i)]}

  objects = sequence(area=number(), bbox=feature('Tensor', dtype='float32', shape=dict(dimensions=['4']),
                                                 encoding='none'),
                     id=number(), is_crowd=number('bool'), label=label(3))
  features = {'image': image(), 'image/filename': feature('Text'), 'image/id': number(),
              'panoptic_image': image(), 'panoptic_objects': objects}
  place = prepare(str(tmp_path), 'shapes', dict(train=[2, 1], test=[1]), features, record, supervised=())
  with open(os.path.join(place, 'panoptic_objects-label.labels.txt'), 'w') as file:
    file.write('sky\ncat\ndog\n')
  found = split('shapes', data_dir=str(tmp_path), masks=True)
  assert found.sizes.tolist() == [[8, 10]] * 3 and found.counts.tolist() == [1, 1, 1]
  example = found.read(1)
  np.testing.assert_allclose(example.boxes, [[0, 0, 3, 8], [3, 0, 10, 8]], atol=1e-5)
  assert (example.labels.tolist(), example.is_crowd.tolist()) == ([1, 2], [False, True])
  assert (example.index, example.image_id) == (1, 41)
  np.testing.assert_array_equal(example.masks().sum((1, 2)), [24, 56])
  assert found.panoptic(1)[1][0] == dict(id=261, category_id=1, iscrowd=0, area=24.)
  truth = split('shapes', 'train[1:]', data_dir=str(tmp_path)).annotations()
  assert [i['id'] for i in truth['images']] == [41, 42] and len(truth['annotations']) == 4
  assert truth['categories'][2] == dict(id=2, name='dog')


def test_difficult_objects_of_tfds_are_neither_trained_on_nor_missed(tmp_path):
  """As of PASCAL VOC; a box without area counts nowhere either."""
  def record(i):
    return {'image': [png(np.full((8, 10, 3), i, np.uint8))], 'image/filename': [b'%d.png' % i],
            'objects/bbox': [0., 0., .5, .5, .5, .5, 1., 1., .2, .2, .2, .9], 'objects/label': [0, 1, 1],
            'objects/is_difficult': [0, 1, 0]}

  box = feature('Tensor', dtype='float32', shape=dict(dimensions=['4']), encoding='none')
  objects = sequence(bbox=box, label=label(2), is_difficult=number('bool'))
  features = {'image': image(), 'image/filename': feature('Text'), 'objects': objects}
  place = prepare(str(tmp_path), 'shapes', dict(train=[2]), features, record, supervised=())
  with open(os.path.join(place, 'objects-label.labels.txt'), 'w') as file:
    file.write('cat\ndog\n')
  found = split('shapes', data_dir=str(tmp_path))
  assert found.counts.tolist() == [1, 1] and found.read(0).is_crowd.tolist() == [False, True, False]
  truth = found.annotations()['annotations']
  assert [(a['image_id'], a['iscrowd']) for a in truth] == [(1, 0), (1, 1), (2, 0), (2, 1)]


@pytest.mark.parametrize('name, said', [
    ('digit_scene', "unknown data source 'digit_scene'; did you mean 'digit_scenes'"),
    ('/nowhere', "data source '/nowhere' is no folder"), ('coco/2016', 'tfds build coco/2016')])
def test_a_source_that_is_none_is_told(name, said, tmp_path):
  with pytest.raises(UserError, match=said):
    split(name, data_dir=str(tmp_path))


def test_other_categories_than_in_training_are_told(tmp_path):
  coco.write(tmp_path, 'train', {1: (8, 8)}, [])
  coco.write(tmp_path, 'test', {1: (8, 8)}, [], categories=((1, 'cat'), (7, 'cow')))
  with pytest.raises(UserError, match="other categories than .*: 7 is 'cow' here and 'dog' there"):
    split(tmp_path, 'test')


def test_a_wrong_size_is_told_by_image(tmp_path):
  path = coco.write(tmp_path, 'train', {1: (8, 8)}, [])
  content = json.load(open(path))
  content['images'][0]['width'] = 9
  json.dump(content, open(path, 'w'))
  with pytest.raises(UserError, match=r'1.png \(id 1\) is 8x8 pixels, but its annotations say 9x8'):
    split(tmp_path).read(0).image()
