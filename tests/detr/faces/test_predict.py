"""The command line that detects objects in files."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import vit_jax
from detr_jax.data.sources import segmentation
from detr_jax.faces import segments
from detr_jax.ops.masks import resized
from vit_jax import errors


def test_detections_are_json_a_table_and_a_picture(untrained, folder, tmp_path, capsys, run):
  picture = str(tmp_path / 'boxes.png')
  run(untrained, folder, '--threshold=0', '--json', f'--out={picture}')
  found = json.loads(capsys.readouterr().out)
  assert [(r['width'], r['height']) for r in found] == [(60, 40), (64, 64), (50, 90)]
  for record in found:
    assert len(record['detections']) == 6
    for one in record['detections']:
      assert one['class'] == str(one['category_id']) and 0 < one['score'] < 1
      left, top, right, bottom = one['box']
      assert 0 <= left <= right <= record['width'] and 0 <= top <= bottom <= record['height']
  assert Image.open(picture).width > 3 * 400  # three images in a row
  run(untrained, f'{folder}/0.png', '--threshold=0', '--nms=0', f'--out={picture}')
  assert Image.open(picture).size == (480, 320)  # so that names can be read
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith(f'{folder}/0.png: {len(lines) - 1} object')
  run(untrained, f'{folder}/0.png', '--threshold=1')
  assert capsys.readouterr().out == (
      f'{folder}/0.png: no objects; a lower --threshold shows weaker ones\n')


def test_all_that_can_be_read_is_done_and_the_rest_is_named(untrained, folder, tmp_path, capsys, run):
  picture = tmp_path / 'boxes.png'
  shutil.copytree(folder, tmp_path / 'in' / 'nested')
  for name in ('bad.png', '._0.png', 'nested/empty.jpg'):
    (tmp_path / 'in' / name).write_bytes(b'x' * (name == 'bad.png'))
  for path, count in ((tmp_path / 'in', 3), (tmp_path / 'in' / 'bad.png', 0)):
    with pytest.raises(errors.UserError) as caught:
      run(untrained, str(path), '--json', f'--out={picture}')
    assert len(json.loads(capsys.readouterr().out)) == count and picture.exists() == bool(count)
    assert 'bad.png' in str(caught.value) and ('empty.jpg' in str(caught.value)) == bool(count)
    assert '._0' not in str(caught.value) and 'on_error' not in str(caught.value)
    picture.unlink(missing_ok=True)


def test_mistakes_are_named(untrained, folder, run):
  for argv, said in ((['/no/run', folder], '/no/run'), ([untrained, '/no/image'], '/no/image'),
                     ([untrained, folder, '--threshold=50'], '--threshold=50'),
                     ([untrained, folder, '--nms=-1'], '--nms=-1'),
                     ([untrained, f'{folder}/0.png', '--out=/no/folder/x.png'], '/no/folder/x.png')):
    with pytest.raises(errors.UserError, match=said):
      run(*argv)


def test_segments_are_json_pictures_and_pngs(panoptic, folder, tmp_path, capsys, run):
  pngs, picture = tmp_path / 'pngs', tmp_path / 'segments.png'
  flags = '--threshold=0', f'--segments={pngs}', f'--out={picture}'
  run(panoptic, folder, '--json', *flags)
  found = json.loads(capsys.readouterr().out)
  assert sorted(path.name for path in pngs.iterdir()) == ['0.png', '1.png', '2.png']
  for n, record in enumerate(found):
    size = record['height'], record['width']
    ids = segmentation.panoptic_ids((pngs / f'{n}.png').read_bytes(), size, 'png')
    areas = dict(zip(*(x.tolist() for x in np.unique(ids, return_counts=True))))
    assert record['segments'] and {s['id']: s['area'] for s in record['segments']} == areas
    for one in record['segments']:
      assert set(one) == {'id', 'class', 'category_id', 'isthing', 'area', 'score'}
      assert one['class'] == str(one['category_id']) and one['isthing'] is (one['category_id'] % 2 == 0)
      assert 0 < one['score'] < 1
    assert len(record['detections']) == 6
  assert Image.open(picture).width > 3 * 400
  run(panoptic, f'{folder}/1.png', *flags)
  lines = capsys.readouterr().out.splitlines()
  count = len(found[1]['segments'])
  assert lines[0] == f'{folder}/1.png: 6 objects, {count} segment' + 's' * (count != 1)
  assert sum(line.startswith('  segment ') for line in lines) == count
  run(panoptic, f'{folder}/1.png')  # it has learnt nothing: it is sure of nothing
  assert capsys.readouterr().out == (
        f'{folder}/1.png: no objects, no segments; a lower --threshold shows weaker ones\n')


def test_segment_ids_of_any_size_survive_a_png(tmp_path):
  ids = np.array([[0, 1, 255], [256, 65_537, 2 ** 24 - 1]], np.int32)
  segments.write_segments(ids, str(tmp_path / 'x.png'))
  assert np.asarray(Image.open(tmp_path / 'x.png'))[1, 1].tolist() == [1, 0, 1]
  read = segmentation.panoptic_ids((tmp_path / 'x.png').read_bytes(), (2, 3), 'x.png')
  np.testing.assert_array_equal(read, ids)


def test_no_png_of_segments_is_lost(panoptic, untrained, folder, tmp_path, run):
  pngs = tmp_path / 'pngs'
  Image.new('RGB', (8, 8)).save(tmp_path / '1.jpg')
  run_into = lambda *argv: run(*argv[:-1], f'--segments={argv[-1]}')
  for argv, said in (
      ((panoptic, folder, str(tmp_path / '1.jpg'), pngs), '1.png and .*1.jpg would both .*pngs/1.png'),
      ((panoptic, f'{folder}/1.png', folder), 'overwrite the image .*1.png; name another folder'),
      ((panoptic, folder, f'{folder}/1.png/x'), 'cannot make the folder --segments='),
      ((untrained, folder, pngs), '--segments: .* gives no segments; take a panoptic model')):
    with pytest.raises(errors.UserError, match=said):
      run_into(*argv)
  assert not pngs.exists()


def test_masks_of_objects_are_drawn(untrained, folder, tmp_path, capsys, run):
  run(untrained, f'{folder}/1.png', '--threshold=0', '--json', f'--out={tmp_path}/x.png')
  record, = json.loads(capsys.readouterr().out)
  assert 'segments' not in record
  detector = vit_jax.load(untrained)
  found = detector.detect(detector.prepare(f'{folder}/1.png'), masks=True)
  assert found.masks.shape == (6, 64, 64) and found.masks.dtype == bool and found.picture is None
  drawn = np.asarray(Image.open(tmp_path / 'x.png')).astype(int)
  assert drawn.shape == (480, 480, 3)
  colourless = np.ptp(drawn, axis=-1) == 0  # the image is grey where no mask is, but for boxes and names
  inside = resized(found.masks.any(0), (480, 480))
  assert colourless[~inside].mean() > .5 > colourless[inside].mean()
