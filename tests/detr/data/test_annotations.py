"""What other programs write into COCO's JSON: ids, names of files, conventions of boxes, copies."""

import json
import os
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from detr_jax.data import sources
from detr_jax.data.config import detection_data
from detr_jax.evaluation import average_precision
from tests.detr.data import coco
from vit_jax.errors import UserError

SIZES = {i: (20, 30) for i in (1, 2, 3)}
BOXES = [coco.box(1, 1, (2, 2, 10, 10)), coco.box(2, 2, (20, 10, 9, 9), 7),
         coco.box(3, 1, (0, 0, 30, 20)), coco.box(4, 3, (12, 12, 3, 3), 7),
         coco.box(5, 2, (12, 3, 8, 8), 7)]


def write(root, change=lambda content: None, split='train', encode=lambda text: text.encode()):
  """Writes a sound folder whose JSON was changed."""
  path = coco.write(root, split, SIZES, [dict(one) for one in BOXES])
  content = json.load(open(path))
  change(content)
  with open(path, 'wb') as file:
    file.write(encode(json.dumps(content, ensure_ascii=False)))
  return content


def split(root, name='train', **options):
  return sources.open_source(detection_data(str(root), 1, ((20, 30),), **options)).split(name)


def boxes_of(found):
  return {found.read(i).image_id: found.read(i).boxes.tolist() for i in range(len(found))}


def each(key, how):
  return lambda content: [one.update({key: how(one)}) for one in content['annotations']]


@pytest.mark.parametrize('change, said', [
    (lambda c: [a.pop('id') for a in c['annotations']], '5 annotation(s) have no whole number as id'),
    (each('id', lambda a: f'ann-{a["id"]}'), '5 annotation(s) have no whole number as id'),
    (each('id', lambda a: a['id'] % 2), '2 annotations have the id 0'),
    (each('id', lambda a: 2 ** 70 + a['id']), '5 annotation(s) have no whole number as id'),
    (each('id', lambda a: str(a['id'])), ''),
    (each('category_id', lambda a: str(a['category_id'])), ''),
    (each('image_id', lambda a: str(a['image_id'])), ''),
    (each('category_id', lambda a: float(a['category_id'])), ''),
    (lambda c: [i.update(id=str(i['id']), width='30', height=20.) for i in c['images']], ''),
    (lambda c: [k.update(id=str(k['id'])) for k in c['categories']], '')])
def test_numbers_may_be_missing_repeated_or_text(tmp_path, capsys, change, said):
  write(tmp_path / 'sound')
  write(tmp_path / 'other', change)
  sound, other = (split(tmp_path / name) for name in ('sound', 'other'))
  told = capsys.readouterr().err
  assert said in told if said else not told
  assert sound.annotations() == other.annotations() and boxes_of(sound) == boxes_of(other)
  printed, error = coco.checked(tmp_path / 'other')
  assert not error and said in printed and 'id -1' not in printed


def test_image_ids_may_be_any_text(tmp_path):
  name = 'img_{:04}'.format
  write(tmp_path, lambda c: ([i.update(id=name(i['id'])) for i in c['images']],
                             each('image_id', lambda a: name(a['image_id']))(c)))
  found = split(tmp_path)
  truth = found.annotations()
  assert [i['id'] for i in truth['images']] == ['img_0001', 'img_0002', 'img_0003']
  detections = [dict(image_id=a['image_id'], category_id=a['category_id'], bbox=a['bbox'], score=.9)
                for a in truth['annotations']]
  counted = average_precision.summarize(average_precision.evaluate(truth, detections))
  assert counted['ap'] == pytest.approx(1)
  both = split(tmp_path, 'train+train')
  assert both.image_ids.tolist() == [1, 2, 3, 4, 5, 6] and len(both.annotations()['annotations']) == 10


