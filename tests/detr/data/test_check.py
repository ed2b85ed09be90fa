"""What is wrong with a data set is told in one sentence each, all at once or before training starts."""

import json

import numpy as np
import pytest

from tests.detr.data import coco
from vit_jax.data import __main__ as data_command
from vit_jax.errors import UserError

IMAGES = {1: (20, 30), 2: (20, 30), 3: (20, 30)}
GOOD = [coco.box(1, 1, (2, 2, 10, 10)), coco.box(2, 2, (20, 10, 9, 9), 7),
        coco.box(4, 1, (0, 0, 30, 20)), coco.box(5, 1, (12, 12, 3, 3), 7),
        coco.box(6, 2, (12, 3, 8, 8), 7)]
RUNS = dict(size=[10, 10], counts=[100])

# What is added to the annotations, and what is said.
BAD = [
    (coco.box(3, 9, (1, 1, 2, 2)), 'annotation 3 of image 9: there is no such image in images'),
    (coco.box(3, 1, (1, 1, 2, 2), 5), '3 of image 1 (1.png) has the category 5, which is not in'),
    (coco.box(3, 1, (1, float('nan'), 2, 2)), '3 of image 1 (1.png) has the box [1, nan, 2, 2]'),
    (dict(coco.box(3, 1, (1, 1, 2, 2)), bbox=[1, 2, 3]), 'has the box [1, 2, 3]; it must be four'),
    (dict(coco.box(3, 1, (1, 1, 2, 2)), bbox=None), '(1.png) has the box None; it must be four numbers'),
    (coco.box(3, 2, (9, 9, -2, 5)), '3 of image 2 (2.png) has the box [9, 9, -2, 5], of negative size'),
    (coco.box(3, 2, (25, 5, 20, 5)), 'annotation 3 of image 2 (2.png) has the box [25, 5, 20, 5], which '
     'reaches far out'),
    (coco.box(3, 2, (5, 5, 2, 2), segmentation=RUNS), '3 of image 2 (2.png) has a mask of [10, 10]'),
]


@pytest.mark.parametrize('entry, said', BAD)
def test_a_bad_annotation_is_told_before_training(tmp_path, entry, said):
  coco.write(tmp_path, 'train', IMAGES, GOOD)
  coco.write(tmp_path, 'train', IMAGES, [*GOOD, entry], draw=False)
  with pytest.raises(UserError) as told:
    coco.build(tmp_path)
  assert said in str(told.value) and 'instances_train.json' in str(told.value)
  printed, error = coco.checked(tmp_path)
  assert f'error: {said}' in printed or said in printed
  assert error.startswith('1 error(s)')
  assert coco.build(tmp_path, on_error='skip').train.reader.splits[0].counts.tolist() == [3, 2, 0]


def test_all_problems_are_listed_at_once(tmp_path):
  path = coco.write(tmp_path, 'train', {**IMAGES, 4: (20, 30)}, GOOD)
  (tmp_path / 'train' / '2.png').write_bytes(b'no picture')
  (tmp_path / 'train' / '3.png').unlink()
  content = json.load(open(path))
  content['annotations'] += [*(entry for entry, _ in BAD), coco.box(2, 2, (5, 5, 2, 2))]
  content['annotations'] += [coco.box(20, 1, (3, 3, 0, 4)), coco.box(21, 1, (28, 3, 3, 4)),
                             dict(coco.box(22, 1, (1, 1, 5, 5)), iscrowd=1)]
  content['images'][3]['width'] = 31
  content['images'] += [dict(id='a', file_name='a.png', width=3, height=-1)]
  json.dump(content, open(path, 'w'))
  printed, error = coco.checked(tmp_path)
  for said in (*(said for _, said in BAD), 'note: 8 annotations have the id 3',
               'cannot read the image', 'the file of image 3, 3.png, is not in',
               '4.png (id 4) is 30x20 pixels',
               'entry 4 of images, has no whole number as id', 'has the height -1',
               'note: annotation 20 of image 1 (1.png) has the box [3, 3, 0, 4] without area',
               'note: annotation 21 of image 1 (1.png) has the box [28, 3, 3, 4], which is clipped',
               'note: annotation 22 of image 1 (1.png) is a crowd without a run-length mask',
               'note: 2 image(s) have no box', '2 classes: cat 6, dog 3'):
    assert said in printed, (said, printed)
  assert error.startswith(f'{printed.count("  error: ")} error(s) in')
  fast, _ = coco.checked(tmp_path, '--fast')
  assert 'cannot read the image' not in fast and 'is not in' in fast


def test_corners_instead_of_sizes_are_recognised(tmp_path):
  corners = [coco.box(i, 1 + i % 3, (12 + i, 8, 17 + i, 15)) for i in range(1, 8)]
  coco.write(tmp_path, 'train', IMAGES, GOOD)
  coco.write(tmp_path, 'train', IMAGES, corners, draw=False)
  with pytest.raises(UserError, match=r'like \[left, top, right, bottom\], as in annotation 3 of'):
    coco.build(tmp_path)


