"""One rule says which files are images, and what is left out is told once."""

import os

import numpy as np
import pytest
from PIL import Image

from vit_jax import config
from vit_jax.data import listing, sources
from vit_jax.data.convert import convert
from vit_jax.data.sources.base import parse_split
from vit_jax.errors import UserError
from vit_jax.faces.inputs import image_paths


def fill(root, *names) -> str:
  """Writes files: images, and bytes that are none where the suffix is no image's."""
  for name in names:
    path = os.path.join(os.fsencode(root), name if isinstance(name, bytes) else name.encode())
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if listing.is_image(os.fsdecode(path)) and b'/._' not in path:
      Image.fromarray(np.full((6, 8, 3), len(path), np.uint8)).save(open(path, 'wb'), 'PNG')
    else:
      open(path, 'wb').write(b'x')
  return str(root)


def opened(root, train='train'):
  options = config.image_data(root, (8, 8), 4)
  options.train = train
  return sources.open_source(options)


@pytest.fixture
def odd(tmp_path):
  """A folder of photographs as they come: nested, other suffixes, litter of systems, odd names."""
  return fill(tmp_path / 'photos', 'train/a/1.JPE', 'train/a/2.jfif', 'train/a/2021/may/3.avif',
              'train/a/2021/4.jp2', 'train/a/._1.JPE', 'train/a/Thumbs.db', 'train/a/note.txt',
              'train/a/5.jpg.1', 'train/a/plain', 'train/b/.hidden/1.png', 'train/b/2.heic',
              b'train/caf\xe9/1.png', b'train/caf\xe9/\xff.png', 'train/__MACOSX/a/1.png',
              'train/.git/1.png', 'train/6.png', 'train/a/2021/__MACOSX/7.png')


def test_the_same_files_are_trained_on_predicted_and_converted(odd, tmp_path, capsys):
  want = {'1.JPE', '2.jfif', '3.avif', '4.jp2', '1.png', os.fsdecode(b'\xff.png')}
  source = opened(odd)
  split = source.split('train')
  trained = [split.read(i) for i in range(len(split))]
  assert {os.path.basename(example.name) for example in trained} == want
  assert source.classes == ('a', 'b', 'caf\\xe9')  # as text that any file can hold
  assert {os.path.basename(name) for name in image_paths([odd])} == want | {'6.png'}
  manifest = convert(odd, str(tmp_path / 'shards'), shards=1, check=True)
  assert manifest['lengths'] == {'train-00000-of-00001.tfrecord': len(want)}
  again = opened(str(tmp_path / 'shards')).split('train')
  assert sorted(again.labels()) == sorted(split.labels()) == [0, 0, 0, 0, 2, 2]
  told = [line for line in capsys.readouterr().err.splitlines() if 'train: ' in line]
  assert len(told) == 1  # though the split was read twice
  for part in ('no image in the class folder(s) b', '1 image(s) outside the class folders',
               '4 file(s) without the suffix of an image are left out: ', '1 .txt', '1 .heic', '1 .1',
               '1 no suffix'):
    assert part in told[0]


def test_links_are_followed_and_those_that_lead_back_end(tmp_path):
  root = fill(tmp_path, 'train/a/1.png', 'elsewhere/2.png')
  os.symlink(os.path.join(root, 'elsewhere'), os.path.join(root, 'train', 'a', 'more'))
  os.symlink(os.path.join(root, 'train'), os.path.join(root, 'elsewhere', 'back'))
  found = listing.images_below(os.path.join(root, 'train', 'a')).files
  assert [os.path.basename(name) for name in found].count('2.png') == 1


def test_a_folder_of_other_files_alone_says_which(tmp_path):
  root = fill(tmp_path, 'train/a/1.heic', 'train/a/2.heic')
  with pytest.raises(UserError, match=r'holds no images .*no image in the class folder\(s\) a; 2 file.*'
                                      '2 .heic'):
    opened(root).split('train')


def test_paths_that_are_not_there_are_named_together(tmp_path):
  root = fill(tmp_path, 'a/1.png')
  with pytest.raises(UserError, match="no image or folder 'nix.png', 'nowhere'$"):
    image_paths([root, 'nix.png', 'nowhere'])


@pytest.mark.parametrize('folders', [('my train', 'my test'), ('a+b', 'a'), ('a[b]', 'x[:50%]')])
def test_folders_may_have_any_name(tmp_path, folders):
  root = fill(tmp_path, *(f'{folder}/c/{i}.png' for folder in folders for i in range(4)))
  for folder in folders:
    source = opened(root, folder)
    assert len(source.split(folder)) == 4 and len(source.split(f' {folder} [:50%]')) == 2
  assert len(source.split(' + '.join(folders))) == 8


@pytest.mark.parametrize('text, there, want', [
    ('a+b', ['a+b', 'a', 'b'], ['a+b']), ('a+b', ['a', 'b'], ['a', 'b']), ('a+b', [], ['a', 'b']),
    ('a+b[:50%]+c', ['a+b'], ['a+b[:50%]', 'c']), ('x+a+b', ['a+b'], ['x', 'a+b']),
    ('d e/x.json:my images + f', [], ['d e/x.json:my images', 'f'])])
def test_a_name_that_exists_goes_before_the_sum(text, there, want):
  assert [str(part) for part in parse_split(text, there.__contains__)] == want


@pytest.mark.parametrize('name, said', [
    ('data/digitz', "no folder of images or shards; did you mean 'data/digits'?"),
    ('data/photoz/summer', "no folder of images or shards: there is no 'photoz' in data"),
    ('photos/summer', "no folder of images or shards: there is no 'photos' in "),
    ('photos.zip', 'an archive, not a folder; unpack it'), ('a/b.tar.gz', 'an archive'),
    ('some.json', 'a file, not a folder'), ('early.jpg', "there is no 'early.jpg' in "),
    ('./x', "there is no 'x' in ."), ('My Photos', "there is no 'My Photos'")])
def test_a_path_is_not_taken_for_a_tfds_name(tmp_path, monkeypatch, name, said):
  monkeypatch.chdir(tmp_path)
  os.makedirs('data/digits')
  open('some.json', 'w').write('{}')
  with pytest.raises(UserError) as caught:
    opened(name)
  assert f'data source {name!r} is ' in str(caught.value) and said in str(caught.value)
  assert 'tfds build' not in str(caught.value)


@pytest.mark.parametrize('name', ['cifar10', 'coco/2016', 'imagenet_v2/matched-frequency', 'a:3.*.*'])
def test_a_name_of_tfds_gets_the_command(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match='to prepare it: .*tfds build'):
    opened(name)
