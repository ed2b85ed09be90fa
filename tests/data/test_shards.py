"""Record shards as a source: batches on any mesh, parts, mixtures, several labels, and bad input."""

import gzip
import json
import os
import resource

import jax
import numpy as np
import pytest

from tests.data.shards import encoded, numbers, write
from vit_jax import config, sharding
from vit_jax.data import convert, pipeline, records
from vit_jax.data.sources import open_source
from vit_jax.errors import UserError


def build(source, mesh=(1, 1, 1), seed=0, batch_size=8, **options):
  c = config.image_data(source, (8, 8), batch_size)
  c.test = 'train'
  for key, value in options.items():
    c[key] = value
  devices = jax.devices()[:int(np.prod(mesh))]
  return pipeline.build(c, seed, sharding.make_mesh(*mesh, devices=devices))


def split(source, name='train', **options):
  c = config.image_data(source, (8, 8), 4)
  for key, value in options.items():
    c[key] = value
  return open_source(c).split(name)


def seen(data, first, last):
  return np.concatenate([numbers(batch['image']) for _, batch in data.train.after(first, last)])


@pytest.fixture(params=records.FORMATS)
def shards(request, tmp_path):
  return write(tmp_path / 'data', [7, 3, 9, 5], file_format=request.param)


def test_each_epoch_holds_every_example_once_with_its_label(shards):
  data = build(shards, batch_size=4)
  assert data.info.num_train == 24 and data.info.classes == ('a', 'b', 'c') and data.train.lanes == 4
  for epoch in range(3):
    batches = [batch for _, batch in data.train.after(epoch * 6, epoch * 6 + 6)]
    drawn = np.concatenate([numbers(batch['image']) for batch in batches])
    np.testing.assert_array_equal(np.sort(drawn), np.arange(24))
    np.testing.assert_array_equal(np.concatenate([batch['label'] for batch in batches]), drawn % 3)


@pytest.mark.parametrize('mesh', [(8, 1, 1), (2, 2, 2), (4, 1, 2)])
def test_any_mesh_sees_the_same_batches(shards, mesh):
  np.testing.assert_array_equal(seen(build(shards), 0, 7), seen(build(shards, mesh), 0, 7))


def test_a_restart_goes_on_where_it_was(shards):
  whole = seen(build(shards), 0, 20)
  np.testing.assert_array_equal(seen(build(shards), 13, 20), whole[13 * 8:])


def test_evaluation_reads_every_example_once_in_order(shards):
  batches = list(build(shards, (4, 1, 1), batch_size=16).splits['test'])
  drawn = np.concatenate([numbers(b['image'])[np.asarray(b['mask']) > 0] for b in batches])
  np.testing.assert_array_equal(drawn, np.arange(24))


def test_parts_are_stretches_of_the_shards(shards):
  names = lambda part: [int(split(shards, part).read(i).name.split('.')[0])
                        for i in range(len(split(shards, part)))]
  assert names('train[:50%]') == list(range(12)) and names('train[-3:]') == [21, 22, 23]
  assert names('train[:2]+train[10:13]') == [0, 1, 10, 11, 12]
  assert split(shards, 'train[6:11]').lengths == (1, 3, 1)  # of three shards


def test_a_pattern_names_files_and_splits_do_not_mix(tmp_path):
  root = write(tmp_path, [4, 4])
  write(root, [2], 'test', first=100)
  write(root, [3], 'train_extra', first=200)
  assert (len(split(root)), len(split(root, 'test')), len(split(root, 'train-00001*'))) == (8, 2, 4)
  assert len(split(root, 'train+test')) == 10


