"""Record files and the examples in them, without TensorFlow: TFRecord, array_record, tf.train.Example.

A TFRecord file is a row of records: length (8 bytes), its checksum (4), content, its checksum (4). The
headers are walked once, so that any record can be read by its number, in threads.
"""

import contextlib
import functools
import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from vit_jax import files
from vit_jax.errors import Unreadable, UserError

_HEADER = struct.Struct('<QI')
_FOOTER = struct.Struct('<I')

FORMATS = ('tfrecord', 'array_record')
BLOCK = 4 << 20  # bytes of a remote file that are fetched at once while its headers are walked


def _checksum(content: bytes) -> int:
  """Returns the masked CRC-32C that TFRecord files hold."""
  import google_crc32c
  value = google_crc32c.value(content)
  return (((value >> 15) | (value << 17)) + 0xa282ead8) & 0xffffffff


class TFRecords:
  """The records of one TFRecord file, by number; local, or on any file system that etils opens."""

  def __init__(self, path: str):
    """Opens nothing yet: a shard is indexed when its first record is asked for."""
    self.path = path
    self._lock = threading.Lock()

  @functools.cached_property
  def _file(self):
    try:
      if os.path.exists(self.path):
        return _Local(self.path)
      from etils import epath
      return _Remote(epath.Path(self.path))
    except (OSError, NotImplementedError, ImportError) as error:
      raise UserError(f'cannot open the shard {self.path}: {error}') from None

  @functools.cached_property
  def _starts(self) -> np.ndarray:
    """Where each record starts, and where the file ends."""
    if not self._file.size:
      raise UserError(f'the shard {self.path} is empty; write it again or remove it')
    with self._file.bytes() as content:
      return np.asarray(self._walk(content, self._file.size), np.int64)

  def _walk(self, content, size: int) -> list[int]:
    starts, at = [], 0
    while at < size:
      header = content[at:at + _HEADER.size]
      if len(header) < _HEADER.size:
        raise UserError(f'the shard {self.path} is truncated at offset {at} of {size}; write it again')
      length, check = _HEADER.unpack(header)
      if _checksum(header[:8]) != check:
        what = ('is damaged' if starts else 'is compressed; unpack it first, as by gunzip'
                if header[:2] == b'\x1f\x8b' else 'is no TFRecord file')
        raise UserError(f'the shard {self.path} {what}: bad header at offset {at}; write it again, or '
                        'leave it out of the split')
      starts.append(at)
      at += _HEADER.size + length + _FOOTER.size
    if at != size:
      raise UserError(f'the shard {self.path} is truncated: its last record, at offset {starts[-1]}, '
                      f'ends at {at} but the file at {size}; write it again')
    return [*starts, at]

  def __len__(self) -> int:
    with self._lock:
      return len(self._starts) - 1

  def name(self, index: int) -> str:
    """Returns 'FILE at offset N', for messages."""
    len(self)
    return f'{self.path} at offset {self._starts[index]}'

  def __getitem__(self, index: int) -> bytes:
    """Returns the content of record `index`; UserError when its checksum is wrong."""
    len(self)
    start, end = int(self._starts[index]), int(self._starts[index + 1])
    record = self._file.read(start, end - start)
    content = record[_HEADER.size:-_FOOTER.size]
    if len(record) < end - start or _FOOTER.unpack(record[-_FOOTER.size:])[0] != _checksum(content):
      raise Unreadable(f'a damaged record in {self.name(index)}: its checksum is wrong; write the shard '
                       'again')
    return content


class _Local:
  """A local file; opened for each read, since a run may have more shards than a process may open."""

  def __init__(self, path: str):
    self._path, self.size = path, os.path.getsize(path)

  @contextlib.contextmanager
  def bytes(self):
    with open(self._path, 'rb') as file, mmap.mmap(
        file.fileno(), 0, access=mmap.ACCESS_READ) as content:
      yield content

  def read(self, offset: int, length: int) -> bytes:
    with open(self._path, 'rb', buffering=0) as file:
      return os.pread(file.fileno(), length, offset)


class _Remote:
  """A file in a bucket; it stays open, and one reader at a time uses it."""

  def __init__(self, path):
    self.size = path.stat().length
    self._file, self._lock = path.open('rb'), threading.Lock()
    self._block = 0, b''

  @contextlib.contextmanager
  def bytes(self):
    yield self
    self._block = 0, b''

  def __getitem__(self, where: slice) -> bytes:
    """Returns a few bytes, out of a block that is fetched at once: requests cost more than bytes."""
    begin, block = self._block
    if not begin <= where.start <= where.stop <= begin + len(block):
      begin, block = self._block = where.start, self.read(where.start, BLOCK)
    return block[where.start - begin:where.stop - begin]

  def read(self, offset: int, length: int) -> bytes:
    with self._lock:
      self._file.seek(offset)
      return self._file.read(length)


def _array_record():
  """Returns the package's module; UserError where it is missing."""
  try:
    from array_record.python import array_record_module
  except ImportError:
    raise UserError("array_record files need array_record: pip install 'vit_jax[data]'") from None
  return array_record_module


