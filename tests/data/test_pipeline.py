"""Batches: which example stands where, on any number of devices, from any step on."""

import collections
import os

import jax
import numpy as np
import pytest
from PIL import Image

from vit_jax import config, sharding
from vit_jax.data import pipeline
from vit_jax.data.sources import Split
from vit_jax.data.sources.memory import digits
from vit_jax.errors import UserError


def data_config(source='digits', batch_size=16, **options):
  c = config.image_data(source, (8, 8), batch_size)
  for key, value in options.items():
    c[key] = value
  return c


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder of 7 training and 5 test images in two classes, each of its own grey."""
  root = tmp_path_factory.mktemp('pictures')
  for split, number in (('train', 7), ('test', 5)):
    for i in range(number):
      place = root / split / 'ab'[i % 2]
      os.makedirs(place, exist_ok=True)
      Image.new('L', (8, 8), 10 * (i + 1)).save(place / f'{i}.png')
  return str(root)


@pytest.fixture
def damaged(folder, tmp_path):
  """The same with the first training and the first test image of class a cut."""
  for split in ('train', 'test'):
    for name in 'ab':
      os.makedirs(tmp_path / split / name)
      for i, entry in enumerate(sorted(os.listdir(os.path.join(folder, split, name)))):
        content = open(os.path.join(folder, split, name, entry), 'rb').read()
        cut = name == 'a' and i == 0
        (tmp_path / split / name / entry).write_bytes(content[:40] if cut else content)
  return str(tmp_path)


def build(*, mesh=(1, 1, 1), seed=0, **options):
  devices = jax.devices()[:int(np.prod(mesh))]
  return pipeline.build(data_config(**options), seed, sharding.make_mesh(*mesh, devices=devices))


def host(batch):
  return {k: np.asarray(v) for k, v in batch.items()}


def assert_same(a, b):
  assert a.keys() == b.keys() == {'image', 'label', 'mask'}
  for key in a:
    np.testing.assert_array_equal(a[key], b[key])


Reader = collections.namedtuple('Reader', 'splits')
Batches = collections.namedtuple('Batches', 'reader batch_size')


def indices(train, step, batch):
  """Returns the examples of a step's global batch."""
  return [train.example(step, row)[1] for row in range(batch)]


@pytest.mark.parametrize('number, batch', [(10, 4), (7, 7), (3, 8), (1, 3), (12, 5)])
def test_every_example_comes_once_an_epoch_across_steps_and_borders(number, batch):
  batches = Batches(Reader([Split([number], None)]), batch)
  train = pipeline.Train(batches, seed=3)
  stream = np.concatenate([indices(train, step, batch) for step in range(5 * number)])
  epochs = stream.reshape(-1, number)
  np.testing.assert_array_equal(np.sort(epochs, axis=1),
                                np.broadcast_to(np.arange(number), epochs.shape))
  if number > 5:
    assert len({tuple(e) for e in epochs}) > 1  # each epoch has an order of its own
    other = pipeline.Train(batches, seed=4)
    assert not np.array_equal(stream[:number], np.resize(indices(other, 0, batch), number))
  fresh = pipeline.Train(batches, seed=3)
  for step in (4, 0, 3):  # from any step, in any order
    np.testing.assert_array_equal(indices(fresh, step, batch), stream[step * batch:(step + 1) * batch])


@pytest.mark.parametrize('crop', ['squash', 'random'])
def test_a_restart_sees_the_same_batches(crop):
  options = dict(source='digits', crop=dict(name=crop))
  whole = {step: host(batch) for step, batch in build(**options).train.after(0, 95)}
  assert list(whole) == list(range(95))  # 90.1 steps are an epoch
  again = {step: host(batch) for step, batch in build(**options).train.after(88, 95)}
  assert list(again) == list(range(88, 95))
  for step, batch in again.items():
    assert_same(batch, whole[step])


def test_nothing_is_left_to_do_at_the_end():
  assert list(build().train.after(5, 5)) == []


def test_seeds_give_other_orders_and_other_crops():
  a, b = (host(next(build(seed=s, crop=dict(name='random')).train.after(0, 1))[1]) for s in (0, 1))
  assert not np.array_equal(a['image'], b['image'])


