"""Command lines: what a user can do wrong ends in one sentence, exit code 2, and no half-made file."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from vit_jax import errors, explore, main, predict
from vit_jax.data import __main__ as data_command
from vit_jax.faces import classification

from tests.conftest import ROOT

TINY = os.path.join(ROOT, 'tests', 'configs', 'tiny.py')


def save_images(folder, count, seed=0, size=(20, 17), suffix='.png', mode='RGB'):
  os.makedirs(folder)
  rng = np.random.default_rng(seed)
  for i in range(count):
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(os.path.join(folder, f'{i}{suffix}'))


@pytest.fixture
def photos(tmp_path):
  """A folder of class folders with images of several kinds, and its path."""
  root = str(tmp_path / 'photos')
  for split, count in (('train', 20), ('test', 4)):
    save_images(f'{root}/{split}/apple', count, 0, (30, 20), '.JPG')
    save_images(f'{root}/{split}/pear', count, 1, (16, 40), '.png', 'L')
    save_images(f'{root}/{split}/plum', count, 2, (24, 24), '.png', 'RGBA')
  return root


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The workdir of a tiny trained run."""
  workdir = str(tmp_path_factory.mktemp('cli') / 'run')
  main.main([f'--config={TINY}:steps=3', f'--workdir={workdir}', '--config.mesh.data=1'])
  return workdir


def refused(capsys, command, *argv) -> str:
  """Runs a command in this process and returns its sentence; it must exit with code 2."""
  with pytest.raises(SystemExit) as stop:
    errors.exit_cleanly('vit_jax', lambda: command(list(argv)))
  said = capsys.readouterr().err
  assert stop.value.code == 2 and said.count('\n') == 1 and 'Traceback' not in said, said
  return said


def train(tmp_path, *argv, arguments='steps=3'):
  workdir = str(tmp_path / 'run')
  return [f'--config={TINY}:{arguments}', f'--workdir={workdir}', '--config.mesh.data=1', *argv]


