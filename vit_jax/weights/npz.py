"""NumPy archives, read without executing anything from them and written whole or not at all."""

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from vit_jax.errors import UserError

# Weights hardly compress; what does more is made to fill the memory.
_MAX_RATIO, _SMALL = 100, 1 << 20

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
    with zipfile.ZipFile(path) as archive:
      return {info.filename.removesuffix('.npy'): _array(archive, info) for info in archive.infolist()}
  except DAMAGED as error:
    raise UserError(f'{path} is not a readable .npz archive of plain arrays ({error}); '
                    'fetch or copy it again') from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
  """Returns one array; what its header declares is checked before any memory is taken."""
  name = info.filename
  if not name.endswith('.npy'):
    raise ValueError(f'{name} is no array')
  if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size):
    raise ValueError(f'{name} unpacks {info.compress_size} bytes to {info.file_size}')
  with archive.open(info) as file:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
      raise ValueError(f'{name} has the format version {version}')
    header = {(1, 0): np.lib.format.read_array_header_1_0,
              (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = header(file)
    if dtype.hasobject:
      raise ValueError(f'{name} holds pickled objects')
    content = file.read()  # checks the checksum at the end
  if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(content):
    raise ValueError(f'{name} of shape {shape} has {len(content)} bytes')
  if dtype == np.dtype('V2'):  # how NumPy writes bfloat16
    dtype = np.dtype(ml_dtypes.bfloat16)
  return np.frombuffer(content, dtype).reshape(shape, order='F' if fortran else 'C')


def write(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes {name: array} as an `.npz` file that appears only when it is complete."""
  part = f'{path}.part'
  try:
    with open(part, 'wb') as file:
      np.savez(file, **arrays)
    os.replace(part, path)
  except OSError as error:
    raise UserError(f'cannot write {path}: {error.strerror}') from None