@pytest.mark.parametrize('mesh', [(8, 1, 1), (2, 4, 1), (2, 2, 2), (1, 1, 8), (4, 1, 2)])
def test_any_mesh_sees_the_same_batches(mesh):
  options = dict(crop=dict(name='random'))
  for (_, a), (_, b) in zip(build(**options).train.after(0, 3),
                            build(mesh=mesh, **options).train.after(0, 3), strict=True):
    assert_same(host(a), host(b))
    shards = mesh[0] * mesh[1]
    assert {s.data.shape for s in b['image'].addressable_shards} == {(16 // shards, 8, 8, 1)}
  tests = [[host(b) for b in build(mesh=m, **options).splits['test']] for m in ((1, 1, 1), mesh)]
  for key in ('image', 'label'):
    one, many = (np.concatenate([b[key][b['mask'] > 0] for b in batches]) for batches in tests)
    np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize('mesh', [(1, 1, 1), (8, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize('batch_size', [8, 64, 512])
def test_evaluation_covers_each_example_once(mesh, batch_size):
  data = build(mesh=mesh, batch_size=batch_size)
  labels, rows = [], 0
  for batch in data.splits['test']:
    batch = host(batch)
    rows += len(batch['mask'])
    assert set(np.unique(batch['mask'])) <= {0., 1.}
    assert not batch['image'][batch['mask'] == 0].any()
    labels += batch['label'][batch['mask'] == 1].tolist()
  assert labels == digits().split('test').labels().tolist()
  assert rows < 355 + batch_size


def test_batches_are_bytes_with_labels_and_masks():
  data = build(channels=3)
  batch = next(data.train.after(0, 1))[1]
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
      k: (v.shape, v.dtype) for k, v in data.example.items()} == {
          'image': ((16, 8, 8, 3), np.uint8), 'label': ((16,), np.int32),
          'mask': ((16,), np.float32)}
  assert host(batch)['mask'].all()


def test_images_keep_their_labels(folder):
  data = build(source=folder, batch_size=7, channels=1)
  for batches in ([b for _, b in data.train.after(0, 3)], data.splits['test']):
    for batch in batches:
      batch = host(batch)
      number = batch['image'][:, 0, 0, 0] // 10 - 1
      kept = batch['mask'] > 0
      np.testing.assert_array_equal(batch['label'][kept], (number % 2)[kept])
      assert (batch['image'] == batch['image'][:, :1, :1]).all()


def test_facts_come_from_the_data(folder):
  info = build(source=folder, batch_size=4, resolution=(6, 10)).info
  assert (info.classes, info.num_train, info.num_test) == (('a', 'b'), 7, 5)
  assert (info.channels, info.image_size, info.source) == (3, (6, 10), folder)


def test_raise_names_the_damaged_file(damaged):
  data = build(source=damaged, batch_size=7)
  with pytest.raises(UserError, match=r'cannot read the image .*train/a/0\.png.*on_error=skip'):
    list(data.train.after(0, 1))
  with pytest.raises(UserError, match=r'test/a/0\.png'):
    list(data.splits['test'])


def test_skip_replaces_in_training_and_masks_in_evaluation(damaged, capsys):
  data = build(source=damaged, batch_size=7, channels=1, on_error='skip')
  for _, batch in data.train.after(0, 4):
    batch = host(batch)
    values = sorted(batch['image'][:, 0, 0, 0].tolist())
    assert values == [20, 30, 30, 40, 50, 60, 70]  # 10 is gone, its neighbour stands in
    np.testing.assert_array_equal(batch['label'], (batch['image'][:, 0, 0, 0] // 10 - 1) % 2)
    assert batch['mask'].all()
  said = capsys.readouterr().err
  assert said.count('skipped (1 so far)') == 1 and '0.png' in said
  tested = [host(b) for b in data.splits['test']]
  assert sum(b['mask'].sum() for b in tested) == 4
  assert sorted(b['image'][i, 0, 0, 0] for b in tested for i in np.flatnonzero(b['mask'])) == [
      20, 30, 40, 50]


def test_a_folder_of_nothing_but_damaged_files_ends(tmp_path):
  for split in ('train', 'test'):
    os.makedirs(tmp_path / split / 'a')
    for i in range(3):
      (tmp_path / split / 'a' / f'{i}.png').write_bytes(b'x')
  data = build(source=str(tmp_path), batch_size=2, on_error='skip')
  with pytest.raises(UserError, match=r'3 images in a row cannot be read, from number \d of'):
    list(data.train.after(0, 1))


@pytest.mark.parametrize('options, said', [
    (dict(batch_size=12, mesh=(8, 1, 1)), 'data.batch_size 12 is not divisible by the 8 shards'),
    (dict(on_error='ignore'), "unknown data.on_error 'ignore'; choose one of: raise, skip"),
    (dict(crop=dict(name='squish')), "unknown crop 'squish'; did you mean 'squash'"),
    (dict(train='trian'), "unknown split of 'digits': 'trian'; did you mean 'train'")])
def test_what_cannot_be_used_is_told_before_any_work(options, said):
  with pytest.raises(UserError, match=said):
    build(**options)


def test_a_key_of_data_that_nothing_reads_is_told():
  wrong = data_config()
  wrong.crops = dict(name='squash')
  with pytest.raises(UserError, match="unknown config key 'data.crops'; did you mean 'data.crop'"):
    pipeline.build(wrong, 0, sharding.make_mesh(1, devices=jax.devices()[:1]))


def test_a_part_without_examples_is_told(folder):
  with pytest.raises(UserError):
    build(source=folder, batch_size=2, test='test[:5%]')
