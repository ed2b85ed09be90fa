"""The page of a detector."""

import json
import os
import shutil
import sys

from vit_jax import explore


def titles(page):
  with open(page) as file:
    text = file.read()
  assert text.count('<img') == text.count('<h2>')  # a picture for each
  return [part.split('</h2>')[0] for part in text.split('<h2>')[1:]]


def test_the_page_shows_what_was_found_and_where_the_model_looks(untrained, capsys):
  with open(os.path.join(untrained, 'metrics.jsonl'), 'w') as file:
    file.write(json.dumps({'step': 1, 'train/loss': 3., 'test/ap': .1}) + '\n')
  page = explore.explore(untrained, count=2)
  assert page == os.path.join(untrained, 'explore.html')
  assert titles(page) == ['Curves', 'Detections', 'Encoder self-attention', 'Decoder attention',
                          'Panoptic pictures', 'What each query looks for']


def test_own_images_do_where_the_data_is_gone(untrained, root, tmp_path, capsys, monkeypatch):
  copy, out = str(tmp_path / 'run'), str(tmp_path / 'page.html')
  shutil.copytree(untrained, copy)
  path = os.path.join(copy, 'config.json')
  with open(path) as file:
    config = json.load(file)
  config['data']['source'] = '/no/data'
  with open(path, 'w') as file:
    json.dump(config, file)
  from PIL import Image
  Image.new('RGB', (70, 50), 'gray').save(tmp_path / 'own.png')
  monkeypatch.setattr(sys, 'argv', ['explore', copy, str(tmp_path / 'own.png'), f'--out={out}'])
  explore.main()
  assert titles(out)[-3:] == ['Encoder self-attention', 'Decoder attention', 'Panoptic pictures']
  said = capsys.readouterr().out
  assert 'without the test split' in said and said.endswith(f'{out}\n')
