"""Record files of tf.train.Example: TFRecord or array_record shards, streamed, never held in memory.

A folder with files such as `train-00003-of-00128.tfrecord`, each record an encoded image with one label
or several. Written by `python -m vit_jax.data.convert`, by TFDS, or by your own pipeline.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence

import numpy as np

from vit_jax import files
from vit_jax.data import images, listing, records
from vit_jax.data.sources.base import Example, Part, Split, parse_split
from vit_jax.errors import Unreadable, UserError, nearest

MANIFEST = 'shards.json'  # what `vit_jax.data.convert` says of its shards

IMAGES = ('image', 'image/encoded', 'image_raw', 'jpeg', 'jpg')
LABELS = ('label', 'labels', 'image/class/label', 'cls', 'fine_label')
MAX_REAL = 16  # ReaL labels that a record may hold
NAMES = ('name', 'image/filename', 'file_name', 'filename', 'id', 'tfds_id')


class FeatureError(UserError):
  """Examples do not hold what the config says; no record will, so none is skipped."""


@dataclasses.dataclass(frozen=True)
class Decoder:
  """What stands where in an example.

  Attributes:
    image, label, name: features; '' looks for the usual ones, and does without a name.
    real: feature with ImageNet-ReaL's labels, or ''.
    num_classes: labels lie below it.
    max_labels: labels that an example may have.
    first_label: label of the first class in the files (1 in older ImageNet shards).
    rule: makes the label from all features, instead of `label`.
    image_scale: what pixel values are multiplied by to reach 0 .. 255.
  """
  num_classes: int
  image: str = ''
  label: str = ''
  name: str = ''
  real: str = ''
  max_labels: int = 1
  first_label: int = 0
  rule: Callable | None = None
  image_scale: int = 1

  def resolve(self, content: bytes, where: str) -> 'Decoder':
    """Returns the decoder with the features that a record has; FeatureError when one is missing."""
    try:
      there = records.parse_example(content)
    except ValueError as error:
      raise FeatureError(f'{where} is {error}') from None
    find = lambda usual: next((key for key in usual if key in there), '')
    found = dict(image=self.image or find(IMAGES), label=self.label or find(LABELS),
                 name=self.name or find(NAMES))
    for key in ('image', 'label'):
      if found[key] not in there and not (key == 'label' and self.rule):
        wanted = repr(getattr(self, key)) if getattr(self, key) else 'that is known'
        raise FeatureError(f'{where} has no {key} feature {wanted}; it has: '
                           f'{", ".join(sorted(there))}; set data.features.{key}')
    return dataclasses.replace(self, **found)

  def __call__(self, content: bytes, where: Callable[[], str]) -> Example:
    """Returns the example in a record.

    Args:
      content: of the record.
      where: returns its place, for messages.

    Raises:
      UserError: when a feature is absent or of another type, or a label out of range.
    """
    keys = [key for key in (self.image, self.label, self.name, self.real) if key and not self.rule]
    try:
      features = records.parse_example(content, keys)
    except ValueError as error:
      raise Unreadable(f'{where()} is {error}; write the shard again') from None
    encoded = self._values(features, self.image, bytes, where)
    if len(encoded) != 1:
      raise FeatureError(f'feature {self.image!r} of {where()} holds {len(encoded)} images, not 1')
    place = where()
    if self.name and features.get(self.name) and isinstance(features[self.name][0], bytes):
      place = f'{features[self.name][0].decode(errors="replace")} in {place}'
    labels = (self._in_range((int(self.rule(features)),), where) if self.rule else
              self._labels(features, self.label, where))
    if self.max_labels == 1 and len(labels) != 1:
      raise UserError(f'feature {self.label!r} of {place} holds {len(labels)} labels, not 1; for '
                      'multi-label data set data.max_labels')
    if len(labels) > self.max_labels:
      raise UserError(f'{place} has {len(labels)} labels; set data.max_labels to at least that')
    real = self._labels(features, self.real, where) if self.real else ()
    if len(real) > MAX_REAL:
      raise UserError(f'{place} has {len(real)} labels in {self.real!r}; at most {MAX_REAL} are kept')
    content = encoded[0]
    if self.image_scale != 1:
      content = images.to_array(images.decode(content, 3, place)) * np.uint8(self.image_scale)
    return Example(content, labels, place, real)

  def _values(self, features, key: str, kind: type, where) -> Sequence:
    if key not in features:
      raise FeatureError(f'{where()} has no feature {key!r}')
    values = features[key]
    if len(values) and not isinstance(values[0], kind):
      raise FeatureError(f'feature {key!r} of {where()} is {type(values[0]).__name__}, not '
                         f'{kind.__name__}; set data.features to another one')
    return values

  def _labels(self, features, key: str, where) -> tuple[int, ...]:
    values = self._values(features, key, int, where)
    return self._in_range(tuple(int(n) - self.first_label for n in values), where)

  def _in_range(self, labels: tuple[int, ...], where) -> tuple[int, ...]:
    wrong = [n + self.first_label for n in labels if not 0 <= n < self.num_classes]
    if wrong:
      what = (f'label {wrong[0]} of {where()} is out of range: {self.num_classes} classes, from '
              f'{self.first_label} on')
      if wrong[0] == self.num_classes + self.first_label == self.num_classes:
        # Skipped, all examples of a class would go, and those of the others stand under wrong names.
        raise FeatureError(f'{what}; if the labels count from 1, set data.features.first_label=1, else '
                           'mend data.classes')
      raise Unreadable(f'{what}; mend data.classes or the shard')
    return labels


def shard_split(shards: Sequence, lengths: Sequence[int], parts: Sequence[tuple[int, int]],
                decode: Decoder) -> Split:
  """Returns a split of parts of a row of shards.

  Args:
    shards: sequences of records.
    lengths: their records.
    parts: (start, stop) among all records.
    decode: (record, where) -> example.
  """
  starts = np.concatenate([[0], np.cumsum(lengths)])
  segments = []  # (shard, first record, records)
  for low, high in parts:
    for i in range(len(shards)):
      first, last = max(low, starts[i]), min(high, starts[i + 1])
      if first < last:
        segments.append((i, int(first - starts[i]), int(last - first)))
  ends = np.cumsum([count for *_, count in segments])

  def read(index: int) -> Example:
    segment = int(np.searchsorted(ends, index, side='right'))
    shard, first, count = segments[segment]
    at = first + index - int(ends[segment]) + count
    return decode(shards[shard][at], lambda: shards[shard].name(at))

  return Split([count for *_, count in segments], read, max_real=MAX_REAL if decode.real else 0)


class Shards:
  """A folder of TFRecord or array_record files."""

  def __init__(self, root: str, channels: int, features, classes: str, max_labels: int):
    """Lists the files.

    Args:
      root: holds the files.
      channels: 3 for RGB, 1 for grayscale.
      features: `config.data.features`.
      classes: their number, or a file with a name a line; '' as the folder's own manifest says.
      max_labels: of an example.

    Raises:
      UserError: when the classes are not known.
    """
    self.name, self.channels, self.max_labels = root, channels or 3, max_labels
    self.files = record_files(root)
    self.classes = class_names(root, classes)
    self._lengths = manifest(root).get('lengths', {})
    self._decoder = Decoder(len(self.classes), max_labels=max_labels, **dict(features))

  def split(self, name: str) -> Split:
    """Returns a split, such as 'train', 'train[:90%]' or a pattern of file names such as 'train-0*'.

    Raises:
      UserError: for missing, empty, truncated or wrong shards.
    """
    parts = parse_split(name, lambda whole: bool(self._matching(whole)))
    shards, lengths, ranges = [], [], []
    for part in parts:
      new = [self._open(file) for file in self._files_of(part)]
      new_lengths = [len(shard) for shard in new]
      start, stop = part.bounds(sum(new_lengths))
      ranges.append((start + sum(lengths), stop + sum(lengths)))
      shards += new
      lengths += new_lengths
    return shard_split(shards, lengths, ranges, resolved(self._decoder, shards))

  def _open(self, file: str):
    """Returns a shard; its headers are walked now, unless the manifest tells its length."""
    path = os.path.join(self.name, file)
    length = self._lengths.get(file)
    return (records.open_shard(path, file_format(file)) if length is None else
            Known(path, file_format(file), length))

  def _matching(self, name: str) -> list[str]:
    """Returns the files of the split of a name."""
    pattern = re.escape(name).replace(r'\*', '.*')
    of_name = re.compile(rf'(.*[-_.])?{pattern}([-.].*)?')
    return sorted(f for f in self.files if of_name.fullmatch(f))

  def _files_of(self, part: Part) -> list[str]:
    """Returns the files of a whole split; UserError when one is missing."""
    found = self._matching(part.name)
    if not found:
      raise UserError(f'{self.name} has no shards of the split {part.name!r}; '
                      f'{nearest(part.name, self.files)}')
    numbered = [re.search(r'(\d{3,})-of-(\d{3,})', f) for f in found]
    counts = {int(n[2]) for n in numbered if n}
    if '*' not in part.name and all(numbered) and counts != {len(found)}:
      missing = sorted(set(range(max(counts))) - {int(n[1]) for n in numbered})
      raise UserError(f'{self.name} has {len(found)} of {max(counts)} shards of the split '
                      f'{part.name!r}; missing: {", ".join(map(str, missing[:5]))}')
    return found


class Known:
  """A shard whose number of records is known before it is opened."""

  def __init__(self, path: str, file_format: str, length: int):
    self.path = path
    self._shard, self._length, self._checked = records.open_shard(path, file_format), length, False
    if '://' not in path and not os.path.exists(path):
      raise UserError(f'the shard {path} is missing; write it again')

  def __len__(self) -> int:
    return self._length

  def name(self, index: int) -> str:
    return self._shard.name(index)

  def __getitem__(self, index: int) -> bytes:
    if not self._checked and len(self._shard) != self._length:
      raise UserError(f'the shard {self.path} holds {len(self._shard)} records, not the {self._length} '
                      'that are written beside it; write it again')
    self._checked = True
    return self._shard[index]


def resolved(decoder: Decoder, shards: Sequence) -> Decoder:
  """Returns the decoder with the features of the first record that can be read."""
  reason = None
  for shard in shards:
    for i in range(min(len(shard), 10)):  # none is empty
      try:
        content = shard[i]
      except UserError as error:
        reason = error
        continue  # a damaged record: told, or skipped, when its turn comes
      decoder = decoder.resolve(content, shard.name(i))
      decoder(content, lambda: shard.name(i))  # noqa: B023 - called at once
      return decoder
  raise reason


def file_format(file: str) -> str:
  """Returns the record format of a file name."""
  return 'array_record' if 'array_record' in file.lower() else 'tfrecord'


# Names of record files: also Kaggle's .tfrec, .record of TensorFlow's detection models, or no suffix.
_RECORDS = r'.*\.(tfrecords?|tfrec|tfr|records?|array_records?)(-\d+-of-\d+)?|.*-\d{5}-of-\d{5}'


def record_files(root: str) -> list[str]:
  """Returns the names of the record files in a folder, local or in a bucket; none: [] .

  Raises:
    UserError: a bucket that cannot be listed, or files that are compressed.
  """
  if os.path.isdir(root):
    names = [e.name for e in os.scandir(root) if e.is_file()]
  elif '://' in root:
    names = _remote_names(root)
  else:
    names = []
  of_kind = lambda form: sorted(n for n in names if listing.visible(n) and re.fullmatch(
      form, n, re.IGNORECASE))
  if packed := of_kind(rf'({_RECORDS})\.(gz|gzip|bz2|xz|zst)'):
    raise UserError(f'{root} has {len(packed)} compressed record file(s) ({packed[0]}), of which no '
                    'record can be read by itself; unpack them first, as by gunzip')
  return of_kind(_RECORDS)


def _remote_names(root: str) -> list[str]:
  try:
    from etils import epath
    return [p.name for p in epath.Path(root).iterdir()]
  except (OSError, NotImplementedError, ImportError, ValueError) as error:
    raise UserError(f'cannot list the folder {root}: {error}') from None


def class_names(root: str, classes: str) -> tuple[str, ...]:
  """Returns the names of the classes, or their numbers where only the count is known.

  Args:
    root: the shards' folder.
    classes: a count, a file with one name a line, or '' for the folder's `shards.json`.

  Raises:
    UserError: when they are not known.
  """
  if classes.isdigit():
    return tuple(str(i) for i in range(int(classes)))
  if classes:
    return _listed(classes)
  found = manifest(root).get('classes')
  if not found:
    raise UserError(f'the classes of {root} are not known, for it holds no {MANIFEST} that names them; '
                    'set data.classes to their number, or to a file with one name a line')
  return tuple(found)


def _listed(path: str) -> tuple[str, ...]:
  """Returns the lines of a text file that are not blank, in UTF-8, UTF-16 or else Latin-1."""
  try:
    with open(os.path.expanduser(path), 'rb') as file:
      content = file.read()
  except OSError as error:
    raise UserError(f'data.classes={path!r} is neither a number nor a file that can be read: '
                    f'{error.strerror}') from None
  try:
    text = content.decode('utf-16' if content[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig')
  except ValueError:
    text = content.decode('latin-1')
  names = tuple(line.strip() for line in text.splitlines() if line.strip())
  if not names:
    raise UserError(f'data.classes={path!r} holds no name; write one class a line')
  return names


def manifest(root: str) -> dict:
  """Returns what `shards.json` says: `classes`, and `lengths` of the files; {} where there is none.

  Raises:
    UserError: when it is damaged.
  """
  path = os.path.join(root, MANIFEST)
  try:
    found = files.read_json(path, 'write the shards again')
  except FileNotFoundError:
    return {}
  classes, lengths = (found.get(key) or kind() for key, kind in (('classes', list), ('lengths', dict))
                      ) if isinstance(found, dict) else (None, None)
  if not isinstance(classes, list) or not isinstance(lengths, dict) or not all(
      isinstance(name, str) for name in classes) or not all(
      type(n) is int and n > 0 for n in lengths.values()):
    raise UserError(f'{path} is damaged (expected a list "classes" of names, and "lengths" of files); '
                    'write the shards again')
  return dict(classes=classes, lengths=lengths)
