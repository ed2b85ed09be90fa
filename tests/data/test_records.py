"""Record files: what is written is read, in the world's format, and what is damaged is named."""

import struct

import numpy as np
import pytest

from vit_jax.data import records
from vit_jax.errors import UserError

CONTENTS = [b'', b'a', bytes(range(256)) * 40, b'last']


@pytest.fixture(params=records.FORMATS)
def shard(request, tmp_path):
  path = str(tmp_path / f'train-00000-of-00001.{request.param}')
  with records.writer(path, request.param) as write:
    for content in CONTENTS[request.param == 'array_record':]:  # array_record holds no empty record
      write(content)
  return records.open_shard(path, request.param), CONTENTS[request.param == 'array_record':]


def test_records_are_read_in_any_order(shard):
  shard, contents = shard
  assert len(shard) == len(contents)
  for i in (2, 0, 1, 2):
    assert bytes(shard[i]) == contents[i]
    assert shard.path in shard.name(i)


def test_a_tfrecord_is_laid_out_as_published(tmp_path):
  """Length, masked CRC-32C of the length, content, masked CRC-32C of it: one record, byte by byte."""
  path = str(tmp_path / 'a.tfrecord')
  with records.writer(path, 'tfrecord') as write:
    write(b'123456789')
  content = open(path, 'rb').read()
  assert content[:8] == struct.pack('<Q', 9) and content[12:21] == b'123456789' and len(content) == 25
  crc = 0xe3069283  # of '123456789', the check value of CRC-32C
  masked = ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff
  assert content[21:] == struct.pack('<I', masked)


def test_a_file_in_a_bucket_is_read_like_a_local_one(tmp_path):
  from etils import epath
  path = str(tmp_path / 'a.tfrecord')
  with records.writer(path, 'tfrecord') as write:
    for content in CONTENTS:
      write(content)
  shard = records.TFRecords(path)
  shard.__dict__['_file'] = records._Remote(epath.Path(path))
  assert [shard[i] for i in range(len(shard))] == CONTENTS


@pytest.mark.parametrize('damage, said', [
    (lambda b: b'', 'is empty'), (lambda b: b[:20], 'is truncated'), (lambda b: b[:-3], 'is truncated'),
    (lambda b: b[:-30], 'is truncated'), (lambda b: b'GIF89a' + b * 3, 'is no TFRecord file'),
    (lambda b: bytes(200), 'is no TFRecord file'),
    (lambda b: b[:35] + b'x' + b[36:], 'is damaged: bad header at offset 33')])
def test_files_that_are_no_whole_tfrecords_are_told(tmp_path, damage, said):
  path = str(tmp_path / 'a.tfrecord')
  with records.writer(path, 'tfrecord') as write:
    for content in (b'first record 1234', b'second', b'x' * 100):
      write(content)
  whole = open(path, 'rb').read()
  open(path, 'wb').write(damage(whole))
  with pytest.raises(UserError, match=f'the shard {path} {said}'):
    len(records.TFRecords(path))


def test_a_header_that_declares_a_huge_record_reads_nothing(tmp_path):
  path = str(tmp_path / 'a.tfrecord')
  length = struct.pack('<Q', 10 ** 13)
  open(path, 'wb').write(length + struct.pack('<I', records._checksum(length)) + b'tiny')
  with pytest.raises(UserError, match='is truncated: its last record, at offset 0'):
    len(records.TFRecords(path))


def test_a_flipped_bit_is_found_and_named_by_its_offset(tmp_path):
  path = str(tmp_path / 'a.tfrecord')
  with records.writer(path, 'tfrecord') as write:
    for content in (b'one', b'two', b'three'):
      write(content)
  whole = bytearray(open(path, 'rb').read())
  whole[19 + 12] ^= 1  # in the content of the second
  open(path, 'wb').write(whole)
  shard = records.TFRecords(path)
  assert shard[0] == b'one' and shard[2] == b'three'
  with pytest.raises(UserError, match=f'a damaged record in {path} at offset 19: its checksum is wrong'):
    shard[1]


@pytest.mark.parametrize('content', [b'', b'nothing of the kind' * 10])
def test_files_that_are_no_array_records_are_told(tmp_path, content):
  path = tmp_path / 'a.array_record'
  path.write_bytes(content)
  with pytest.raises(UserError, match='is empty, truncated or no array_record file'):
    len(records.ArrayRecords(str(path)))


@pytest.mark.parametrize('file_format', records.FORMATS)
def test_a_missing_shard_is_told(tmp_path, file_format):
  with pytest.raises(UserError, match='cannot open the shard .*nowhere'):
    len(records.open_shard(str(tmp_path / 'nowhere'), file_format))


def test_an_interrupted_writer_leaves_no_shard(tmp_path):
  path = tmp_path / 'a.tfrecord'
  with pytest.raises(KeyboardInterrupt), records.writer(str(path), 'tfrecord') as write:
    write(b'half')
    raise KeyboardInterrupt
  assert not path.exists()


def test_examples_keep_bytes_ints_and_floats():
  features = dict(image=[b'\xff\xd8'], label=[3, -1, 2 ** 40], box=[.5, -1.25],
                  name=['ä'.encode()], none=[])
  content = records.write_example(features)
  got = {key: list(values) for key, values in records.parse_example(content).items()}
  assert got == features
  assert list(records.parse_example(content, ['label', 'absent'])) == ['label']


def test_an_example_has_the_bytes_of_the_published_message():
  """features { feature { key: 'a' value { int64_list { value: 1 } } } }, encoded by hand."""
  number = bytes([0x1a, 3, 0x0a, 1, 1])  # int64_list: packed value 1
  entry = bytes([0x0a, 1]) + b'a' + bytes([0x12, len(number)]) + number
  feature = bytes([0x0a, len(entry)]) + entry
  assert records.write_example(dict(a=[1])) == bytes([0x0a, len(feature)]) + feature


def test_what_is_no_example_is_told():
  with pytest.raises(ValueError, match=r'not a tf\.train\.Example'):
    records.parse_example(b'\xff\xff\xff\xff')
  assert records.parse_example(b'') == {}
  rng = np.random.default_rng(0)
  for _ in range(200):  # never anything but a result or that error
    try:
      records.parse_example(rng.bytes(60))
    except ValueError:
      pass


def test_a_truncated_array_record_is_told(tmp_path):
  path = str(tmp_path / 'a.array_record')
  with records.writer(path, 'array_record') as write:
    for i in range(200):
      write(bytes([i]) * 5000)
  whole = open(path, 'rb').read()
  open(path, 'wb').write(whole[:len(whole) // 2])
  with pytest.raises(UserError, match='truncated'):
    len(records.ArrayRecords(path))
