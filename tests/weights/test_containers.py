"""Files of weights: read without executing anything, and refused in a sentence."""

import collections
import io
import json
import os
import pickle
import struct
import sys
import time
import types
import zipfile
from unittest import mock

import ml_dtypes
import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.weights import containers, npz, safetensors

ARRAYS = {'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.float16([1., 2.]),
          'half': np.arange(4).astype(ml_dtypes.bfloat16), 'count': np.int64([7])}
KINDS = {'float32': 'FloatStorage', 'float16': 'HalfStorage', 'bfloat16': 'BFloat16Storage',
         'int64': 'LongStorage'}


class Stored:
  """Stands for a tensor while a file is made."""

  def __init__(self, array, key, torch):
    self.array, self.key, self.torch = array, key, torch

  def __reduce__(self):
    strides = tuple(s // self.array.itemsize for s in self.array.strides)
    return self.torch._utils._rebuild_tensor_v2, (
        Reference(self), 0, self.array.shape, strides, False, collections.OrderedDict())


class Reference:
  """Stands for a storage while a file is made."""

  def __init__(self, stored):
    self.stored = stored


@pytest.fixture
def torch():
  """Returns a module with the names that PyTorch's pickles refer to."""
  return make_torch()


def make_torch():
  """Returns what stands for `torch` while a file is made."""
  torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
  def rebuild(*_):
    raise AssertionError('a reader called what the file names')
  rebuild.__module__, rebuild.__qualname__ = 'torch._utils', '_rebuild_tensor_v2'
  rebuild.__name__ = '_rebuild_tensor_v2'
  utils._rebuild_tensor_v2, torch._utils = rebuild, utils
  for kind in KINDS.values():
    setattr(torch, kind, type(kind, (), {'__module__': 'torch'}))
  return torch


def pickled(value, torch, legacy, protocol=2):
  """Returns the pickle of a value whose storages lie elsewhere."""
  class Pickler(pickle.Pickler):
    def persistent_id(self, item):
      if not isinstance(item, Reference):
        return None
      stored = item.stored
      kind = getattr(stored.torch, KINDS[stored.array.dtype.name])
      return ('storage', kind, stored.key, 'cpu', stored.array.size) + (None,) * legacy
  file = io.BytesIO()
  with mock.patch.dict(sys.modules, {'torch': torch, 'torch._utils': torch._utils}):
    Pickler(file, protocol).dump(value)
  return file.getvalue()


def write_torch(path, arrays, torch, legacy=False, wrap=lambda tensors: {'model': tensors, 'epoch': 3}):
  """Writes arrays as PyTorch does, in the format of today or of before 1.6."""
  tensors = collections.OrderedDict(
      (name, Stored(array, str(i), torch)) for i, (name, array) in enumerate(arrays.items()))
  value = pickled(wrap(tensors), torch, legacy)
  if not legacy:
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('w/data.pkl', value)
      for i, array in enumerate(arrays.values()):
        archive.writestr(f'w/data/{i}', array.tobytes())
    return
  with open(path, 'wb') as file:
    for head in (0x1950a86a20f9469cfc6c, 1001, dict(protocol_version=1001, little_endian=True)):
      pickle.dump(head, file, 2)
    file.write(value)
    pickle.dump([str(i) for i in range(len(arrays))], file, 2)
    for array in arrays.values():
      file.write(struct.pack('<q', array.size) + array.tobytes())


@pytest.fixture(params=['npz', 'safetensors', 'zip', 'legacy'])
def whole(request, tmp_path, torch):
  """Returns the path of a file in each container that holds `ARRAYS`."""
  path = str(tmp_path / 'weights')
  if request.param in ('npz', 'safetensors'):
    dict(npz=npz, safetensors=safetensors)[request.param].write(path, ARRAYS)
  else:
    write_torch(path, ARRAYS, torch, request.param == 'legacy')
  return path


def test_every_container_gives_the_arrays(whole):
  got = containers.read(whole)
  assert list(got) == list(ARRAYS)
  for name, array in ARRAYS.items():
    assert got[name].dtype == array.dtype, name
    np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize('start', [b'PK', b'\x1f\x8b', b'\x80\2', b'<h', b'{"', b'BZ'])
def test_the_length_of_a_header_may_be_any_bytes(start, tmp_path):
  """A header of 19,280 bytes makes a file that begins as a zip archive does."""
  header = dict(a=dict(dtype='F32', shape=[2], data_offsets=[0, 8]))
  text = json.dumps(header).encode().ljust(int.from_bytes(start, 'little'))
  path = tmp_path / 'w.safetensors'
  path.write_bytes(len(text).to_bytes(8, 'little') + text + np.float32([1., 2.]).tobytes())
  assert path.read_bytes().startswith(start)
  np.testing.assert_array_equal(containers.read(str(path))['a'], [1., 2.])


def test_views_of_one_storage(tmp_path, torch):
  path, array = str(tmp_path / 'w.pth'), np.asfortranarray(ARRAYS['a.weight'])
  tensors = {'a': Stored(array, '0', torch), 'again': Stored(array, '0', torch)}
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('w/data.pkl', pickled(tensors, torch, False))
    archive.writestr('w/data/0', array.tobytes('F'))
  for got in containers.read(path).values():
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize('wrap', [lambda t: t, lambda t: {'state_dict': t, 'best_prec1': 91.7}])
def test_where_the_model_lies(wrap, tmp_path, torch):
  path = str(tmp_path / 'w.pth')
  write_torch(path, ARRAYS, torch, wrap=wrap)
  assert list(containers.read(path)) == list(ARRAYS)


class Malice:
  """Makes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (self.path,)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('protocol', [2, 4])
def test_a_pickle_that_calls_a_function_is_refused_and_not_run(tmp_path, legacy, protocol):
  trap, path = tmp_path / 'trap', tmp_path / 'w.pth'
  evil = pickle.dumps({'model': Malice(str(trap))}, protocol)
  if legacy:
    path.write_bytes(pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps(1001, 2)
                     + pickle.dumps({}, 2) + evil)
  else:
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('w/data.pkl', evil)
  with pytest.raises(UserError, match=r"w.pth: the pickle asks for 'posix.mkdir'; only tensors"):
    containers.read(str(path))
  assert not trap.exists()
  pickle.loads(evil)  # the trap works
  assert trap.exists()


def test_nan_is_named(tmp_path):
  path = str(tmp_path / 'w.safetensors')
  safetensors.write(path, {**ARRAYS, 'bad': np.float32([1., np.nan])})
  with pytest.raises(UserError, match='bad holds NaN or infinity'):
    containers.read(path)
  safetensors.write(path, {'large': np.full(9, 3e38, np.float32)})  # whose sum is infinite
  assert 'large' in containers.read(path)


@pytest.mark.parametrize('share', [0., .01, .3, .6, .95, .999])
def test_a_file_that_was_cut_off_is_told(whole, share):
  content = open(whole, 'rb').read()
  with open(whole, 'wb') as file:
    file.write(content[:int(share * len(content))])
  with pytest.raises(UserError, match='the file is empty|is not a readable .*again|by its first bytes'):
    containers.read(whole)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_tensor_that_declares_more_than_there_is(legacy, tmp_path, torch):
  path, long = str(tmp_path / 'w.pth'), np.lib.stride_tricks.as_strided(
      np.zeros(1, np.float32), (1 << 32, 10), (0, 0))
  class Declared(Stored):
    def __reduce__(self):
      return self.torch._utils._rebuild_tensor_v2, (
          Reference(self), 0, long.shape, (10, 1), False, collections.OrderedDict())
  write_torch(path, ARRAYS, torch, legacy, wrap=lambda t: {**t, 'declared': Declared(
      ARRAYS['a.weight'], '0', torch)})
  with pytest.raises(UserError, match=r'declared of shape \(4294967296, 10\) does not lie in its'):
    containers.read(path)


def test_nested_containers_without_end_are_refused_at_once(tmp_path):
  """Forty pairs of pairs, which would take a terabyte to print or to hash."""
  nested = b'N' + b''.join(b'q%ch%c\x86' % (i, i) for i in range(40))
  start = time.monotonic()
  for use in (b'\x8c\x01a\x93', b'Q', b'ctorch\ndevice\n' + nested + b'\x85R', b']' + nested + b'a'):
    path = tmp_path / 'w.pth'
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('w/data.pkl', b'\x80\x02' + nested + use + b'.')
    with pytest.raises(UserError) as error:
      containers.read(str(path))
    assert len(str(error.value)) < 500
  assert time.monotonic() - start < 1.


def lies(path, name):
  """Writes one of the files that no program writes."""
  header = {'declared': (10 << 30).to_bytes(8, 'little') + b'{' + b'x' * 99}
  if name in header:
    path.write_bytes(header[name])
  elif name == 'bomb':
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
      archive.writestr('a.npy', bytes(1 << 26))
  elif name == 'shape':
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, dict(descr='<f4', fortran_order=False,
                                                    shape=(1 << 40,)))
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('a.npy', file.getvalue())
  elif name == 'member':  # a directory that declares more than the file has
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    content = bytearray(file.getvalue())
    at = content.index(b'PK\1\2')
    content[at + 20:at + 28] = struct.pack('<II', (10 << 30) % (1 << 32) + 1, (10 << 30) % (1 << 32) + 1)
    path.write_bytes(content)
  elif name == 'overlap':  # one long member that the directory names a hundred times
    file = io.BytesIO()
    np.savez(file, a=np.zeros(1 << 16))
    content, count = file.getvalue(), 100
    at, end = content.index(b'PK\1\2'), content.index(b'PK\5\6')
    entry = content[at:end]
    entries = b''.join(entry.replace(b'a.npy', b'%05d' % i) for i in range(count))
    tail = bytearray(content[end:])
    tail[8:16] = struct.pack('<HHI', count, count, len(entries))
    path.write_bytes(content[:at] + entries + tail)
  elif name == 'nested':
    inner = io.BytesIO()
    np.savez(inner, a=np.zeros(3))
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('inner.npz', inner.getvalue())
  elif name == 'text':
    path.write_text('<html>404</html>')
  else:
    path.write_bytes(b'')


@pytest.mark.parametrize('name, said', [
    ('declared', 'its header declares 10737418240 bytes'), ('bomb', 'a.npy unpacks .* to 67108864'),
    ('member', 'its members declare 2147483649 bytes'),
    ('overlap', r'its members declare 5\d{7} bytes, the file has'),
    ('shape', r'a.npy of shape \(1099511627776,\) has 0 bytes'), ('nested', 'inner.npz is no array'),
    ('text', 'is a web page and not weights'), ('empty', 'the file is empty')])
def test_lies_are_refused_at_once(name, said, tmp_path):
  lies(tmp_path / 'weights', name)
  start = time.monotonic()
  with pytest.raises(UserError, match=said):
    containers.read(str(tmp_path / 'weights'))
  assert time.monotonic() - start < 1.
