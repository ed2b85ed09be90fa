"""Bytes of a file into memory that is theirs alone, each touched once while it is in the cache."""

import mmap
import os
import zipfile
import zlib

import numpy as np

_CHUNK = 1 << 20
# Weights hardly compress; what does more is made to fill the memory.
_MAX_RATIO, _SMALL = 100, 1 << 20


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
