"""NumPy archives: what is damaged is told, nothing in them is executed."""

import errno
import os

import numpy as np
import pytest

from tests.weights.test_containers import ARRAYS, make_torch, write_torch
from vit_jax.errors import UserError
from vit_jax.weights import containers, npz, raw, safetensors


@pytest.fixture
def arrays():
  return {'a/kernel': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.float16([1., 2.])}


def test_what_is_written_is_read(arrays, tmp_path):
  path = str(tmp_path / 'w.npz')
  npz.write(path, arrays)
  again = npz.read(path)
  assert {k: v.dtype for k, v in again.items()} == {k: v.dtype for k, v in arrays.items()}
  for name, array in arrays.items():
    np.testing.assert_array_equal(again[name], array)
  assert os.listdir(tmp_path) == ['w.npz']


def test_a_missing_file():
  with pytest.raises(UserError, match="no weight file '/nowhere/w.npz'"):
    npz.read('/nowhere/w.npz')


@pytest.mark.parametrize('share', [0., .01, .3, .6, .95])
def test_a_truncated_file_is_named_with_a_remedy(arrays, tmp_path, share):
  path = tmp_path / 'w.npz'
  npz.write(str(path), arrays)
  content = path.read_bytes()
  path.write_bytes(content[:int(share * len(content))])
  with pytest.raises(UserError, match=r'w\.npz is not a readable .*fetch or copy it again'):
    npz.read(str(path))


def test_a_flipped_byte_is_noticed(tmp_path):
  path = tmp_path / 'w.npz'
  npz.write(str(path), {'a': np.zeros(1000, np.float32)})
  content = bytearray(path.read_bytes())
  content[2000] ^= 255
  path.write_bytes(bytes(content))
  with pytest.raises(UserError, match='w.npz is not a readable'):
    npz.read(str(path))


class Malice:
  """Writes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (self.path, 'w')


def test_pickled_objects_are_refused_and_not_run(tmp_path):
  trap = tmp_path / 'trap'
  path = str(tmp_path / 'w.npz')
  np.savez(path, a=np.array([Malice(str(trap))], dtype=object))
  with pytest.raises(UserError, match='w.npz is not a readable .npz archive of plain arrays'):
    npz.read(path)
  assert not trap.exists()
  np.load(path, allow_pickle=True)['a']  # the trap works
  assert trap.exists()


def test_a_single_array_is_told_from_an_archive(tmp_path):
  path = str(tmp_path / 'w.npy')
  np.save(path, np.zeros(3))
  with pytest.raises(UserError, match=r'w\.npy is not a readable \.npz archive'):
    npz.read(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
  with pytest.raises(UserError, match='cannot write .*nowhere/w.npz: No such file'):
    npz.write(str(tmp_path / 'nowhere' / 'w.npz'), {})


@pytest.mark.parametrize('write', [npz.write, safetensors.write])
@pytest.mark.parametrize('error', [errno.ENOSPC, errno.EDQUOT])
def test_on_a_full_disk_nothing_is_left_and_what_was_there_stays(write, error, tmp_path, monkeypatch):
  path = tmp_path / 'w'
  path.write_text('before')
  def full(_):
    raise OSError(error, os.strerror(error))
  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(UserError, match=f'cannot write {path}: {os.strerror(error)}; free some space'):
    write(str(path), {'a': np.zeros(3, np.float32)})
  assert os.listdir(tmp_path) == ['w'] and path.read_text() == 'before'


@pytest.mark.parametrize('error, said', [
    (OSError(errno.EIO, 'Input/output error'), 'cannot read .*w: Input/output error'),
    (OSError(errno.ESTALE, 'Stale file handle'), 'cannot read .*w: Stale file handle'),
    (MemoryError(), 'w does not fit into memory; free some'),
    (ValueError('it is cut off'), r'w is not a readable .*it is cut off.; fetch or copy it again')])
@pytest.mark.parametrize('container', ['npz', 'safetensors', 'zip'])
def test_only_a_file_that_is_damaged_is_called_so(container, error, said, tmp_path, monkeypatch):
  path = str(tmp_path / 'w')
  if container == 'zip':
    write_torch(path, ARRAYS, make_torch())
  else:
    dict(npz=npz, safetensors=safetensors)[container].write(path, ARRAYS)
  def fail(*_):
    raise error
  for name in ('read', 'member'):
    monkeypatch.setattr(raw, name, fail)
  with pytest.raises(UserError, match=said) as told:
    containers.read(path)
  assert ('damaged' in str(told.value) or 'not a readable' in str(told.value)) == (
      isinstance(error, ValueError))
