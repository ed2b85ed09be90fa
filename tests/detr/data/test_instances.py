"""The instance annotations of panoptic data: found, cut and added like it, and refused where they do not
fit it."""

import json

import pytest

from detr_jax.data import sources
from detr_jax.data.config import detection_data
from tests.detr.data import coco
from vit_jax.data import __main__ as data_command
from vit_jax.errors import UserError


def data(root, test='val', **options):
  return detection_data(str(root), 1, ((32, 32),), train='val', test=test, panoptic=True,
                        **{**dict(masks=True), **options})


@pytest.fixture
def folder(tmp_path):
  coco.panoptic_scene(tmp_path)
  return tmp_path


def test_things_alone_are_the_truth(folder):
  truth = sources.ground_truth(data(folder, id_slots=250))
  assert truth['categories'] == [dict(id=1, name='cat', isthing=1), dict(id=7, name='dog', isthing=1)]
  assert [(a['image_id'], a['category_id'], a['iscrowd']) for a in truth['annotations']] == [
      (1, 1, 0), (1, 7, 1), (2, 7, 0)]
  assert truth['annotations'][0]['bbox'] == [3, 4, 17, 16] and truth['annotations'][0]['area'] == 80 + 60
  assert all('segmentation' in a for a in truth['annotations'])
  boxes = sources.ground_truth(data(folder, masks=False))
  assert len(boxes['annotations']) == 3 and 'segmentation' not in boxes['annotations'][0]


def test_parts_and_sums_have_the_images_of_the_split(folder):
  coco.panoptic_scene(folder, 'other')  # its images are numbered alike
  for name in ('val+other', 'val[50%:]', 'val[:1]+other[1:]'):
    split = sources.open_source(data(folder)).split(name)
    truth = sources.ground_truth(data(folder, name))
    assert truth['images'] == split.annotations()['images'] and len(truth['images']) == len(split)
    segments = split.annotations()['annotations']
    key = lambda a: (a['image_id'], a['bbox'])
    assert [key(a) for a in truth['annotations']] == [key(a) for a in segments if a['category_id'] < 200]


def test_files_of_any_name_are_the_fourth_part_of_a_split(folder):
  annotations = folder / 'annotations'
  (annotations / 'instances_val.json').rename(folder / 'mine.json')
  truth = sources.ground_truth(data(folder, 'annotations/panoptic_val.json:val:panoptic_val:mine.json'))
  assert len(truth['annotations']) == 3
  with pytest.raises(UserError, match='instance annotations .*yours.json of the split .* are missing'):
    sources.ground_truth(data(folder, 'annotations/panoptic_val.json:val:panoptic_val:yours.json'))


def test_no_instances_are_told(tmp_path, capsys):
  coco.panoptic_scene(tmp_path, instances=False)
  truth = sources.ground_truth(data(tmp_path))
  assert len(truth['annotations']) == 5 and len(truth['categories']) == 3
  said = capsys.readouterr().err
  assert said.count('\n') == 1 and 'no instance annotations of val' in said and 'none of masks' in said


def rename(content):
  content['categories'][1]['name'] = 'cow'


def stuff(content):
  content['categories'].append(dict(id=200, name='sky'))


def bare(content):
  del content['annotations'][2]['segmentation']


BAD = [
    (lambda c: c['images'].append(dict(id=9, file_name='9.png', height=5, width=7)),
     r'other images than .*panoptic_val.json: 9 is 7x5 here and not there'),
    (lambda c: (c['images'].pop(1), c['annotations'].pop(2)),
     r'images .*: 2 is not here and 32x24 there'),
    (rename, r"other categories than the things of .*: 7 is 'cow' here and 'dog' there"),
    (stuff, r"categories .*: 200 is 'sky' here and not there"),
    (lambda c: c['annotations'][2].update(segmentation=[[4, 4, 9, 4]]),
     r'annotation 2007 of image 2 .* is neither run lengths nor polygons'),
    (bare, r'annotation 2007 has no mask \(segmentation\)'),
    (lambda c: c['annotations'][0].update(category_id=3), r'has the category 3, which is not in'),
    (lambda c: c.pop('annotations'), r"it has no list 'annotations'")]


@pytest.mark.parametrize('spoil, said', BAD)
def test_what_does_not_fit_is_refused(folder, capsys, spoil, said):
  path = folder / 'annotations' / 'instances_val.json'
  content = json.loads(path.read_text())
  spoil(content)
  path.write_text(json.dumps(content))
  with pytest.raises(UserError, match=f'instances_val.json.*{said}'):
    sources.ground_truth(data(folder))
  with pytest.raises(UserError, match='error'):
    data_command.main(['--check', str(folder)])
  assert 'error: ' in capsys.readouterr().out


def test_a_sound_folder_with_both_is_sound(folder, capsys):
  data_command.main(['--check', str(folder)])
  printed = capsys.readouterr().out
  assert 'error' not in printed and printed.count('2 images') == 2
