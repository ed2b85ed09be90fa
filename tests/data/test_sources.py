"""Sources: splits, classes, and folders that cannot be used."""

import os

import numpy as np
import pytest
from PIL import Image

from vit_jax.data import sources
from vit_jax.data.sources.base import Split, parse_split
from vit_jax.errors import UserError


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
  source = sources.open_source('digits', 'train')
  train, test = source.split('train'), source.split('test')
  assert (len(train), len(test), source.channels) == (1442, 355, 1)
  assert source.classes == tuple('0123456789')
  both = np.bincount(train.labels) + np.bincount(test.labels)
  np.testing.assert_array_equal(np.bincount(test.labels), both // 5)
  pixels = lambda split: [split.read(i).tobytes() for i in range(len(split))]
  a, b = pixels(train), pixels(test)
  assert not set(a) & set(b)
  from sklearn import datasets
  want = np.round(datasets.load_digits().images * 255 / 16).astype(np.uint8)
  assert sorted(a + b) == sorted(image.tobytes() for image in want)


def test_digits_mix_the_classes_and_come_with_three_channels_on_request():
  train = sources.open_source('digits', 'train', channels=3).split('train')
  assert len(set(train.labels[200:260].tolist())) == 10
  array = np.asarray(train.read(0))
  assert array.shape == (8, 8, 3) and (array == array[..., :1]).all()


def test_classes_of_a_folder_come_from_training(folder):
  root = folder({'train/b': ['1.png'], 'train/a': ['1.png', '2.png'], 'train/c': ['1.png'],
                 'test/c': ['1.png'], 'test/b': ['1.png', '2.png']})
  source = sources.open_source(root, 'train')
  assert source.classes == ('a', 'b', 'c') and source.channels == 3
  np.testing.assert_array_equal(source.split('train').labels, [0, 0, 1, 2])
  np.testing.assert_array_equal(source.split('test').labels, [1, 1, 2])  # though it has no 'a'
  names = [os.path.relpath(n, root) for n in source.split('test').names]
  assert names == ['test/b/1.png', 'test/b/2.png', 'test/c/1.png']
  np.testing.assert_array_equal(np.asarray(source.split('test').read(1))[0, 0], [1, 0, 0])


def test_a_class_that_training_lacks_is_refused_by_name(folder):
  root = folder({'train/a': ['1.png'], 'test/a': ['1.png'], 'test/z': ['1.png']})
  source = sources.open_source(root, 'train')
  with pytest.raises(UserError, match=r"'test' of .* 1 class\(es\) that training lacks: z; move"):
    source.split('test')


def test_suffixes_of_upper_case_and_hidden_files(folder):
  root = folder({'train/a': ['1.JPG', '2.Png', '.hidden.png', 'note.txt']})
  os.makedirs(os.path.join(root, 'train', '.git'))
  source = sources.open_source(root, 'train')
  assert source.classes == ('a',)
  assert [os.path.basename(n) for n in source.split('train').names] == ['1.JPG', '2.Png']


@pytest.mark.parametrize('content, said', [
    ({'trian/a': ['1.png']}, "has no folder 'train' for that split; it holds trian.*data.train"),
    ({}, "has no folder 'train' for that split; it holds no folders"),
    ({'train': ['1.png']}, 'train holds no class folders; expected .*CLASS'),
    ({'train/a': [], 'train/b': ['note.txt']}, 'holds no images with a suffix among .jpg'),
])
def test_folders_that_cannot_be_used(folder, content, said):
  root = folder(content)
  with pytest.raises(UserError, match=said):
    sources.open_source(root, 'train').split('train')


def test_sources_that_do_not_exist():
  with pytest.raises(UserError, match="'digit' is neither .* folder; did you mean 'digits'"):
    sources.open_source('digit', 'train')
  with pytest.raises(UserError, match="'/no/where' is neither a built-in name nor a folder$"):
    sources.open_source('/no/where', 'train')
  with pytest.raises(UserError, match='data.channels=2: images have 3 channels or 1'):
    sources.open_source('digits', 'train', channels=2)
  with pytest.raises(UserError, match="unknown split of 'digits': 'tset'; did you mean 'test'"):
    sources.open_source('digits', 'train').split('tset')


@pytest.mark.parametrize('cut', ['50', '90', '12.5', '1'])
def test_parts_are_disjoint_complete_and_mix_the_classes(cut):
  source = sources.open_source('digits', 'train')
  whole = source.split('train')
  parts = [source.split(f'train[:{cut}%]'), source.split(f'train[{cut}%:]')]
  assert sorted(parts[0].names + parts[1].names) == sorted(whole.names)
  assert len(parts[0]) == round(float(cut) / 100 * len(whole))
  label = dict(zip(whole.names, whole.labels, strict=True))
  for part in parts:
    assert [label[n] for n in part.names] == part.labels.tolist()
    i = len(part) // 2
    j = whole.names.index(part.names[i])
    assert part.read(i).tobytes() == whole.read(j).tobytes()
  if len(parts[0]) > 100:
    assert len(set(parts[0].labels.tolist())) == 10


def test_a_folder_without_splits_is_cut_in_parts(folder):
  names = [f'{i}.png' for i in range(10)]
  root = folder({'a': names, 'b': names})
  source = sources.open_source(root, '[:90%]')
  train, test = source.split('[:90%]'), source.split('[90%:]')
  assert source.classes == ('a', 'b') and (len(train), len(test)) == (18, 2)
  assert not set(train.names) & set(test.names)
  again = sources.open_source(root, '[:90%]').split('[90%:]')
  assert again.names == test.names


@pytest.mark.parametrize('text, want', [
    ('train', ('train', 0., 1.)), ('train[:90%]', ('train', 0., .9)), ('a[10%:20%]', ('a', .1, .2)),
    ('[2.5%:]', ('', .025, 1.)), ('train[:]', ('train', 0., 1.))])
def test_forms_of_a_split(text, want):
  assert parse_split(text) == want


@pytest.mark.parametrize('text, said', [
    ('train[90]', 'is not of the form train, train'), ('train[:90]', 'is not of the form'),
    ('train[50%:50%]', 'is empty: its bounds must rise'), ('train[:101%]', 'is empty'),
    ('train[60%:40%]', 'is empty')])
def test_other_forms_are_told(text, said):
  with pytest.raises(UserError, match=said):
    parse_split(text)


def test_a_bound_that_is_no_number_is_told():
  with pytest.raises(UserError):
    parse_split('train[1.2.3%:]')


def test_a_part_of_a_part_keeps_names_and_labels_together():
  split = Split(list('abcdefghij'), np.arange(10), lambda i: i)
  part = split.part(.2, .8).part(.5, 1.)
  assert [part.read(i) for i in range(len(part))] == part.labels.tolist()
  assert [ord(n) - ord('a') for n in part.names] == part.labels.tolist() and len(part) == 3