def test_a_mixture_draws_by_weight_and_its_classes_must_agree(tmp_path):
  few, many = write(tmp_path / 'a', [6, 6]), write(tmp_path / 'b', [50, 50], first=1000)
  mixture = [dict(source=few, train='train', weight=.25), dict(source=many, train='train', weight=.75)]
  data = build(few, mixture=mixture)
  assert data.info.num_train == 112
  drawn = seen(data, 0, 50)
  assert abs((drawn < 1000).mean() - .25) < .05
  counts = np.bincount(drawn[drawn < 1000], minlength=12)
  assert counts.max() - counts.min() <= 2 and counts.min() >= 5
  other = write(tmp_path / 'c', [5], classes=('a', 'b'), labels_of=lambda i: [0])
  with pytest.raises(UserError, match='c has 2 classes and 3 channels, .*a 3 and 3; they must be'):
    build(few, mixture=[dict(source=other, train='train', weight=1.)])
  with pytest.raises(UserError, match='must be positive and add up to 1'):
    build(few, mixture=[dict(mixture[0], weight=.5), dict(mixture[1], weight=.6)])


def test_several_labels_are_padded(tmp_path):
  root = write(tmp_path, [4, 4], labels_of=lambda i: [0, 2][:i % 3])
  data = build(root, max_labels=3)
  assert data.info.multi_label and data.example['label'].shape == (8, 3)
  (_, batch), = data.train.after(0, 1)
  for number, label in zip(numbers(batch['image']), np.asarray(batch['label'])):
    assert label.tolist() == ([0, 2][:number % 3] + [-1] * 3)[:3]
  with pytest.raises(UserError, match='holds 0 labels, not 1; for multi-label data set data.max_labels'):
    split(root)
  with pytest.raises(UserError, match='0.png in .* has 3 labels; set data.max_labels to at least that'):
    split(write(tmp_path / 'b', [3], labels_of=lambda i: [0, 1, 2]), max_labels=2)


def test_older_shards_count_classes_from_one_under_other_names(tmp_path):
  older = {'image/class/label': [3], 'image/encoded': [encoded(7)]}
  root = write(tmp_path, [5], labels_of=lambda i: [9], **older)
  features = dict(image='image/encoded', label='image/class/label', name='', first_label=1)
  example = split(root, features=features).read(0)
  assert example.labels == (2,) and numbers(np.asarray(example.image(3))[None]) == 7


def test_classes_are_named_by_a_file_or_counted(tmp_path):
  root = write(tmp_path / 'data', [3])
  os.remove(os.path.join(root, 'shards.json'))
  with pytest.raises(UserError, match='the classes of .* are not known.*set data.classes to'):
    split(root)
  (tmp_path / 'names.txt').write_text('red\ngreen\nblue\n')
  for classes, want in (('3', ('0', '1', '2')), (str(tmp_path / 'names.txt'), ('red', 'green', 'blue'))):
    c = config.image_data(root, (8, 8), 4)
    c.classes = classes
    assert open_source(c).classes == want


