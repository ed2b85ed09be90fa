"""TFDS data sets by name, read without TensorFlow from what TFDS has prepared."""

import dataclasses
import json
import os
import sys

import numpy as np
import pytest

from tests.data.shards import encoded, numbers
from vit_jax import config
from vit_jax.data import records
from vit_jax.data.sources import open_source
from vit_jax.errors import UserError
from vit_jax.data.sources import vtab

CORE = 'tensorflow_datasets.core.features.'


def feature(kind, **fields):
  """Returns a feature as TFDS 4.9 writes it to `features.json`."""
  module = dict(Image='image_feature.Image', ClassLabel='class_label_feature.ClassLabel',
                Text='text_feature.Text', Tensor='tensor_feature.Tensor',
                Sequence='sequence_feature.Sequence')[kind]
  key = dict(ClassLabel='classLabel').get(kind, kind.lower())
  return {'pythonClassName': CORE + module, key: fields}


def image(channels=3):
  return feature('Image', dtype='uint8', encodingFormat='png',
                 shape=dict(dimensions=['-1', '-1', str(channels)]))


def label(count):
  return feature('ClassLabel', numClasses=str(count))


def prepare(data_dir, name, splits, features, example, version='1.0.0', names=(),
            supervised=('image', 'label'), file_format='tfrecord'):
  """Writes what TFDS would have prepared.

  Args:
    data_dir, name, version: where.
    splits: {name: records of each shard}.
    features: {name: feature}.
    example: number -> features of a record.
    names: of the classes.
    supervised: keys of image and label.
    file_format: of the shards.
  """
  folder = os.path.join(data_dir, name, version)
  os.makedirs(folder)
  number, dataset = 0, name.split('/')[0]
  for split, lengths in splits.items():
    for i, length in enumerate(lengths):
      path = os.path.join(folder, f'{dataset}-{split}.{file_format}-{i:05d}-of-{len(lengths):05d}')
      with records.writer(path, file_format) as put:
        for _ in range(length):
          put(records.write_example(example(number)))
          number += 1
  info = dict(name=dataset, version=version, fileFormat=file_format, moduleName='x.y', splits=[
      dict(name=split, filepathTemplate='{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}', numBytes='1',
           shardLengths=[str(n) for n in lengths]) for split, lengths in splits.items()])
  if supervised:
    info['supervisedKeys'] = dict(tuple=dict(items=[dict(featureKey=key) for key in supervised]))
  for file, content in (('dataset_info.json', info), ('features.json', dict(
      pythonClassName=CORE + 'features_dict.FeaturesDict', featuresDict=dict(features=features)))):
    with open(os.path.join(folder, file), 'w') as to:
      json.dump(content, to)
  if names:
    with open(os.path.join(folder, f'{supervised[1]}.labels.txt'), 'w') as to:
      to.write('\n'.join(names))
  return folder


def plain(data_dir, name='shapes', splits=None, **options):
  return prepare(str(data_dir), name, splits or dict(train=[5, 4, 6], test=[3]),
                 dict(image=image(), label=label(3)),
                 lambda i: dict(image=[encoded(i)], label=[i % 3]), names=('a', 'b', 'c'), **options)


def source(name, data_dir, **options):
  c = config.image_data(name, (8, 8), 4)
  c.data_dir = str(data_dir)
  for key, value in options.items():
    c[key] = value
  return open_source(c)


def drawn(split):
  return numbers([np.asarray(split.read(i).image(3)) for i in range(len(split))]).tolist()


@pytest.mark.parametrize('file_format', records.FORMATS)
def test_a_data_set_by_name(tmp_path, file_format):
  folder = plain(tmp_path, file_format=file_format)
  for name in ('shapes', 'shapes:1.0.0', 'shapes:1.*.*', folder):
    data = source(name, tmp_path)
    assert (data.classes, data.channels) == (('a', 'b', 'c'), 3)
    assert drawn(data.split('train')) == list(range(15)) and drawn(data.split('test')) == [15, 16, 17]
  data = source('shapes', tmp_path)
  assert data.split('train').labels().tolist() == [i % 3 for i in range(15)]
  assert drawn(data.split('train[4:6]+test[:1]')) == [4, 5, 15]
  assert drawn(data.split('train[80%:]')) == [12, 13, 14]
  assert 'tensorflow' not in sys.modules


