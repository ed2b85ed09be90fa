"""safetensors files: eight bytes of length, a JSON header, the raw arrays."""

import json
import math
import os
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from vit_jax import files
from vit_jax.weights import raw

DTYPES = dict(F64='<f8', F32='<f4', F16='<f2', BF16=ml_dtypes.bfloat16, I64='<i8', I32='<i4', I16='<i2',
              I8='i1', U8='u1', BOOL='?')


def read(path: str) -> dict[str, np.ndarray]:
  """Returns {name: array} of a `.safetensors` file.

  Raises:
    UserError: when the file is damaged.
  """
  try:
    size = os.path.getsize(path)
    with open(path, 'rb', buffering=0) as file:
      length = int.from_bytes(file.read(8), 'little')
      if length > size - 8:
        raise ValueError(f'its header declares {length} bytes, the file has {size}')
      header = json.loads(file.read(length))
      header.pop('__metadata__', None)
      left = size - 8 - length
      places = {name: _place(name, entry, left) for name, entry in header.items()}
      if sum(end - start for start, end, *_ in places.values()) != left:
        raise ValueError('its arrays are not all of its bytes')
      return {name: raw.read(file, 8 + length + start, end - start).view(dtype).reshape(shape)
              for name, (start, end, dtype, shape) in places.items()}
  except (ValueError, OSError, KeyError, TypeError, AttributeError, RecursionError,
          MemoryError) as error:
    raise raw.unreadable(path, 'safetensors file', error) from None


def _place(name: str, entry: Mapping, size: int) -> tuple[int, int, np.dtype, tuple[int, ...]]:
  """Returns (start, end, dtype, shape) of an array in the data, of so many bytes."""
  start, end = entry['data_offsets']
  shape = tuple(entry['shape'])
  if entry['dtype'] not in DTYPES:
    raise ValueError(f'{name} has the unknown type {entry["dtype"]!r}')
  dtype = np.dtype(DTYPES[entry['dtype']])
  if any(type(n) is not int or n < 0 for n in (start, end, *shape)):
    raise ValueError(f'{name} has the shape {shape} at {start} to {end}')
  if not start <= end <= size or end - start != math.prod(shape) * dtype.itemsize:
    raise ValueError(f'{name} of shape {shape} lies at {start} to {end} of {size} bytes')
  return start, end, dtype, shape


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
  try:
    with files.replacing(path, 'wb') as file:
      file.write(len(text).to_bytes(8, 'little') + text)
      for array in arrays.values():
        file.write(np.ascontiguousarray(array).view(np.uint8).data if array.ndim else array.tobytes())
  except OSError as error:
    raise files.cannot_write(error, path) from None
