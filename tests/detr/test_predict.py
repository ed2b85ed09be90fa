"""The command line that detects objects in files."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from detr_jax import predict
from vit_jax import errors


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('images')
  for i, size in enumerate(((40, 60), (64, 64), (90, 50))):
    pixels = np.random.default_rng(i).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path / f'{i}.png')
  return str(path)


def run(monkeypatch, *argv):
  monkeypatch.setattr(sys, 'argv', ['predict', *argv])
  predict.main()


def test_detections_are_json_a_table_and_a_picture(untrained, folder, tmp_path, capsys, monkeypatch):
  picture = str(tmp_path / 'boxes.png')
  run(monkeypatch, untrained, folder, '--threshold=0', '--json', f'--out={picture}')
  found = json.loads(capsys.readouterr().out)
  assert [(r['width'], r['height']) for r in found] == [(60, 40), (64, 64), (50, 90)]
  for record in found:
    assert len(record['detections']) == 6
    for one in record['detections']:
      assert one['class'] == str(one['category_id']) and 0 < one['score'] < 1
      left, top, right, bottom = one['box']
      assert 0 <= left <= right <= record['width'] and 0 <= top <= bottom <= record['height']
  assert Image.open(picture).width > 3 * 400  # three images in a row
  run(monkeypatch, untrained, f'{folder}/0.png', '--threshold=0', '--nms=0', f'--out={picture}')
  assert Image.open(picture).size == (480, 320)  # so that names can be read
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith(f'{folder}/0.png: {len(lines) - 1} object')
  run(monkeypatch, untrained, f'{folder}/0.png', '--threshold=1')
  assert capsys.readouterr().out == f'{folder}/0.png: no objects\n'


def test_mistakes_are_named(untrained, folder, monkeypatch):
  for argv, said in ((['/no/run', folder], '/no/run'), ([untrained, '/no/image'], '/no/image'),
                     ([untrained, folder, '--threshold=50'], '--threshold=50'),
                     ([untrained, folder, '--nms=-1'], '--nms=-1'),
                     ([untrained, f'{folder}/0.png', '--out=/no/folder/x.png'], '/no/folder/x.png')):
    with pytest.raises(errors.UserError, match=said):
      run(monkeypatch, *argv)
