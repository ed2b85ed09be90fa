"""Bytes of a file into memory that is theirs alone, each touched once while it is in the cache."""

import errno
import mmap
import os
import re
import zipfile
import zlib

import numpy as np

from vit_jax.errors import UserError

_CHUNK = 1 << 20
# Weights hardly compress; what does more is made to fill the memory.
_MAX_RATIO, _SMALL = 100, 1 << 20

# What stands where weights were expected: how the file begins, what it is, what to do.
_FOREIGN = (
    (rb'version https://git-lfs', 'is a pointer of Git LFS and not the file itself; run "git lfs pull" '
     'in the clone, or download the file'),
    (rb'(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)', 'is a web page and not weights, as a server '
     'sends in place of a file; download the file itself'),
    (rb'\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd', 'is compressed; unpack it and give the file inside'),
    (rb'\x89HDF\r\n', 'is an HDF5 file, which is not read; save the model as .safetensors'))


def is_safetensors(start: bytes) -> bool:
  """Tells whether a file begins as safetensors do: a length, which may be any eight bytes, then JSON."""
  return start[8:9] == b'{'


def check_start(path: str) -> bytes:
  """Returns the first bytes of a file; UserError where they are those of no weights, says of what."""
  with open(path, 'rb') as file:
    start = file.read(64)
  for begins, what in _FOREIGN:
    if not is_safetensors(start) and re.match(begins, start, re.IGNORECASE):
      raise UserError(f'{path} {what}')
  return start


def unreadable(path: str, kind: str, error: Exception) -> UserError:
  """Returns the error for a file that could not be read: damaged only where it was the file's fault.

  Args:
    path: of the file.
    kind: what it was read as.
    error: what was raised.
  """
  if isinstance(error, MemoryError):
    return UserError(f'{path} does not fit into memory; free some, or read it on a larger machine')
  # A damaged file may ask for what cannot be, at a place before its beginning, say.
  if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
    return UserError(f'cannot read {path}: {error.strerror}')
  return UserError(f'{path} is not a readable {kind} ({error}); fetch or copy it again')


def _memory(size: int) -> np.ndarray:
  """Returns uint8 `[size]`, of pages that the kernel gives at once and takes back with the array.

  Half the time of reading goes into page faults; huge pages, which NumPy asks for, are faster where
  memory is plenty and several times slower where the kernel has to make room for them.
  """
  if size < _CHUNK or not hasattr(mmap, 'MAP_POPULATE'):
    return np.empty(size, np.uint8)
  flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
  return np.frombuffer(mmap.mmap(-1, size, flags=flags), np.uint8)


def _fill(out: np.ndarray, file, checksum: bool = True) -> int:
  """Fills uint8 `[size]` with the next bytes of a file and returns their CRC-32, if wanted."""
  crc = 0
  for start in range(0, out.size, _CHUNK):
    part = out[start:start + _CHUNK]
    if file.readinto(part.data) != part.size:
      raise ValueError('it is cut off')
    crc = zlib.crc32(part, crc) if checksum else 0
  return crc


def read(file, start: int, size: int) -> np.ndarray:
  """Returns uint8 `[size]` of an open file from `start` on; ValueError beyond its end."""
  if start < 0 or size < 0 or start + size > os.fstat(file.fileno()).st_size:
    raise ValueError('it is cut off')
  file.seek(start)
  out = _memory(size)
  _fill(out, file, checksum=False)
  return out


def members(file) -> dict[str, zipfile.ZipInfo]:
  """Returns the members of a zip file by name; ValueError when they declare more than it can hold."""
  infos = zipfile.ZipFile(file).infolist()
  size = os.fstat(file.fileno()).st_size
  declared = sum(info.compress_size for info in infos)
  if declared > size:
    raise ValueError(f'its members declare {declared} bytes, the file has {size}')
  for info in infos:
    if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size):
      raise ValueError(f'{info.filename} unpacks {info.compress_size} bytes to {info.file_size}')
  return {info.filename: info for info in infos}


def member(file, info: zipfile.ZipInfo) -> np.ndarray:
  """Returns the bytes of a member, uint8 `[size]`.

  Raises:
    ValueError: when it is damaged. A checksum of 0 is none (`torch.serialization.set_crc32_options`).
  """
  if info.compress_type != zipfile.ZIP_STORED:
    with zipfile.ZipFile(file).open(info) as unpacked:
      out = np.empty(info.file_size, np.uint8)  # taken from the system as it fills
      crc = _fill(out, unpacked)
  else:
    file.seek(info.header_offset)
    head = file.read(30)
    if head[:4] != b'PK\3\4' or info.flag_bits & 1 or info.compress_size != info.file_size:
      raise ValueError(f'{info.filename} is damaged or encrypted')
    names = int.from_bytes(head[26:28], 'little') + int.from_bytes(head[28:30], 'little')
    file.seek(names, os.SEEK_CUR)
    out = _memory(info.file_size)
    crc = _fill(out, file)
  if info.CRC and crc != info.CRC:
    raise ValueError(f'the checksum of {info.filename} is wrong')
  return out