BAD = {
    'no shards': (lambda r: [os.remove(os.path.join(r, f)) for f in os.listdir(r) if 'train' in f],
                  "has no shards of the split 'train'"),
    'one missing': (lambda r: os.remove(os.path.join(r, 'train-00001-of-00003.tfrecord')),
                    "has 2 of 3 shards of the split 'train'; missing: 1"),
    'truncated': (lambda r: os.truncate(os.path.join(r, 'train-00002-of-00003.tfrecord'), 50),
                  'train-00002-of-00003.tfrecord is truncated'),
    'empty': (lambda r: os.truncate(os.path.join(r, 'train-00000-of-00003.tfrecord'), 0), 'is empty'),
    'no TFRecord': (lambda r: open(os.path.join(r, 'train-00000-of-00003.tfrecord'), 'wb').write(
        b'hello ' * 100), 'is no TFRecord file'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_shards_are_told_before_any_work(tmp_path, name):
  root = write(tmp_path, [4, 4, 4])
  write(root, [2], 'test')
  damage, said = BAD[name]
  damage(root)
  with pytest.raises(UserError, match=said):
    build(root, test='test')


@pytest.mark.parametrize('features, said', [
    (dict(label=[1.5]), "feature 'label' of .* at offset 0 is float, not int; set data.features"),
    (dict(image=[7]), "feature 'image' of .* is int, not bytes"),
    (dict(image=[b'a', b'b']), "feature 'image' of .* holds 2 images, not 1")])
def test_features_of_another_kind_are_told(tmp_path, features, said):
  with pytest.raises(UserError, match=said):
    split(write(tmp_path, [3], **features))


def test_absent_features_are_told_with_those_there_are(tmp_path):
  root = write(tmp_path, [3])
  features = dict(image='', label='etiquette', name='', first_label=0)
  with pytest.raises(UserError, match="no label feature 'etiquette'; it has: image, label, name; set "
                                      'data.features.label'):
    split(root, features=features)
  path = os.path.join(root, 'train-00000-of-00001.tfrecord')
  with records.writer(path, 'tfrecord') as put:
    put(records.write_example(dict(x=[1])))
  with pytest.raises(UserError, match='no image feature that is known; it has: x'):
    split(root)
  with records.writer(path, 'tfrecord') as put:
    put(b'\xff\xff\xff')
  with pytest.raises(UserError, match=r'at offset 0 is not a tf\.train\.Example'):
    split(root)


def test_a_label_out_of_range_is_told_where_it_stands(tmp_path):
  root = write(tmp_path, [5], labels_of=lambda i: [3 if i == 2 else 0])
  data = build(root, batch_size=1)
  with pytest.raises(UserError, match='label 3 of .*tfrecord at offset .* is out of range: 3 classes'):
    list(data.train.after(0, 5))


def test_a_corrupt_image_is_named_by_shard_and_offset_or_skipped_and_counted(tmp_path, capsys):
  root = write(tmp_path, [6])
  path = os.path.join(root, 'train-00000-of-00001.tfrecord')
  with records.writer(path, 'tfrecord') as put:
    for i in range(6):
      put(records.write_example(dict(image=[encoded(i)[:30 if i == 4 else None]], label=[0])))
  offset = int(records.TFRecords(path).name(4).rpartition(' ')[2])
  with pytest.raises(UserError, match=f'cannot read the image .*00001.tfrecord at offset {offset}: '):
    list(build(root, batch_size=2).train.after(0, 3))
  data = build(root, batch_size=2, on_error='skip')
  assert 4 not in seen(data, 0, 6)
  said = capsys.readouterr().err
  assert said.count('skipped (1 so far)') == 1 and f'offset {offset}' in said
  assert sum(np.asarray(b['mask']).sum() for b in data.splits['test']) == 5


def test_a_damaged_record_is_skipped_when_told(tmp_path, capsys):
  root = write(tmp_path, [6])
  path = os.path.join(root, 'train-00000-of-00001.tfrecord')
  whole = bytearray(open(path, 'rb').read())
  whole[int(records.TFRecords(path).name(3).rpartition(' ')[2]) + 40] ^= 255
  open(path, 'wb').write(whole)
  with pytest.raises(UserError, match='a damaged record in .* its checksum is wrong'):
    list(build(root, batch_size=2).train.after(0, 3))
  assert 3 not in seen(build(root, batch_size=2, on_error='skip'), 0, 6)
  assert 'checksum' in capsys.readouterr().err


def test_more_processes_than_shards_are_told(tmp_path, monkeypatch):
  root = write(tmp_path, [4, 4])
  monkeypatch.setattr(jax, 'process_count', lambda: 3)
  with pytest.raises(UserError, match='has 2 shards, but 3 processes read it; write more shards'):
    build(root)


def test_real_labels_follow_the_file_names(tmp_path):
  root = write(tmp_path / 'data', [3], name=[b'ILSVRC2012_val_00000002.JPEG'])
  (tmp_path / 'real.json').write_text(json.dumps([[], [2, 0], [1]]))
  data = build(root, (2, 1, 1), real=str(tmp_path / 'real.json'), batch_size=4)
  batch = next(iter(data.splits['test']))
  np.testing.assert_array_equal(batch['real'], [[2, 0]] * 3 + [[-1, -1]])
  (tmp_path / 'real.json').write_text('{}')
  with pytest.raises(UserError, match="data.real=.* is not ReaL's list"):
    build(root, real=str(tmp_path / 'real.json'))
  other = write(tmp_path / 'other', [3])
  (tmp_path / 'real.json').write_text('[[1]]')
  with pytest.raises(UserError, match='0.png in .* is not named ILSVRC2012_val_00000001'):
    list(build(other, real=str(tmp_path / 'real.json')).splits['test'])


@pytest.mark.parametrize('file_format', records.FORMATS)
def test_a_folder_becomes_shards_and_stays_the_same_data(tmp_path, file_format, capsys):
  for i in range(20):
    place = tmp_path / 'photos' / ('train' if i < 14 else 'test') / 'xy'[i % 2]
    os.makedirs(place, exist_ok=True)
    (place / f'{i}.png').write_bytes(encoded(i))
  target = str(tmp_path / 'shards')
  manifest = convert.convert(str(tmp_path / 'photos'), target, shards=3, file_format=file_format)
  assert sorted(manifest['lengths'].values()) == [2, 2, 2, 4, 5, 5]
  assert '20 of 20 images' in capsys.readouterr().out
  for name, want in (('train', range(14)), ('test', range(14, 20))):
    examples = [split(target, name).read(i) for i in range(len(want))]
    got = numbers([np.asarray(e.image(3)) for e in examples])
    assert sorted(got) == list(want) and (got != want).any()  # mixed
    assert [e.labels[0] for e in examples] == [n % 2 for n in got]
    assert examples[0].name.startswith(f'{name}/')


def test_converting_tells_what_it_cannot_do(tmp_path):
  os.makedirs(tmp_path / 'photos/train/a')
  (tmp_path / 'photos/train/a/0.png').write_bytes(encoded(0))
  (tmp_path / 'photos/train/a/1.png').write_bytes(encoded(1)[:40])
  run = lambda **o: convert.convert(str(tmp_path / 'photos'), str(tmp_path / 'out'), **o)
  with pytest.raises(UserError, match="--shards=3: the split 'train' has 2 images"):
    run(shards=3)
  with pytest.raises(UserError, match="unknown --format 'tfrecords'; did you mean 'tfrecord'"):
    run(file_format='tfrecords')
  with pytest.raises(UserError, match=r'1 damaged image\(s\), the first is .*1.png'):
    run(shards=1, check=True)
  assert not os.path.exists(tmp_path / 'out')
  run(shards=2)
  before = sorted(os.listdir(tmp_path / 'out'))
  with pytest.raises(UserError, match='holds other shards .train-00000-of-00002.tfrecord, '):
    run(shards=1)
  assert sorted(os.listdir(tmp_path / 'out')) == before
  run(shards=2)  # the same once more


def test_a_shard_that_is_not_as_long_as_its_manifest_says_is_told(tmp_path):
  root = write(tmp_path, [4])
  for content, said in ((dict(classes=['a', 'b', 'c'], lengths={'train-00000-of-00001.tfrecord': 5}),
                         'holds 4 records, not the 5 that are written beside it'), ([1], 'is damaged')):
    with open(os.path.join(root, 'shards.json'), 'w') as file:
      json.dump(content, file)
    with pytest.raises(UserError, match=said):
      [split(root).read(i) for i in range(4)]


@pytest.mark.parametrize('suffix', ['tfrec', 'record', 'tfrecords', 'TFRECORD', 'tfr'])
def test_shards_by_other_suffixes(tmp_path, suffix):
  root = write(tmp_path, [6])
  os.rename(f'{root}/train-00000-of-00001.tfrecord', f'{root}/train.{suffix}')
  assert len(split(root)) == 6


def test_compressed_shards_are_told(tmp_path):
  root = write(tmp_path, [6])
  file = f'{root}/train-00000-of-00001.tfrecord'
  with open(file, 'rb') as content:
    packed = gzip.compress(content.read())
  open(file, 'wb').write(packed)
  os.remove(f'{root}/shards.json')
  with pytest.raises(UserError, match='is compressed; unpack it first, as by gunzip'):
    split(root, classes='3')
  os.rename(file, f'{file}.gz')
  with pytest.raises(UserError, match=r'1 compressed record file\(s\) .*gunzip'):
    split(root, classes='3')


def test_shards_in_folders_of_splits_are_told(tmp_path):
  write(tmp_path / 'train', [3])
  with pytest.raises(UserError, match='it holds record files .*into one folder'):
    split(str(tmp_path))


@pytest.mark.parametrize('on_error', ['raise', 'skip'])
def test_labels_that_count_from_one_are_told_with_their_remedy(tmp_path, on_error):
  """Skipped, a whole class would go and the others stand under wrong names."""
  root = write(tmp_path, [6], labels_of=lambda i: [1 + i % 3])
  with pytest.raises(UserError, match='label 3 .* set data.features.first_label=1') as caught:
    list(build(root, batch_size=6, on_error=on_error).train.after(0, 1))
  assert 'on_error' not in str(caught.value)
  features = dict(image='', label='', name='', first_label=1)
  assert split(root, features=features).labels().tolist() == [0, 1, 2] * 2


@pytest.mark.parametrize('content', [
    'a\nb\u00e9\nc\n'.encode(), b'\xef\xbb\xbfa\r\nb\xc3\xa9\r\nc\r\n', b'a\nb\xe9\nc',
    'a\r\nb\u00e9\r\n\r\nc'.encode('utf-16')])
def test_names_of_classes_as_other_systems_write_them(tmp_path, content):
  root, path = write(tmp_path / 'data', [6]), tmp_path / 'names.txt'
  path.write_bytes(content)
  c = config.image_data(root, (8, 8), 4)
  c.classes = str(path)
  assert open_source(c).classes == ('a', 'b\u00e9', 'c')


@pytest.mark.parametrize('content', [
    '[1]', '{"classes": 3}', '{"classes": [1]}', '{"lengths": {"a": "b"}}', '{'])
def test_a_manifest_of_another_form_is_told(tmp_path, content):
  root = write(tmp_path, [6])
  open(f'{root}/shards.json', 'w').write(content)
  with pytest.raises(UserError, match='shards.json is damaged .*write the shards again'):
    split(root)


@pytest.mark.parametrize('content', ['{}', '[]', '[[1], 2]', '[["a"]]', '['])
def test_labels_of_real_of_another_form_are_told(tmp_path, content):
  root, path = write(tmp_path / 'data', [6]), tmp_path / 'real.json'
  path.write_text(content)
  with pytest.raises(UserError, match='real.json.* is (not ReaL|damaged)'):
    build(root, real=str(path))


@pytest.mark.parametrize('file_format', records.FORMATS)
def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path, file_format):
  path = str(tmp_path / f'x.{file_format}')
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
  try:
    with pytest.raises((OSError, UserError)):
      with records.writer(path, file_format) as put:
        for _ in range(100):
          put(os.urandom(1000))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert os.listdir(tmp_path) == []


def test_the_headers_of_a_remote_shard_are_read_in_blocks(tmp_path, monkeypatch):
  root = write(tmp_path, [50])
  path = f'{root}/train-00000-of-00001.tfrecord'
  from etils import epath
  calls, read = [], records._Remote.read
  monkeypatch.setattr(records._Remote, 'read',
                      lambda self, *where: calls.append(where) or read(self, *where))
  shard, local = records.TFRecords(path), records.TFRecords(path)
  shard.__dict__['_file'] = records._Remote(epath.Path(path))
  assert len(shard) == 50 and len(calls) == 1
  assert [shard[i] for i in range(50)] == [local[i] for i in range(50)]