@pytest.mark.parametrize('change, said', [
    (lambda c: each('category_id', lambda a: 'cat')(c), "has the category 'cat', which is not in"),
    (lambda c: c['images'][0].update(id=20230101123456789012), '20230101123456789012 (1.png), entry 0'),
    (lambda c: c['images'][0].update(width=10 ** 12), 'has the width 1000000000000; it must be'),
    (lambda c: c['categories'][0].update(id=2 ** 63), 'no whole number of up to 64 bits'),
    (lambda c: c['categories'][1].update(name='N/A'), 'has the category 7, which is not in'),
    (lambda c: c['categories'][1].update(isthing=1), 'as all or none have it'),
    (lambda c: c['annotations'][0].update(iscrowd='no'), "has the iscrowd 'no'; it must be 0 or 1"),
    (lambda c: c['annotations'][0].update(area=float('nan')), 'has the area nan'),
    (lambda c: c['annotations'][4].update(segments_info=[]), 'entry 0 of annotations, of image 1, has'),
    (lambda c: c['images'].append(dict(c['images'][0])), 'has the same id as another image (1.png)')])
def test_what_cannot_be_read_is_named(tmp_path, change, said):
  write(tmp_path, change)
  with pytest.raises(UserError) as told:
    split(tmp_path)
  assert said in str(told.value)
  printed, error = coco.checked(tmp_path, '--fast')
  assert said in printed and error


@pytest.mark.parametrize('boxes, said', [
    (lambda l, t, w, h: [l / 30, t / 20, w / 30, h / 20], 'shares of the image'),
    (lambda l, t, w, h: [l / 30, t / 20, (l + w) / 30, (t + h) / 20], 'shares of the image'),
    (lambda l, t, w, h: [(l + w / 2) / 30, (t + h / 2) / 20, w / 30, h / 20], 'shares of the image'),
    (lambda l, t, w, h: [l, t, l + w, t + h], r'\[left, top, right, bottom\]'),
    (lambda l, t, w, h: [l + w / 2, t + h / 2, w, h], r'\[centre x, centre y, width, height\]')])
def test_boxes_of_another_convention_are_recognised(tmp_path, boxes, said):
  write(tmp_path, each('bbox', lambda a: boxes(*a['bbox'])))
  with pytest.raises(UserError, match=f'boxes look like {said}.* as in annotation . of image .*; write'):
    split(tmp_path)


def test_one_small_box_is_no_share(tmp_path):
  write(tmp_path, lambda c: c['annotations'][0].update(bbox=[0, .5, 1, .5]))
  split(tmp_path)


def test_of_an_image_that_is_listed_twice_one_counts(tmp_path):
  write(tmp_path, lambda c: c['images'].extend([dict(c['images'][0]), dict(c['images'][2])]))
  found = split(tmp_path, on_error='skip')
  truth = found.annotations()
  assert found.image_ids.tolist() == [1, 2, 3] and len(truth['annotations']) == 5
  coco.panoptic_scene(tmp_path / 'panoptic')
  path = tmp_path / 'panoptic' / 'annotations' / 'panoptic_val.json'
  content = json.loads(path.read_text())
  content['annotations'].append(content['annotations'][0])
  content['annotations'][1]['segments_info'].append(content['annotations'][1]['segments_info'][0])
  path.write_text(json.dumps(content))
  options = dict(train='val', panoptic=True)
  with pytest.raises(UserError, match=r'is a second one of that image; .* \(1 more'):
    split(tmp_path / 'panoptic', 'val', **options)
  found = split(tmp_path / 'panoptic', 'val', on_error='skip', **options)
  assert [len(found.panoptic(i)[1]) for i in range(2)] == [3, 2]