def test_its_folder_may_be_named_by_the_environment(tmp_path, monkeypatch):
  plain(tmp_path)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  assert len(source('shapes', '').split('test')) == 3


def test_the_newest_version_and_the_only_config_are_taken(tmp_path):
  plain(tmp_path, 'shapes/small', dict(train=[1]), version='1.2.0')
  plain(tmp_path, 'shapes/small', dict(train=[4]), version='1.10.0')
  assert len(source('shapes', tmp_path).split('train')) == 4
  assert len(source('shapes/small:1.2.0', tmp_path).split('train')) == 1
  plain(tmp_path, 'shapes/large', dict(train=[9]))
  assert len(source('shapes/large', tmp_path).split('train')) == 9
  with pytest.raises(UserError, match='has several configs in .*: shapes/.*; name one'):
    source('shapes', tmp_path)


def test_what_is_not_prepared_is_told_with_the_command(tmp_path):
  plain(tmp_path)
  with pytest.raises(UserError, match=f"'cifar10' is neither .*in {tmp_path}; to prepare it: .*tfds "
                                      f'build cifar10 --data_dir={tmp_path}'):
    source('cifar10', tmp_path)
  with pytest.raises(UserError, match="did you mean 'shapes'"):
    source('shape', tmp_path)
  with pytest.raises(UserError, match='tfds build shapes:2.0.0'):
    source('shapes:2.0.0', tmp_path)
  with pytest.raises(UserError, match="unknown split of 'shapes': 'trian'; did you mean 'train'"):
    source('shapes', tmp_path).split('trian')


def test_without_tfds_the_package_is_named(tmp_path, monkeypatch):
  plain(tmp_path)
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  with pytest.raises(UserError, match=r"to read .*shapes/1.0.0: pip install 'vit_jax\[data\]'"):
    source('shapes', tmp_path)


def test_missing_and_changed_shards_are_told(tmp_path):
  folder = plain(tmp_path)
  shard = os.path.join(folder, 'shapes-train.tfrecord-00001-of-00003')
  content = open(shard, 'rb').read()
  with records.writer(shard, 'tfrecord') as put:
    put(records.write_example(dict(image=[encoded(0)], label=[0])))
  with pytest.raises(UserError, match='00001-of-00003 holds 1 records, not the 4 that are written'):
    drawn(source('shapes', tmp_path).split('train'))
  open(shard, 'wb').write(content[:-5])
  with pytest.raises(UserError, match='00001-of-00003 is truncated'):
    drawn(source('shapes', tmp_path).split('train'))
  os.remove(shard)
  with pytest.raises(UserError, match='00001-of-00003 is missing; write it again'):
    source('shapes', tmp_path).split('train')


