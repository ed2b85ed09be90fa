"""safetensors files: eight bytes of length, a JSON header, the raw arrays."""

import json
import math
import mmap
import os
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from vit_jax.errors import UserError

DTYPES = dict(F64='<f8', F32='<f4', F16='<f2', BF16=ml_dtypes.bfloat16, I64='<i8', I32='<i4', I16='<i2',
              I8='i1', U8='u1', BOOL='?')


def read(path: str) -> dict[str, np.ndarray]:
  """Returns {name: array} of a `.safetensors` file; arrays are views of the mapped file.

  Raises:
    UserError: when the file is damaged.
  """
  try:
    with open(path, 'rb') as file:
      content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(content[:8], 'little')
    if length > len(content) - 8:
      raise ValueError(f'its header declares {length} bytes, the file has {len(content)}')
    header = json.loads(content[8:8 + length])
    data = memoryview(content)[8 + length:]
    header.pop('__metadata__', None)
    out = {name: _array(name, entry, data) for name, entry in header.items()}
    if sum(array.nbytes for array in out.values()) != len(data):
      raise ValueError('its arrays are not all of its bytes')
    return out
  except (ValueError, OSError, KeyError, TypeError, AttributeError, RecursionError) as error:
    raise UserError(f'{path} is not a readable safetensors file ({error}); fetch or copy it again'
                    ) from None


def _array(name: str, entry: Mapping, data: memoryview) -> np.ndarray:
  start, end = entry['data_offsets']
  shape = tuple(entry['shape'])
  if entry['dtype'] not in DTYPES:
    raise ValueError(f'{name} has the unknown type {entry["dtype"]!r}')
  dtype = np.dtype(DTYPES[entry['dtype']])
  if any(type(n) is not int or n < 0 for n in (start, end, *shape)):
    raise ValueError(f'{name} has the shape {shape} at {start} to {end}')
  if not start <= end <= len(data) or end - start != math.prod(shape) * dtype.itemsize:
    raise ValueError(f'{name} of shape {shape} lies at {start} to {end} of {len(data)} bytes')
  return np.frombuffer(data[start:end], dtype).reshape(shape)


def write(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes {name: array} as a `.safetensors` file that appears only when it is complete."""
  kinds = {np.dtype(v): k for k, v in DTYPES.items()}
  header, at = {}, 0
  for name, array in arrays.items():
    header[name] = dict(dtype=kinds[array.dtype], shape=list(array.shape),
                        data_offsets=[at, at + array.nbytes])
    at += array.nbytes
  text = json.dumps({'__metadata__': {'format': 'pt'}, **header}).encode()
  text += b' ' * (-len(text) % 8)
  part = f'{path}.part'
  try:
    with open(part, 'wb') as file:
      file.write(len(text).to_bytes(8, 'little') + text)
      for array in arrays.values():
        file.write(np.ascontiguousarray(array).view(np.uint8).data if array.ndim else array.tobytes())
    os.replace(part, path)
  except OSError as error:
    raise UserError(f'cannot write {path}: {error.strerror}') from None
