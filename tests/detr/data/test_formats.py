"""Pascal VOC's XML and YOLO's text give what COCO's JSON of the same boxes gives."""

import os

import numpy as np
import pytest
from PIL import Image

from detr_jax.data import sources
from detr_jax.data.config import detection_data
from detr_jax.data.sources import voc
from tests.detr.data import coco
from vit_jax.errors import UserError

SIZES = {1: (20, 30), 2: (40, 24), 3: (20, 30)}
BOXES = {1: [(1, (2, 3, 10, 12)), (2, (20, 10, 9, 9))], 2: [(2, (0, 0, 24, 40))], 3: []}
NAMES = {1: 'cat', 2: 'dog'}


def write_coco(root):
  entries = [coco.box(i, image, box, {1: 1, 2: 7}[kind]) for i, (image, kind, box) in enumerate(
      ((image, kind, box) for image, found in BOXES.items() for kind, box in found), 1)]
  for split in ('train', 'val'):
    coco.write(root, split, SIZES, entries)


def save(path, number):
  os.makedirs(os.path.dirname(path), exist_ok=True)
  pixels = np.random.default_rng(number).integers(0, 256, (*SIZES[number], 3), np.uint8)
  Image.fromarray(pixels).save(path)


def document(number, more=''):
  """Returns the XML of an image."""
  height, width = SIZES[number]
  objects = ''.join(
      f'<object><name>{NAMES[kind]}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin>'
      f'<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>'
      for kind, (x, y, w, h) in BOXES[number])
  return (f'<annotation><filename>{number}.png</filename><size><width>{width}</width>'
          f'<height>{height}</height></size>{objects}{more}</annotation>')