def test_labels_of_another_name_and_data_without_any(tmp_path):
  prepare(str(tmp_path), 'fine', dict(train=[4]), dict(image=image(1), coarse=label(2), fine=label(4)),
          lambda i: dict(image=[encoded(i)], coarse=[i // 2], fine=[i]), supervised=None)
  with pytest.raises(UserError, match='no label that is known; set data.features.label to one of'):
    source('fine', tmp_path)
  features = dict(image='', label='fine', name='', first_label=0)
  data = source('fine', tmp_path, features=features)
  assert data.split('train').labels().tolist() == [0, 1, 2, 3] and data.channels == 1
  prepare(str(tmp_path), 'texts', dict(train=[1]), dict(text=feature('Text'), label=label(2)),
          lambda i: dict(text=[b'a'], label=[0]), supervised=('text', 'label'))
  with pytest.raises(UserError, match="'texts' holds no images, but: label, text"):
    source('texts', tmp_path)


def test_real_labels_come_with_the_data(tmp_path):
  many = feature('Sequence', feature=label(3), length='-1')
  prepare(str(tmp_path), 'real', dict(validation=[3]), dict(
      image=image(), original_label=label(3), real_label=many),
      lambda i: dict(image=[encoded(i)], original_label=[i], real_label=list(range(i))), supervised=None)
  split = source('real', tmp_path).split('validation')
  assert [split.read(i).real for i in range(3)] == [(), (0,), (0, 1)] and split.max_real == 16
  assert split.labels().tolist() == [0, 1, 2]


def test_vtab_takes_its_splits_and_rules(tmp_path, monkeypatch):
  count = dataclasses.replace(vtab.TASKS['clevr_count'], train800='train[:5]', val200='train[5:7]')
  monkeypatch.setitem(vtab.TASKS, 'clevr_count', count)
  prepare(str(tmp_path), 'clevr', dict(train=[4, 6], validation=[2]),
          {'image': image(),
           'objects/size': feature('Tensor', dtype='int32', shape={}, encoding='none')},
          lambda i: {'image': [encoded(i)], 'objects/size': [0] * (3 + i % 8)}, version='3.1.0',
          supervised=None)
  data = source('vtab/clevr_count', tmp_path)
  assert len(data.classes) == 8
  assert drawn(data.split('train')) == list(range(7)) and drawn(data.split('test')) == [10, 11]
  assert data.split('train').labels().tolist() == list(range(7))
  assert drawn(data.split('val200')) == [5, 6]
  with pytest.raises(UserError, match="unknown split of 'vtab/clevr_count': 'validation'"):
    data.split('validation')
  with pytest.raises(UserError, match="unknown VTAB task 'clevr'"):
    source('vtab/clevr', tmp_path)


def test_vtab_brings_pixels_of_0_and_1_to_255(tmp_path, monkeypatch):
  task = dataclasses.replace(vtab.TASKS['dsprites_location'], train800='train[:2]', val200='train[2:3]')
  monkeypatch.setitem(vtab.TASKS, 'dsprites_location', task)
  prepare(str(tmp_path), 'dsprites', dict(train=[3]), dict(image=image(1), label_x_position=label(32)),
          lambda i: dict(image=[encoded(257)], label_x_position=[31]), version='2.0.0', supervised=None)
  example = source('vtab/dsprites_location', tmp_path).split('train').read(0)
  assert example.labels == (15,) and np.asarray(example.image(3))[0, 0].tolist() == [255, 255, 0]


@pytest.mark.slow
def test_what_tfds_itself_writes_is_read(tmp_path):
  """With TensorFlow at hand: prepared by TFDS, read by us, equal to what TFDS reads."""
  pytest.importorskip('tensorflow', reason='TFDS needs TensorFlow to prepare data')
  import tensorflow_datasets as tfds

  class Shades(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(dict(
          image=tfds.features.Image(shape=(None, None, 3)),
          label=tfds.features.ClassLabel(names=['x', 'y']))), supervised_keys=('image', 'label'))

    def _split_generators(self, _):
      return {'train': self._generate_examples(40)}

    def _generate_examples(self, count):
      for i in range(count):
        yield i, dict(image=np.full((8, 8, 3), i, np.uint8), label=i % 2)

  Shades(data_dir=str(tmp_path)).download_and_prepare(
      download_config=tfds.download.DownloadConfig(num_shards=3))
  data = source('shades', tmp_path)
  examples = [data.split('train').read(i) for i in range(40)]
  theirs = list(tfds.as_numpy(tfds.load('shades', split='train', data_dir=str(tmp_path),
                                        read_config=tfds.ReadConfig(interleave_cycle_length=1))))
  assert data.classes == ('x', 'y') and len(theirs) == 40
  for ours, other in zip(examples, theirs):
    np.testing.assert_array_equal(np.asarray(ours.image(3)), other['image'])
    assert ours.labels == (other['label'],)