@pytest.mark.parametrize('argv, says', [
    (['--config=configs/quickstrat.py'], ['configs/quickstrat.py', 'quickstart.py']),
    ([f'--config={TINY}:modle=vit_b16'], ['modle', "'model'"]),
    ([f'--config={TINY}:steps=many'], ['steps', 'many', 'whole number']),
    ([f'--config={TINY}:model=vit_b61'], ['vit_b61', "'vit_b16'"]),
    ([f'--config={TINY}:dataset=/no/where'], ['/no/where', 'folder']),
    ([f'--config={TINY}:dataset=digit'], ["'digit'", "'digits'"]),
    ([f'--config={TINY}', '--config.schedule.paek=1'], ['paek', "'peak'"]),
    ([f'--config={TINY}', '--config.evaluate.evry=1'], ['evaluate.evry', "'evaluate.every'"]),
    ([f'--config={TINY}', '--config.schedule.peak=high'], ['schedule.peak', 'float', 'high']),
    ([f'--config={TINY}', '--config.schedule.name=cosin'], ['cosin', "'cosine'"]),
    ([f'--config={TINY}', '--config.optimizer.name=adamm'], ['adamm', 'adam']),
    ([f'--config={TINY}', '--config.model.gelu=relu'], ['relu', 'tanh']),
    ([f'--config={TINY}', '--config.model.pool=max'], ['max', 'mean']),
    ([f'--config={TINY}', '--config.task.loss=hinge'], ['hinge', 'softmax']),
    ([f'--config={TINY}', '--config.data.augment[0].name=afine'], ['afine', "'affine'"]),
    ([f'--config={TINY}', '--config.optimizer.freeze=nothing'], ['nothing', 'matches no']),
    ([f'--config={TINY}:resolution=18'], ['18x18', '16x16', '20x20']),
    ([f'--config={TINY}', '--config.data.batch_size=33', '--config.mesh.data=8'],
     ['33', '8', '32', '40']),
    ([f'--config={TINY}', '--config.accumulate=5'], ['accumulate=5', '32']),
    ([f'--config={TINY}', '--config.mesh.data=9'], ['data=9', '8 devices']),
    ([f'--config={TINY}', '--config.init_from=/no/weights'], ['/no/weights']),
    ([f'--config={TINY}', '--config.init_from=README.md'], ['README.md', '.npz']),
    ([f'--config={TINY}', '--confg.seed=1'], ['--confg.seed', '--config']),
    ([], ['--config is needed']),
])
def test_a_mistake_is_named_before_anything_is_written(argv, says, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(ROOT)
  workdir = tmp_path / 'run'
  mesh = [] if any('mesh' in a for a in argv) or not argv else ['--config.mesh.data=1']
  said = refused(capsys, main.main, *argv, *mesh, f'--workdir={workdir}')
  assert all(part in said for part in says), said
  assert not workdir.exists()


def test_the_last_stage_of_a_config_is_checked_before_the_first_runs(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(ROOT)
  said = refused(capsys, main.main, '--config=configs/quickstart.py:smoke',
                 f'--workdir={tmp_path / "run"}', '--config.stages[1].data.resolution=(25, 24)')
  assert '25x24' in said and not (tmp_path / 'run').exists()


def test_a_folder_of_photographs_of_any_kind_trains(photos, tmp_path):
  main.main(train(tmp_path, f'--config.data.source={photos}'))
  info = json.load(open(tmp_path / 'run' / 'info.json'))
  assert info['classes'] == ['apple', 'pear', 'plum'] and info['channels'] == 3
  assert json.load(open(tmp_path / 'run' / 'results.json'))['test_examples'] == 12


@pytest.mark.parametrize('spoil, says', [
    (lambda root: os.makedirs(f'{root}/test/quince'), ['quince', 'training lacks']),
    (lambda root: os.rename(f'{root}/test', f'{root}/val'), ["'test'", 'val']),
    (lambda root: [os.rename(f'{root}/train/{c}', f'{root}/{c}')
                   for c in ('apple', 'pear', 'plum')], ['no class folders']),
])
def test_a_folder_that_cannot_be_used_says_why(spoil, says, photos, tmp_path, capsys):
  spoil(photos)
  said = refused(capsys, main.main, *train(tmp_path, f'--config.data.source={photos}'))
  assert all(part in said for part in says), said
  assert not (tmp_path / 'run').exists()


def truncate(path):
  with open(path, 'r+b') as file:
    file.truncate(os.path.getsize(path) // 2)


def test_a_truncated_image_is_named_or_skipped_and_counted(photos, tmp_path, capsys):
  bad = f'{photos}/train/apple/7.JPG'
  truncate(bad)
  truncate(f'{photos}/test/pear/1.png')
  flags = train(tmp_path, f'--config.data.source={photos}')
  said = refused(capsys, main.main, *flags)
  assert photos in said and 'on_error=skip' in said
  main.main([*flags, '--config.data.on_error=skip'])
  said = capsys.readouterr().err
  assert bad in said and 'so far' in said
  assert json.load(open(tmp_path / 'run' / 'results.json'))['test_examples'] == 11


def test_a_workdir_of_another_config_is_refused_and_the_same_one_continues(trained, capsys):
  said = refused(capsys, main.main, f'--config={TINY}:steps=3', f'--workdir={trained}',
                 '--config.mesh.data=1', '--config.schedule.peak=0.5')
  assert 'schedule.peak' in said and trained in said
  before = open(os.path.join(trained, 'results.json')).read()
  main.main([f'--config={TINY}:steps=3', f'--workdir={trained}', '--config.mesh.data=2'])
  after = json.load(open(os.path.join(trained, 'results.json')))
  assert after['test_accuracy'] == json.loads(before)['test_accuracy']


def test_a_workdir_that_cannot_be_written_is_named(tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  said = refused(capsys, main.main, f'--config={TINY}:steps=3', '--config.mesh.data=1',
                 f'--workdir={tmp_path}/file/run')
  assert f'{tmp_path}/file/run' in said and 'another' in said


def test_a_checkpoint_is_evaluated_alone(trained, capsys):
  want = json.load(open(os.path.join(trained, 'results.json')))
  capsys.readouterr()
  main.main([f'--workdir={trained}', '--evaluate', '--config.mesh.data=2', '--config.mesh.fsdp=2'])
  said = capsys.readouterr().out
  assert f'{"test/examples":32} 355' in said
  accuracy = float(said.split('test/accuracy')[1].split()[0])
  assert accuracy == pytest.approx(want['test_accuracy'], abs=1e-6)


def test_evaluating_on_data_of_other_classes_is_refused(trained, photos, capsys):
  said = refused(capsys, main.main, f'--workdir={trained}', '--evaluate', '--config.mesh.data=1',
                 f'--config.data.source={photos}')
  assert '10 classes' in said and 'data.source' in said and 'init_from' in said


def test_fine_tuning_on_other_classes_starts_a_new_head(trained, photos, tmp_path, capsys):
  main.main(train(tmp_path, f'--config.data.source={photos}', f'--config.init_from={trained}'))
  said = capsys.readouterr().out
  assert 'reinitialised: head/kernel (32, 10) -> (32, 3)' in said
  assert 'resampled: embedding/kernel 1 -> 3 channels' in said


def run_predict(monkeypatch, *argv):
  monkeypatch.setattr(sys, 'argv', ['predict', *argv])
  predict.main()


def test_predictions_are_a_table_json_and_a_picture(trained, photos, tmp_path, capsys, monkeypatch):
  folder = f'{photos}/test'
  capsys.readouterr()
  run_predict(monkeypatch, trained, folder, '--json', '--top=3', f'--out={tmp_path}/p.png')
  found = json.loads(capsys.readouterr().out)
  assert len(found) == 12 and all(len(r['predictions']) == 3 for r in found)
  for record in found:
    shares = [p['probability'] for p in record['predictions']]
    assert shares == sorted(shares, reverse=True) and 0. < sum(shares) <= 1.
  assert Image.open(tmp_path / 'p.png').size[0] > 100
  run_predict(monkeypatch, trained, f'{folder}/apple/0.JPG')
  line = capsys.readouterr().out
  assert line.startswith(f'{folder}/apple/0.JPG') and line.count('%') == 5


def test_predict_names_what_is_no_checkpoint_or_image(trained, tmp_path, capsys, monkeypatch):
  call = lambda argv: run_predict(monkeypatch, *argv)
  assert 'not a checkpoint' in refused(capsys, call, str(tmp_path), 'x.png')
  assert 'x.png' in refused(capsys, call, trained, 'x.png')
  assert 'no images' in refused(capsys, call, trained, str(tmp_path))
  (tmp_path / 'bad.png').write_bytes(b'\x89PNG nothing')
  assert 'bad.png' in refused(capsys, call, trained, str(tmp_path))


def test_predict_does_all_that_can_be_read_and_names_the_rest(trained, photos, tmp_path, capsys,
                                                              monkeypatch):
  folder, picture = tmp_path / 'in', tmp_path / 'p.png'
  shutil.copytree(f'{photos}/test/apple', folder / 'nested' / 'apple')
  good = len(os.listdir(folder / 'nested' / 'apple'))
  for name, content in (('bad.png', b'x'), ('empty.jpg', b''), ('._0.png', b'x'),
                        ('nested/cut.png', b'\x89PNG')):
    (folder / name).write_bytes(content)
  call = lambda argv: run_predict(monkeypatch, *argv)
  for argv, count in (((str(folder), f'{photos}/test/apple'), 2 * good),
                      ((str(folder / 'bad.png'),), 0)):
    monkeypatch.setattr(sys, 'argv', ['predict', trained, *argv, '--json', f'--out={picture}'])
    with pytest.raises(errors.UserError) as caught:
      predict.main()
    assert len(json.loads(capsys.readouterr().out)) == count
    assert 'bad.png' in str(caught.value) and 'on_error' not in str(caught.value)
    assert count == 0 or 'empty.jpg' in str(caught.value) and 'cut.png' in str(caught.value)
    assert '._0' not in str(caught.value) and 'object at' not in str(caught.value)
    assert picture.exists() == bool(count)
    picture.unlink(missing_ok=True)
  said = refused(capsys, call, trained, str(folder), '--out=/nowhere/p.png')
  assert 'bad.png' in said and '/nowhere/p.png' in said


def test_predictions_come_batch_by_batch(trained, photos, capsys, monkeypatch):
  """What was read is printed before the next batch is."""
  monkeypatch.setattr(classification, 'BATCH', 2)
  prepare, printed = classification.Classifier.prepare, []

  def watched(self, path):
    printed.append(capsys.readouterr().out.count('%'))
    return prepare(self, path)

  monkeypatch.setattr(classification.Classifier, 'prepare', watched)
  run_predict(monkeypatch, trained, f'{photos}/test/apple', '--top=1')
  assert max(printed[2:4]) == 2


def test_the_picture_page_is_one_file_with_every_picture(trained, photos, tmp_path, monkeypatch):
  out = str(tmp_path / 'page.html')
  monkeypatch.setattr(sys, 'argv', ['explore', trained, f'{photos}/test', f'--out={out}'])
  explore.main()
  page = open(out).read()
  for title in ('Curves', 'Filters', 'Position embeddings', 'Attention distance', 'rollout',
                'Confusions', 'Worst mistakes'):
    assert title in page, title
  assert 'src="http' not in page and page.count('data:image/') >= 7


@pytest.mark.parametrize('module', ['main', 'predict', 'explore', 'data', 'data.convert', 'fewshot',
                                    'convert', 'pretrained', 'tables'])
def test_help_and_unknown_checkpoints_in_a_fresh_process(module):
  helped = subprocess.run([sys.executable, '-m', f'vit_jax.{module}', '--help'], cwd=ROOT,
                          capture_output=True, text=True)
  assert helped.returncode == 0 and 'usage:' in helped.stdout


def test_a_command_without_a_run_exits_with_2():
  found = subprocess.run([sys.executable, '-m', 'vit_jax.explore', '/no/run'], cwd=ROOT,
                         capture_output=True, text=True)
  assert found.returncode == 2 and found.stderr.count('\n') == 1 and '/no/run' in found.stderr


def test_a_picture_page_of_many_images_shows_one_batch_of_them(trained, tmp_path):
  save_images(str(tmp_path / 'many'), 40)
  page = explore.explore(trained, [str(tmp_path / 'many')], count=40, out=str(tmp_path / 'p.html'))
  assert 'Attention rollout' in open(page).read()


def test_data_that_changed_since_a_run_began_is_told(photos, tmp_path, capsys):
  def go():
    main.main([f'--config={TINY}:dataset={photos},steps=3,channels=3', f'--workdir={tmp_path}/run',
               '--config.data.batch_size=8'])

  go()
  Image.new('RGB', (9, 9)).save(os.path.join(photos, 'train', 'apple', 'new.png'))
  with pytest.raises(errors.UserError, match='was trained on .* examples of .*; to go on would repeat'):
    go()


def test_the_data_command_shows_what_is_trained_on(photos, tmp_path, capsys, monkeypatch):
  out = str(tmp_path / 'sheet.png')
  data_command.main([f'{TINY}:dataset={photos}', '--show', f'--out={out}', '--count=9',
                     '--config.data.batch_size=8'])
  said = capsys.readouterr().out
  assert 'training' in said and 'images/s' in said and f'wrote {out}' in said
  width, height = Image.open(out).size
  assert width > 800 and height > 400  # nine and the test images: three rows
  for argv, match in ((['--stage=1'], '--stage=1: the config has 1 stage'), (['--count=0'], '--count=0'),
                      (['--config.data.sauce=x'], "unknown config key 'data.sauce'")):
    with pytest.raises(errors.UserError, match=match):
      data_command.main([TINY, *argv])