def write_voc(root):
  for folder in ('Annotations', 'ImageSets/Main'):
    os.makedirs(root / folder, exist_ok=True)
  for number in SIZES:
    save(str(root / 'JPEGImages' / f'{number}.png'), number)
    (root / 'Annotations' / f'{number}.xml').write_text(document(number))
  for split in ('train', 'val', 'cat_train'):
    (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text(''.join(f'{n} 1\n' for n in SIZES))


def write_flat_voc(root):
  for split in ('train', 'val'):
    for number in SIZES:
      save(str(root / split / f'{number}.png'), number)
      (root / split / f'{number}.xml').write_text(document(number))


def write_yolo(root, names='[cat, dog]'):
  (root / 'data.yaml').write_text(
      f'path: /made/on/another/machine\nnames: {names}\ntrain: images/train\nval: images/val\n')
  for split in ('train', 'val'):
    os.makedirs(root / 'labels' / split, exist_ok=True)
    for number, (height, width) in SIZES.items():
      save(str(root / 'images' / split / f'{number}.png'), number)
      rows = [f'{kind - 1} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}\n'
              for kind, (x, y, w, h) in BOXES[number]]
      if rows:
        (root / 'labels' / split / f'{number}.txt').write_text(''.join(rows))


FORMATS = dict(coco=write_coco, voc=write_voc, flat_voc=write_flat_voc, yolo=write_yolo)


def opened(root, train='train', **options):
  data = detection_data(str(root), 1, ((40, 40),), train=train, test='val', **options)
  return sources.open_source(data)


@pytest.mark.parametrize('form', FORMATS)
def test_every_format_gives_the_same_boxes(form, tmp_path):
  FORMATS[form](tmp_path)
  source = opened(tmp_path)
  assert source.categories.names == ('cat', 'dog')
  for name in ('train', 'val', 'train+val'):
    split = source.split(name)
    assert len(split) == 3 + 3 * ('+' in name)
    for row in range(3):
      example = split.read(row)
      want = np.asarray([[x, y, x + w, y + h] for _, (x, y, w, h) in BOXES[row + 1]]).reshape(-1, 4)
      np.testing.assert_allclose(example.boxes, want, atol=1e-9)
      assert example.labels.tolist() == [kind - 1 for kind, _ in BOXES[row + 1]]
      assert example.image().size == SIZES[row + 1][::-1]
  truth = source.split('val').annotations()
  assert [entry['category_id'] for entry in truth['annotations']] == [
      source.categories.ids[kind - 1] for found in BOXES.values() for kind, _ in found]


@pytest.mark.parametrize('form', FORMATS)
def test_every_format_is_trained_on_and_checked(form, tmp_path):
  FORMATS[form](tmp_path)
  data = coco.build(tmp_path, (40, 40), test='val')
  _, batch = next(iter(data.train.after(0, 1)))
  assert data.info.num_train == 3 and batch['image'].shape == (1, 40, 40, 3)
  printed, error = coco.checked(tmp_path)
  assert not error and printed.count('3 images, 3 boxes (0 crowds), at most 2 in one') == 2
  assert printed.count('2 classes: cat 1, dog 2') == 2


@pytest.mark.parametrize('form', FORMATS)
def test_a_damaged_and_a_missing_image_are_told_in_every_format(form, tmp_path):
  FORMATS[form](tmp_path)
  found = sorted(path for path in tmp_path.rglob('1.png') if 'val' not in str(path))
  found[0].write_bytes(b'no picture')
  printed, error = coco.checked(tmp_path)
  assert 'cannot read the image' in printed and 'error(s) in' in error
  if form != 'yolo':  # where the images are the list
    found[0].unlink()
    assert 'is not in' in coco.checked(tmp_path)[0]
    with pytest.raises(UserError, match='1.png, is not in'):
      opened(tmp_path)


BAD_VOC = [
    (document(1, '<object><name>cat</name></object>'), 'has the corners [None, None, None, None]'),
    (document(1, '<object><bndbox/></object>'), 'object 2 of .*1.xml has no name'),
    (document(1).replace('<xmax>12', '<xmax>500'), 'which reaches far out'),
    (document(1).replace('<width>30</width>', ''), 'has the width None; it must be a number'),
    ('<annotation><object>', 'is not XML that can be read'),
    ('<!DOCTYPE x [<!ENTITY a "b">]><annotation/>', 'declares a DOCTYPE, which is not read'),
    (b'\xff\xfe\x00', 'is not XML that can be read')]


@pytest.mark.parametrize('content, said', BAD_VOC)
def test_what_is_wrong_with_an_xml_file_is_told(content, said, tmp_path):
  write_voc(tmp_path)
  path = tmp_path / 'Annotations' / '1.xml'
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  import re
  printed, error = coco.checked(tmp_path)
  assert re.search(said.replace('[', r'\[').replace(']', r'\]'), printed) and 'error(s)' in error
  with pytest.raises(UserError):
    opened(tmp_path)
  assert len(opened(tmp_path, on_error='skip').split('val')) in (2, 3)


def test_a_missing_xml_file_and_an_unknown_split_are_told(tmp_path):
  write_voc(tmp_path)
  with pytest.raises(UserError, match='has no split \'test2007\'; it has train, val'):
    opened(tmp_path).split('test2007')
  (tmp_path / 'Annotations' / '2.xml').unlink()
  with pytest.raises(UserError, match='the annotations .*2.xml are missing'):
    opened(tmp_path, train='val')


def test_difficult_objects_are_neither_trained_on_nor_asked_for(tmp_path):
  write_voc(tmp_path)
  path = tmp_path / 'Annotations' / '1.xml'
  path.write_text(document(1).replace('<difficult>0', '<difficult>1', 1))
  split = opened(tmp_path).split('train')
  assert split.read(0).is_crowd.tolist() == [True, False] and split.counts.tolist() == [1, 1, 0]


BAD_YOLO = [('0 .5 .5 .1', 'line 1 of .*1.txt has 4 numbers; it must have 5'),
            ('7 .5 .5 .1 .1', 'has the class 7; data.yaml names 2, from 0'),
            ('0.5 .5 .5 .1 .1', 'has the class 0.5'), ('0 .5 x .1 .1', 'it must be numbers'),
            ('0 100 50 30 30', 'places must be shares of the image, 0 to 1'),
            ('0 .5 nan .1 .1', 'places must be shares of the image'),
            ('0 .9 .5 .6 .1', 'which reaches far out'), ('0 .1 .1 .5 .5 .9', 'has 6 numbers')]


@pytest.mark.parametrize('line, said', BAD_YOLO)
def test_what_is_wrong_with_a_label_file_is_told(line, said, tmp_path):
  import re
  write_yolo(tmp_path)
  (tmp_path / 'labels' / 'train' / '1.txt').write_text(f'{line}\n0 .5 .5 .2 .2\n')
  printed, error = coco.checked(tmp_path)
  assert re.search(said, printed) and error.startswith('1 error(s)'), printed
  with pytest.raises(UserError, match=said):
    opened(tmp_path)
  assert opened(tmp_path, on_error='skip').split('train').counts.tolist() == [1, 1, 0]


@pytest.mark.parametrize('text, said', [
    ('names: [', 'is not YAML that can be read'), ('- a', 'holds no keys'),
    ('train: images/train', 'must have names'),
    ('names: {1: cat}\ntrain: images/train', 'must have names'),
    ('names: [cat]\ntrain: nowhere', 'nowhere of a split cannot be read'),
    ('!!python/object/apply:os.system ["echo no"]', 'is not YAML that can be read')])
def test_what_is_wrong_with_the_yaml_file_is_told(text, said, tmp_path):
  write_yolo(tmp_path)
  (tmp_path / 'data.yaml').write_text(text)
  with pytest.raises(UserError, match=said):
    opened(tmp_path)


def test_outlines_become_masks_and_lists_name_images(tmp_path):
  write_yolo(tmp_path, names='{0: cat, 1: dog}')
  for split in ('train', 'val'):
    for number in SIZES:
      (tmp_path / 'labels' / split / f'{number}.txt').write_text('1 .1 .2 .5 .2 .5 .8 .1 .8\n')
  (tmp_path / 'data.yaml').write_text('names: {0: cat, 1: dog}\ntrain: train.txt\nval: images/val\n')
  (tmp_path / 'train.txt').write_text('images/train/1.png\nimages/train/3.png\n')
  split = opened(tmp_path, masks=True).split('train')
  assert len(split) == 2
  example = split.read(0)
  np.testing.assert_allclose(example.boxes, [[3, 4, 15, 16]])
  mask, = example.masks()
  assert mask.shape == (20, 30) and mask[5:15, 4:14].all() and mask.sum() <= 13 * 13


def test_real_cells_as_voc_and_yolo_are_those_of_coco(shared, tmp_path):
  """BCCD's JSON, written as VOC and as YOLO, gives the same examples."""
  import json
  root = shared('data/bccd')
  path = next(os.path.join(place, name) for place, _, names in os.walk(root)
              for name in sorted(names) if name.endswith('.json'))
  content = json.load(open(path))
  folder = os.path.dirname(path)
  images = [image for image in content['images'] if image['file_name']][:3]
  if not all(os.path.exists(os.path.join(folder, image['file_name'])) for image in images):
    folder = next(place for place, _, names in os.walk(root) if images[0]['file_name'] in names)
  names = {c['id']: c['name'] for c in content['categories']}
  order, voc = sorted(set(names.values())), tmp_path / 'voc' / 'train'
  yolo = tmp_path / 'yolo'
  for place in (voc, yolo / 'images' / 'train', yolo / 'labels' / 'train'):
    os.makedirs(place)
  want = []
  for image in images:
    stem = os.path.splitext(os.path.basename(image['file_name']))[0]
    objects = [a for a in content['annotations'] if a['image_id'] == image['id']]
    pixels = Image.open(os.path.join(folder, image['file_name']))
    for place in (voc, yolo / 'images' / 'train'):
      pixels.save(place / f'{stem}.png')
    rows, parts, boxes = [], [], []
    for one in objects:
      (x, y, w, h), name = one['bbox'], names[one['category_id']]
      boxes.append([x, y, x + w, y + h])
      rows.append(f'{order.index(name)} {(x + w / 2) / image["width"]} {(y + h / 2) / image["height"]} '
                  f'{w / image["width"]} {h / image["height"]}')
      parts.append(f'<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>'
                   f'<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>')
    (yolo / 'labels' / 'train' / f'{stem}.txt').write_text('\n'.join(rows))
    (voc / f'{stem}.xml').write_text(
        f'<annotation><filename>{stem}.png</filename><size><width>{image["width"]}</width>'
        f'<height>{image["height"]}</height></size>{"".join(parts)}</annotation>')
    want.append((stem, np.asarray(boxes)))
  (yolo / 'data.yaml').write_text(f'names: {json.dumps(order)}\ntrain: images/train\n')
  for place in (tmp_path / 'voc', yolo):
    split = sources.open_source(detection_data(str(place), 1, ((40, 40),))).split('train')
    for row, (_, boxes) in enumerate(sorted(want, key=lambda pair: pair[0])):
      found = split.read(row)
      np.testing.assert_allclose(np.sort(found.boxes, 0), np.sort(np.clip(boxes, 0, None), 0), atol=1e-3)
      assert len(found.labels) == len(boxes)


def test_the_classes_of_voc_are_in_its_order_and_others_in_that_of_the_alphabet(tmp_path):
  write_voc(tmp_path)
  path = tmp_path / 'Annotations' / '3.xml'
  every = ''.join(f'<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>'
                  '<ymax>9</ymax></bndbox></object>' for name in reversed(voc.CLASSES))
  path.write_text(document(3, every))
  assert opened(tmp_path).categories.names == voc.CLASSES
  path.write_text(document(3, every).replace('>tvmonitor<', '>apple<'))
  sources._open.cache_clear()
  names = opened(tmp_path).categories.names
  assert names == tuple(sorted({*voc.CLASSES, 'apple'} - {'tvmonitor'}))
