"""Detections that are written as COCO, VOC or YOLO are read back by our own readers."""

import json
import os
import shutil

import numpy as np
import pytest

from detr_jax.data.config import detection_data
from detr_jax.data.sources import open_source
from vit_jax.errors import UserError


@pytest.mark.parametrize('form', ['coco', 'voc', 'yolo'])
def test_what_is_written_is_read_back(form, untrained, folder, tmp_path, run, capsys):
  root = tmp_path / 'data'
  target = root / 'annotations' / 'instances_train.json' if form == 'coco' else root
  run(untrained, folder, '--threshold=0', '--json', f'--write={form}:{target}')
  records = json.loads(capsys.readouterr().out)
  images = dict(coco='train', voc='JPEGImages', yolo='images')[form]
  shutil.copytree(folder, root / images)
  if form == 'voc':
    os.makedirs(root / 'ImageSets' / 'Main')
    (root / 'ImageSets' / 'Main' / 'train.txt').write_text('0\n1\n2\n')
  if form == 'yolo':
    assert sorted(os.listdir(root / 'labels')) == ['0.txt', '1.txt', '2.txt']
    with open(root / 'data.yaml', 'a') as file:
      file.write('train: images\n')
  source = open_source(detection_data(str(root), 1, ((64, 64),), test='train', on_error='skip'))
  split = source.split('train')
  assert len(split) == 3
  for row, record in enumerate(records):
    found = split.read(row)
    want = [one['box'] for one in record['detections']]
    assert len(found.boxes) == len(want) == 6
    np.testing.assert_allclose(found.boxes, want, atol=.02)
    assert [source.categories.names[k] for k in found.labels] == [
        one['class'] for one in record['detections']]


def test_mistakes_are_told_before_anything_is_detected(untrained, folder, tmp_path, run):
  os.makedirs(tmp_path / 'other')
  shutil.copy(f'{folder}/0.png', tmp_path / 'other' / '0.jpg')
  (tmp_path / 'file').write_text('')
  for argv, said in (([folder, '--write=voc'], '--write=voc must be coco:FILE.json'),
                     ([folder, '--write=kitti:x'], '--write=kitti:x must be'),
                     ([folder, f'--write=yolo:{tmp_path}/file/x'], 'cannot write .*file/x'),
                     ([folder, f'{tmp_path}/other', f'--write=voc:{tmp_path}/w'], 'would both have')):
    with pytest.raises(UserError, match=said):
      run(untrained, *argv)