def test_boxes_far_outside_are_refused_or_cut(tmp_path):
  write(tmp_path, lambda c: (c['annotations'][0].update(bbox=[-20, 2, 30, 10], id=9),
                             c['annotations'][1].update(bbox=[40, 2, 10, 10])))
  with pytest.raises(UserError, match=r'annotation 9 .*, which reaches far out.*data.outside=clip'):
    split(tmp_path)
  found = split(tmp_path, outside='clip')
  assert found.read(0).boxes[0].tolist() == [0, 2, 10, 12] and found.counts.tolist() == [2, 1, 1]
  truth = found.annotations()['annotations']
  assert truth[0]['bbox'] == [-20, 2, 30, 10] and len(truth) == 4  # nobody can find what lies outside
  assert not coco.checked(tmp_path, '--outside=clip')[1] and coco.checked(tmp_path)[1]
  write(tmp_path, each('bbox', lambda a: [1e12, 1, 5, 5]))
  with pytest.raises(UserError, match='reaches far out'):
    split(tmp_path, outside='clip')


def test_boxes_without_area_count_on_neither_side(tmp_path, capsys):
  write(tmp_path, lambda c: c['annotations'][0].update(bbox=[3, 3, 0, 4]))
  found = split(tmp_path)
  assert 'neither trained on nor counted' in capsys.readouterr().err
  assert found.counts.sum() == 4 == len(found.annotations()['annotations'])


def test_notes_of_each_kind_are_told_whatever_files_are_called(tmp_path, capsys):
  def change(content):
    for image in content['images']:
      image['file_name'] = 'crowd' + image['file_name']
    content['annotations'][0].update(bbox=[28, 3, 3, 4])
    content['annotations'][1].update(bbox=[3, 3, 0, 4])
    content['annotations'][2].update(iscrowd=1)
  write(tmp_path, change)
  for i in SIZES:
    os.rename(tmp_path / 'train' / f'{i}.png', tmp_path / 'train' / f'crowd{i}.png')
  split(tmp_path)
  told = capsys.readouterr().err
  assert 'clipped' in told and 'without area' in told and 'is a crowd' not in told


def test_a_test_file_needs_no_annotations(tmp_path, capsys):
  write(tmp_path)
  write(tmp_path, lambda c: c.pop('annotations'), 'test')
  data = coco.build(tmp_path, test='test')
  assert 'has no annotations: detections are written' in capsys.readouterr().err
  assert len(list(data.splits['test'])) == 3
  truth = split(tmp_path, 'test').annotations()
  assert len(truth['images']) == 3 and not truth['annotations']
  assert average_precision.summarize(average_precision.evaluate(truth, []))['ap'] == -1
  with pytest.raises(UserError, match="has no list 'annotations'"):
    coco.build(tmp_path, train='test')


@pytest.mark.parametrize('encode', [
    lambda text: b'\xef\xbb\xbf' + text.encode(), lambda text: text.encode('utf-16'),
    lambda text: text.encode('latin-1'), lambda text: text.replace('\n', '\r\n').encode()])
def test_json_of_other_systems_is_read(tmp_path, encode):
  def change(content):
    content['categories'][0]['name'] = 'café'
    content['images'][0]['file_name'] = 'café.png'
  write(tmp_path, change, encode=encode)
  os.rename(tmp_path / 'train' / '1.png', tmp_path / 'train' / 'café.png')
  assert sources.open_source(detection_data(str(tmp_path), 1, ((8, 8),))).categories.names[0] == 'café'
  assert split(tmp_path).read(0).image().size == (30, 20)


@pytest.mark.parametrize('written, there', [
    ('day1\\1.png', 'day1/1.png'), ('C:\\data\\cats\\1.png', '1.png'),
    ('/home/ann/cats/train/1.png', '1.png'),
    ('images/1.png', '1.png'), ('./1.png', '1.png'), ('1.PNG', '1.png'), ('Day1/1.png', 'day1/1.Png'),
    (unicodedata.normalize('NFD', 'café.png'), 'café.png'),
    ('café.png', os.fsdecode(b'caf\xe9.png'))])