def test_a_missing_image_stops_and_a_skipped_one_does_not(tmp_path):
  coco.write(tmp_path, 'train', IMAGES, GOOD)
  (tmp_path / 'train' / '2.png').unlink()
  with pytest.raises(UserError, match=r'the file of image 2, 2.png, is not in .*train$'):
    coco.build(tmp_path)
  data = coco.build(tmp_path, on_error='skip')
  assert {int(batch['index'][0]) for _, batch in data.train.after(0, 6)} == {0, 2}
  assert sum(float(batch['mask'][0]) for batch in data.splits['test']) == 2


@pytest.mark.parametrize('text, said', [
    ('{"images": [', 'is no JSON that can be read'), ('[]', "has no list 'images'"),
    ('{"images": [], "annotations": {}}', "has no list 'annotations'"),
    ('{"images": [], "annotations": [], "categories": []}', 'has no category'),
    ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
     'two categories have the id 1'),
    ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', 'hold none'),
    ('{"images": [{"id": 1, "file_name": "1.png", "width": 3, "height": 3}], "annotations": [], '
     '"categories": [{"id": 1, "name": "a"}]}', 'contains no boxes')])
def test_what_is_no_annotations_is_told(tmp_path, text, said):
  coco.write(tmp_path, 'train', IMAGES, GOOD)
  (tmp_path / 'annotations' / 'instances_train.json').write_text(text)
  with pytest.raises(UserError, match=said):
    coco.build(tmp_path)
  if 'hold' not in said and 'no boxes' not in said:
    printed, error = coco.checked(tmp_path)
    assert said in printed and error.startswith('1 error(s)')


def test_real_data_is_sound(shared):
  printed, error = coco.checked(shared('data/coco_panoptic_sample/annotations/panoptic_val2017.json'))
  assert not error and '50 boxes (3 crowds), at most 32 in one; 6 small, 31 medium, 13 large' in printed
  printed, error = coco.checked('--fast', shared('data/bccd'))
  assert not error and '3 classes: RBC 2,381, WBC 214, Platelets 209' in printed


def test_wrong_panoptic_pictures_are_told(shared, tmp_path):
  import shutil
  root = tmp_path / 'sample'
  shutil.copytree(shared('data/coco_panoptic_sample'), root)
  (root / 'panoptic_val2017' / '000000142238.png').unlink()
  path = root / 'annotations' / 'panoptic_val2017.json'
  content = json.loads(path.read_text())
  segments = content['annotations'][1]['segments_info']
  segments[0]['id'], lost = 5, segments[0]['id']
  path.write_text(json.dumps(content))
  printed, error = coco.checked(path)
  assert error.startswith('3 error(s)') and '000000142238.png is not in' in printed
  assert 'belongs to segment 5 of segments_info' in printed
  assert f'has pixels of segment {lost}, which is not in' in printed


def test_the_sheet_shows_what_the_model_sees(tmp_path, capsys):
  coco.write(tmp_path, 'train', IMAGES, GOOD)
  config = tmp_path / 'small.py'
  config.write_text(
      'from detr_jax.data.config import detection_data\nfrom vit_jax import config\n'
      'def get_config(arg):\n  c = config.base()\n'
      f'  c.data = detection_data({str(tmp_path)!r}, 2, ((20, 40),), test="train")\n'
      '  c.task = dict(name="detr_jax.tasks.detection.Detection", bbox_coef=5.)\n'
      '  c.model = dict(name="detr_r50")\n  c.optimizer = c.schedule = dict(name="")\n'
      '  c.total_steps = 3\n  return c\n')
  data_command.main([str(config), '--show', f'--out={tmp_path}/sheet.png', '--count=3'])
  data_command.main([str(config), '--show', f'--out={tmp_path}/coloured.png', '--count=3',
                     "--config.data.augment=({'name': 'color_jitter', 'brightness': .9},)"])
  printed = capsys.readouterr().out
  assert 'run         3 steps, each training image 2.0 times' in printed
  assert '3 images with 5 boxes, 1 images without; at most 3 in one, 8 in a batch' in printed
  from PIL import Image
  plain, coloured = (np.asarray(Image.open(tmp_path / f'{name}.png')) for name in ('sheet', 'coloured'))
  assert plain.std() > 10 and (plain != coloured).any()  # what data.augment does is seen


@pytest.mark.parametrize('there, lacks', [
    (['images', 'labels'], 'has labels/ but no data.yaml'),
    (['Annotations', 'JPEGImages'], 'has Annotations/ but no ImageSets/Main/')])
def test_what_a_folder_lacks_is_told(tmp_path, there, lacks):
  for name in there:
    (tmp_path / name).mkdir()
  with pytest.raises(UserError, match=lacks):
    data_command.main(['--check', str(tmp_path)])


def test_a_description_without_images_is_told(tmp_path):
  (tmp_path / 'labels').mkdir()
  (tmp_path / 'data.yaml').write_text('names: [a, b]')
  with pytest.raises(UserError, match='names no images; add train: images/train'):
    data_command.main(['--check', str(tmp_path)])
