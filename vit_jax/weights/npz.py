"""NumPy archives, read without executing anything from them and written whole or not at all."""

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from vit_jax import files
from vit_jax.errors import UserError
from vit_jax.weights import raw

_MAX_HEADER = 1 << 16  # bytes; NumPy writes 128

# What zipfile and NumPy raise for damaged files.
DAMAGED = (ValueError, OSError, EOFError, KeyError, TypeError, NotImplementedError, RuntimeError,
           SyntaxError, OverflowError, MemoryError, struct.error, zlib.error, zipfile.BadZipFile)


def read(path: str) -> dict[str, np.ndarray]:
  """Returns {name: array} of an `.npz` file.

  Raises:
    UserError: when the file is missing, no archive, damaged, or holds pickled objects.
  """
  if not os.path.isfile(path):
    raise UserError(f'no weight file {path!r}')
  try:
    with open(path, 'rb', buffering=0) as file:
      return {name.removesuffix('.npy'): _array(file, info) for name, info in raw.members(file).items()}
  except DAMAGED as error:
    raise raw.unreadable(path, '.npz archive of plain arrays', error) from None


def _array(file, info: zipfile.ZipInfo) -> np.ndarray:
  """Returns one array."""
  name = info.filename
  if not name.endswith('.npy'):
    raise ValueError(f'{name} is no array')
  content = raw.member(file, info)
  start = io.BytesIO(content[:_MAX_HEADER].tobytes())
  version = np.lib.format.read_magic(start)
  if version not in ((1, 0), (2, 0)):
    raise ValueError(f'{name} has the format version {version}')
  header = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}[version]
  shape, fortran, dtype = header(start)
  if dtype.hasobject:
    raise ValueError(f'{name} holds pickled objects')
  content = content[start.tell():]
  if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != content.size:
    raise ValueError(f'{name} of shape {shape} has {content.size} bytes')
  if dtype == np.dtype('V2'):  # how NumPy writes bfloat16
    dtype = np.dtype(ml_dtypes.bfloat16)
  return content.view(dtype).reshape(shape, order='F' if fortran else 'C')


def write(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes {name: array} as an `.npz` file that appears only when it is complete."""
  try:
    with files.replacing(path, 'wb') as file:
      np.savez(file, **arrays)
  except OSError as error:
    raise files.cannot_write(error, path) from None
