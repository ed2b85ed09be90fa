"""PyTorch's files, read without PyTorch: the zip of today and the stream of before 1.6.

The format is that of `torch/serialization.py`: pickled containers whose tensors point into flat
storages, which lie in members of the zip or behind the pickles.
"""

import io
import math
import mmap
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

from vit_jax.errors import UserError
from vit_jax.weights import npz, pickles, raw
from vit_jax.weights.pickles import Storage, Tensor

_DTYPES = dict(Double='<f8', Float='<f4', Half='<f2', BFloat16=ml_dtypes.bfloat16, Long='<i8', Int='<i4',
               Short='<i2', Char='i1', Byte='u1', Bool='?')
_MAGIC = 0x1950a86a20f9469cfc6c
# Where checkpoints of whole runs keep the model.
_MODEL_KEYS = ('model', 'state_dict', 'model_state_dict', 'net')


def read(path: str) -> dict[str, np.ndarray]:
  """Returns {name: array} of a `.pth` file's model.

  Raises:
    UserError: when it is damaged, holds no tensors, or a pickle that asks for more than tensors.
  """
  try:
    with open(path, 'rb', buffering=0) as file:
      value, storage = (_read_zip if file.read(2) == b'PK' else _read_stream)(file)
      return {name: _view(name, tensor, storage) for name, tensor in _model(value).items()}
  except UserError as error:
    raise UserError(f'{path}: {error}') from None
  except npz.DAMAGED as error:
    raise raw.unreadable(path, 'PyTorch file', error) from None


def _model(value) -> dict[str, Tensor]:
  """Returns the tensors of the model in what was pickled."""
  for key in _MODEL_KEYS:
    if pickles.is_mapping(value) and pickles.is_mapping(value.get(key)):
      value = value[key]
      break
  items = value.items() if pickles.is_mapping(value) else ()
  tensors = {k: v for k, v in items if isinstance(v, Tensor)}
  if not tensors:
    raise UserError('holds no named tensors; save model.state_dict() and not the model')
  return tensors


def _view(name: str, tensor: Tensor, storage: Callable[[Storage], np.ndarray]) -> np.ndarray:
  """Returns a tensor as a view of its storage, inside whose bounds it lies."""
  flat, size = storage(tensor.storage), math.prod(tensor.shape)
  last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
  if size and (last >= flat.size or size > flat.size):
    raise ValueError(f'{name} of shape {tensor.shape} does not lie in its storage of {flat.size}')
  if not size:
    return np.zeros(tensor.shape, flat.dtype)
  strides = [s * flat.itemsize for s in tensor.strides]
  return np.lib.stride_tricks.as_strided(flat[tensor.offset:], tensor.shape, strides, writeable=False)


def _read_zip(file):
  """Returns the pickled value and a function that gives each storage."""
  members = raw.members(file)
  pickled = [name for name in members if name.endswith('/data.pkl')]
  if len(pickled) != 1:
    raise UserError('this zip file holds no data.pkl, so PyTorch did not write it')
  root = pickled[0].removesuffix('data.pkl')
  found: dict[str, np.ndarray] = {}

  def storage(asked: Storage) -> np.ndarray:
    if asked.key not in found:
      found[asked.key] = raw.member(file, members[f'{root}data/{asked.key}'])
    return _numbers(found[asked.key], asked)

  return pickles.load(io.BytesIO(raw.member(file, members[pickled[0]]))), storage


def _numbers(content: np.ndarray, asked: Storage) -> np.ndarray:
  dtype = np.dtype(_DTYPES[asked.kind])
  if asked.count < 0 or asked.count * dtype.itemsize > content.size:
    raise ValueError(f'storage {asked.key} of {asked.count} numbers has {content.size} bytes')
  return content[:asked.count * dtype.itemsize].view(dtype)


def _read_stream(file):
  """Returns the pickled value and a function that gives each storage, of a file before PyTorch 1.6."""
  content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  if pickles.load(content) != _MAGIC:
    raise ValueError('no magic number')
  pickles.load(content)  # version of the protocol
  pickles.load(content)  # sizes of integers where it was written
  value, keys = pickles.load(content), pickles.load(content)
  found: dict[str, np.ndarray] = {}
  wanted = {t.storage.key: t.storage for t in _tensors(value)}
  at = content.tell()
  for key in keys:
    count = int.from_bytes(content[at:at + 8], 'little', signed=True)
    asked = wanted.get(str(key))
    if asked is None or asked.count != count:
      raise ValueError(f'storage {key} is not the one that the tensors name')
    size = count * np.dtype(_DTYPES[asked.kind]).itemsize
    found[str(key)] = _numbers(raw.read(file, at + 8, size), asked)
    at += 8 + size
  if at != len(content):
    raise ValueError('it does not end behind its last storage')
  return value, lambda asked: found[asked.key]


def _tensors(value) -> list[Tensor]:
  """Returns all tensors in nested containers; each container is visited once."""
  waiting, seen, out = [value], set(), []
  while waiting:
    item = waiting.pop()
    if isinstance(item, Tensor):
      out.append(item)
    elif isinstance(item, (Mapping, list, tuple)) and id(item) not in seen:
      seen.add(id(item))
      waiting += item.values() if isinstance(item, Mapping) else item
  return out