def test_files_are_found_under_nearly_their_names(tmp_path, capsys, written, there):
  write(tmp_path, lambda c: c['images'][0].update(file_name=written))
  os.makedirs(tmp_path / 'train' / os.path.dirname(there), exist_ok=True)
  os.rename(tmp_path / 'train' / '1.png', tmp_path / 'train' / there)
  found = split(tmp_path)
  assert found.read(0).image().size == (30, 20)
  assert found.annotations()['images'][0]['file_name'] == written
  if written != './1.png':
    shown = there.encode('utf-8', 'backslashreplace').decode()
    assert f'nearly theirs: {shown} for {written}' in capsys.readouterr().err
  printed, error = coco.checked(tmp_path)
  assert not error


@pytest.mark.parametrize('written, there, said', [
    ('1.jpg', '1.png', '; there is 1.png'), ('1.png', 'deep/er/1.png', '; there is deep/er/1.png'),
    ('a/b/2.png', '1.png', '; there is 2.png'), ('other.png', '1.png', 'other.png, is not in')])
def test_a_file_that_could_be_another_is_named_and_not_read(tmp_path, written, there, said):
  write(tmp_path, lambda c: c['images'][0].update(file_name=written))
  os.makedirs(tmp_path / 'train' / os.path.dirname(there), exist_ok=True)
  os.rename(tmp_path / 'train' / '1.png', tmp_path / 'train' / there)
  with pytest.raises(UserError) as told:
    split(tmp_path)
  assert said in str(told.value)


def test_images_in_a_folder_of_another_name_are_pointed_at(tmp_path):
  write(tmp_path)
  os.rename(tmp_path / 'train', tmp_path / 'photos')
  with pytest.raises(UserError, match=r'1.png, is not in .*train; there is \.\./photos/1.png \(2 more'):
    split(tmp_path)


def test_a_mended_file_is_read_again(tmp_path):
  write(tmp_path)
  assert len(split(tmp_path)) == 3 == len(split(tmp_path, 'train'))
  path = tmp_path / 'annotations' / 'instances_train.json'
  content = json.loads(path.read_text())
  content['categories'].append(dict(id=9, name='cow'))
  del content['images'][2], content['annotations'][3]
  path.write_text(json.dumps(content))
  assert len(split(tmp_path)) == 2
  assert sources.open_source(detection_data(str(tmp_path), 1, ((8, 8),))).categories.names[2] == 'cow'


def turned(path, pixels, tag):
  exif = Image.Exif()
  exif[0x0112] = tag
  Image.fromarray(pixels).save(path, quality=95, exif=exif)


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
@pytest.mark.parametrize('tag', [1, 2, 3, 4, 6])
def test_an_exif_turn_that_keeps_the_size_is_told_and_may_be_left_out(tmp_path, capsys, tag, suffix):
  pixels = np.zeros((20, 20 if tag == 6 else 30, 3), np.uint8)
  pixels[2:8, 3:13] = 255
  name, height, width = f'1.{suffix}', *pixels.shape[:2]
  coco.write(tmp_path, 'train', {1: (height, width)}, [coco.box(1, 1, [3, 2, 10, 6])], draw=False)
  path = tmp_path / 'annotations' / 'instances_train.json'
  path.write_text(path.read_text().replace('1.png', name))
  turned(tmp_path / 'train' / name, pixels, tag)
  note = f'1 of 1 images that were looked at are turned by their EXIF tag.*{name}.*data.exif=stored'
  found = split(tmp_path)
  said, printed = capsys.readouterr().err, coco.checked(tmp_path)[0]
  assert bool(re.search(note, said)) == bool(re.search(note, printed)) == (tag != 1)
  inside = lambda example: np.asarray(example.image())[2:8, 3:13].mean()
  assert inside(found.read(0)) < 200 or tag == 1
  assert inside(split(tmp_path, exif='stored').read(0)) > 240
  assert 'EXIF' not in capsys.readouterr().err
  assert 'EXIF' not in coco.checked(tmp_path, '--exif=stored')[0]