class ArrayRecords:
  """The records of one array_record file, by number."""

  def __init__(self, path: str):
    """Opens nothing yet."""
    self.path = path
    self._lock = threading.Lock()

  @functools.cached_property
  def _reader(self):
    module = _array_record()
    if not os.path.exists(self.path):
      raise UserError(f'cannot open the shard {self.path}: no such file')
    with contextlib.suppress(RuntimeError, ValueError):
      reader = module.ArrayRecordReader(self.path, 'readahead_buffer_size:0')
      if reader.num_records():
        return reader
    raise UserError(f'the shard {self.path} is empty, truncated or no array_record file; write it again')

  def __len__(self) -> int:
    with self._lock:
      return self._reader.num_records()

  def name(self, index: int) -> str:
    """Returns 'FILE, record N', for messages."""
    return f'{self.path}, record {index}'

  def __getitem__(self, index: int) -> bytes:
    """Returns the content of record `index`; UserError when it is damaged."""
    try:
      with self._lock:
        return self._reader.read([index])[0]
    except (RuntimeError, ValueError, IndexError) as error:
      raise Unreadable(f'a damaged record in {self.name(index)} ({str(error).splitlines()[0]}); write '
                       'the shard again') from None


def open_shard(path: str, file_format: str) -> TFRecords | ArrayRecords:
  """Returns the records of a shard."""
  return {'tfrecord': TFRecords, 'array_record': ArrayRecords}[file_format](path)


@contextlib.contextmanager
def writer(path: str, file_format: str) -> Iterator:
  """Yields write(content), which appends a record; the file appears when it is complete."""
  with files.replacing(path, 'wb') as file:
    if file_format == 'array_record':
      to = _array_record().ArrayRecordWriter(file.name, 'group_size:1')
      yield functools.partial(_written, path, to.write)
      _written(path, to.close)
      return

    def write(content: bytes) -> None:
      length = struct.pack('<Q', len(content))
      file.write(length + _FOOTER.pack(_checksum(length)) + content + _FOOTER.pack(_checksum(content)))
    yield write


def _written(path: str, write: Callable, *content: bytes) -> None:
  """Calls array_record's writer; UserError where the file cannot grow."""
  try:
    write(*content)
  except RuntimeError as error:
    raise UserError(f'cannot write {path}: {str(error).split(";")[0]}; free some space, or write '
                    'elsewhere') from None


@functools.cache
def _example_class():
  """Returns the message class of tf.train.Example, from its published field numbers."""
  from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
  file = descriptor_pb2.FileDescriptorProto(name='vit_jax_example.proto', package='vit_jax',
                                            syntax='proto3')
  field = descriptor_pb2.FieldDescriptorProto
  for name, kind in (('BytesList', field.TYPE_BYTES), ('FloatList', field.TYPE_FLOAT),
                     ('Int64List', field.TYPE_INT64)):
    file.message_type.add(name=name).field.add(name='value', number=1, type=kind,
                                               label=field.LABEL_REPEATED)
  feature = file.message_type.add(name='Feature')
  feature.oneof_decl.add(name='kind')
  for number, (name, kind) in enumerate((('bytes_list', 'BytesList'), ('float_list', 'FloatList'),
                                         ('int64_list', 'Int64List')), 1):
    feature.field.add(name=name, number=number, type=field.TYPE_MESSAGE, oneof_index=0,
                      type_name=f'.vit_jax.{kind}', label=field.LABEL_OPTIONAL)
  features = file.message_type.add(name='Features')
  entry = features.nested_type.add(name='FeatureEntry')
  entry.options.map_entry = True
  entry.field.add(name='key', number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
  entry.field.add(name='value', number=2, type=field.TYPE_MESSAGE, type_name='.vit_jax.Feature',
                  label=field.LABEL_OPTIONAL)
  features.field.add(name='feature', number=1, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED,
                     type_name='.vit_jax.Features.FeatureEntry')
  example = file.message_type.add(name='Example')
  example.field.add(name='features', number=1, type=field.TYPE_MESSAGE,
                    type_name='.vit_jax.Features', label=field.LABEL_OPTIONAL)
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName('vit_jax.Example'))


def parse_example(content: bytes, keys: Iterable[str] = ()) -> dict[str, Sequence]:
  """Returns {feature: its values (bytes, ints or floats)} of a serialized tf.train.Example.

  Args:
    content: of a record.
    keys: features to return, where they are there; none: all.

  Raises:
    ValueError: for bytes that are not such a message.
  """
  from google.protobuf.message import DecodeError
  try:
    message = _example_class().FromString(content)
  except DecodeError as error:
    raise ValueError(f'not a tf.train.Example: {error}') from None
  features = message.features.feature
  out = {}
  for key in keys or features:
    if key in features:
      kind = features[key].WhichOneof('kind')
      out[key] = getattr(features[key], kind).value if kind else ()
  return out


def write_example(features: Mapping[str, Sequence]) -> bytes:
  """Returns the serialized tf.train.Example of {feature: bytes, ints or floats}."""
  message = _example_class()()
  for key, values in features.items():
    kind = {bytes: 'bytes_list', float: 'float_list'}.get(type(values[0]) if values else int,
                                                         'int64_list')
    getattr(message.features.feature[key], kind).value.extend(values)
  return message.SerializeToString()
