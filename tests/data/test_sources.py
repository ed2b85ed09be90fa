"""Sources: splits, classes, and folders that cannot be used."""

import os

import numpy as np
import pytest
from PIL import Image

from vit_jax import config
from vit_jax.data import sources
from vit_jax.data.sources.base import parse_split
from vit_jax.errors import UserError


def open_source(name, train='train', channels=0):
  options = config.image_data(name, (8, 8), 4)
  options.train, options.channels = train, channels
  return sources.open_source(options)


def examples(split):
  return [split.read(i) for i in range(len(split))]


def names(split):
  return [example.name for example in examples(split)]


def pixels(split):
  return [example.image(1).tobytes() for example in examples(split)]


@pytest.fixture
def folder(tmp_path):
  """Returns a function that fills a folder: split/class -> file names."""
  def fill(content):
    for place, names in content.items():
      os.makedirs(tmp_path / place, exist_ok=True)
      for i, name in enumerate(names):
        Image.new('RGB', (8, 6), (i, 0, 0)).save(tmp_path / place / name, 'PNG')
    return str(tmp_path)
  return fill


def test_digits_are_split_once_and_by_class():
  source = open_source('digits', 'train')
  train, test = source.split('train'), source.split('test')
  assert (len(train), len(test), source.channels) == (1442, 355, 1)
  assert source.classes == tuple('0123456789')
  both = np.bincount(train.labels()) + np.bincount(test.labels())
  np.testing.assert_array_equal(np.bincount(test.labels()), both // 5)
  a, b = pixels(train), pixels(test)
  assert not set(a) & set(b)
  from sklearn import datasets
  want = np.round(datasets.load_digits().images * 255 / 16).astype(np.uint8)
  assert sorted(a + b) == sorted(image.tobytes() for image in want)


def test_digits_mix_the_classes_and_come_with_three_channels_on_request():
  train = open_source('digits', 'train', channels=3).split('train')
  assert len(set(train.labels()[200:260].tolist())) == 10
  array = np.asarray(train.read(0).image(3))
  assert array.shape == (8, 8, 3) and (array == array[..., :1]).all()


def test_classes_of_a_folder_come_from_training(folder):
  root = folder({'train/b': ['1.png'], 'train/a': ['1.png', '2.png'], 'train/c': ['1.png'],
                 'test/c': ['1.png'], 'test/b': ['1.png', '2.png']})
  source = open_source(root, 'train')
  assert source.classes == ('a', 'b', 'c') and source.channels == 3
  np.testing.assert_array_equal(source.split('train').labels(), [0, 0, 1, 2])
  np.testing.assert_array_equal(source.split('test').labels(), [1, 1, 2])  # though it has no 'a'
  assert [os.path.relpath(n, root) for n in names(source.split('test'))] == [
      'test/b/1.png', 'test/b/2.png', 'test/c/1.png']
  np.testing.assert_array_equal(np.asarray(source.split('test').read(1).image(3))[0, 0], [1, 0, 0])


def test_a_class_that_training_lacks_is_refused_by_name(folder):
  root = folder({'train/a': ['1.png'], 'test/a': ['1.png'], 'test/z': ['1.png']})
  source = open_source(root, 'train')
  with pytest.raises(UserError, match=r"'test' of .* 1 class\(es\) that training lacks: z; move"):
    source.split('test')


def test_suffixes_of_upper_case_and_hidden_files(folder):
  root = folder({'train/a': ['1.JPG', '2.Png', '.hidden.png', 'note.txt']})
  os.makedirs(os.path.join(root, 'train', '.git'))
  source = open_source(root, 'train')
  assert source.classes == ('a',)
  assert [os.path.basename(n) for n in names(source.split('train'))] == ['1.JPG', '2.Png']


@pytest.mark.parametrize('content, said', [
    ({'trian/a': ['1.png']}, "has no folder 'train' for that split; it holds trian.*data.train"),
    ({}, "has no folder 'train' for that split; it holds no folders"),
    ({'train': ['1.png']}, 'train holds no class folders; expected .*CLASS'),
    ({'train/a': [], 'train/b': ['note.txt']}, 'holds no images with a suffix among .jpg'),
])
def test_folders_that_cannot_be_used(folder, content, said):
  root = folder(content)
  with pytest.raises(UserError, match=said):
    open_source(root, 'train').split('train')


def test_sources_that_do_not_exist():
  with pytest.raises(UserError, match="'digit' is neither .* did you mean 'digits'"):
    open_source('digit', 'train')
  with pytest.raises(UserError, match="'/no/where' is no folder of images or shards$"):
    open_source('/no/where', 'train')
  with pytest.raises(UserError, match='data.channels=2: images have 3 channels or 1'):
    open_source('digits', 'train', channels=2)
  with pytest.raises(UserError, match="unknown split of 'digits': 'tset'; did you mean 'test'"):
    open_source('digits', 'train').split('tset')


@pytest.mark.parametrize('cut', ['50', '90', '12.5', '1'])
def test_parts_are_disjoint_complete_and_mix_the_classes(cut):
  source = open_source('digits', 'train')
  whole = source.split('train')
  parts = [source.split(f'train[:{cut}%]'), source.split(f'train[{cut}%:]')]
  assert sorted(names(parts[0]) + names(parts[1])) == sorted(names(whole))
  assert len(parts[0]) == round(float(cut) / 100 * len(whole))
  by_name = {example.name: example for example in examples(whole)}
  for part in parts:
    for example in examples(part):
      assert example.labels == by_name[example.name].labels
      assert (example.content == by_name[example.name].content).all()
  if len(parts[0]) > 100:
    assert len(set(parts[0].labels().tolist())) == 10


def test_a_folder_without_splits_is_cut_in_parts(folder):
  files = [f'{i}.png' for i in range(10)]
  root = folder({'a': files, 'b': files})
  source = open_source(root, '[:90%]')
  train, test = source.split('[:90%]'), source.split('[90%:]')
  assert source.classes == ('a', 'b') and (len(train), len(test)) == (18, 2)
  assert not set(names(train)) & set(names(test))
  again = open_source(root, '[:90%]').split('[90%:]')
  assert names(again) == names(test)


@pytest.mark.parametrize('text, want', [
    ('train', [('train', 0, 200)]), ('train[:90%]', [('train', 0, 180)]),
    ('a[10%:20%]', [('a', 20, 40)]),
    ('[2.5%:]', [('', 5, 200)]), ('train[:]', [('train', 0, 200)]), ('train[:80]', [('train', 0, 80)]),
    ('train[-50:]', [('train', 150, 200)]), ('train[:-99%]', [('train', 0, 2)]),
    ('train[190:999]', [('train', 190, 200)]),
    ('train[:80]+test[10%:50%]', [('train', 0, 80), ('test', 20, 100)]), ('a + b', [
        ('a', 0, 200), ('b', 0, 200)])])
def test_forms_of_a_split(text, want):
  assert [(part.name, *part.bounds(200)) for part in parse_split(text)] == want


@pytest.mark.parametrize('text', [
    'train[90]', 'train[:90', 'train[:101%]', 'train[1.2.3%:]', 'train[:.]'])
def test_other_forms_are_told(text):
  with pytest.raises(UserError, match='is not of the form train, train'):
    parse_split(text)


@pytest.mark.parametrize('text', ['train[50%:50%]', 'train[60%:40%]', 'train[999:]', 'train[:0]'])
def test_bounds_that_hold_nothing_are_told(text):
  with pytest.raises(UserError, match='bounds .* of 200 examples hold none'):
    parse_split(text)[0].bounds(200)


def test_a_sum_of_parts_keeps_every_example_with_its_label(folder):
  root = folder({'train/a': ['1.png', '2.png'], 'train/b': ['3.png'], 'test/b': ['4.png']})
  source = open_source(root)
  both = source.split('train+test')
  assert both.labels().tolist() == [0, 0, 1, 1] and names(both)[3].endswith('test/b/4.png')
  halves = [source.split('train[:67%]+test'), source.split('train[67%:]')]
  assert sorted(names(halves[0]) + names(halves[1])) == sorted(names(both))
