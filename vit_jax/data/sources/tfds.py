"""Data sets that TensorFlow Datasets has prepared, read without TensorFlow."""

import difflib
import fnmatch
import os
import re

from vit_jax.data import records
from vit_jax.data.sources.base import Split, parse_split
from vit_jax.data.sources.shards import Decoder, Known, resolved, shard_split
from vit_jax.errors import UserError, unknown
from vit_jax.data.sources import vtab


ARCHIVES = ('zip', 'tar', 'tgz', 'tbz', 'tbz2', 'txz', 'gz', 'bz2', 'xz', 'zst', '7z', 'rar')
PLACES = ('data', 'dataset', 'datasets', 'images', 'photos', 'pictures', 'shards', 'runs')  # of no TFDS


class TFDS:
  """A prepared TFDS data set of labelled images, by name."""

  def __init__(self, name: str, data_dir: str, channels: int, features, max_labels: int):
    """Reads what TFDS wrote beside the data.

    Args:
      name: such as 'cifar10', 'imagenet2012:5.1.0' or 'imagenet_v2/matched-frequency'; or the folder
        that holds `dataset_info.json`.
      data_dir: where TFDS keeps its data; '' for its own default.
      channels: 3, 1, or 0 for the data's own.
      features: `config.data.features`.
      max_labels: of an example, for data with several.

    Raises:
      UserError: for an unknown name, data that is not prepared (with the command), or without an image
        and a label.
    """
    self.name, self.max_labels = name, max_labels
    self._builder = open_builder(name, data_dir)
    info = self._builder.info
    label = features['label'] or self._label_feature(info)
    image = features['image'] or self._image_feature(info)
    shape = getattr(info.features[image], 'shape', None) or (None, None, 3)
    self.channels = channels or (shape[-1] if shape[-1] in (1, 3) else 3)
    kind = getattr(info.features[label], 'feature', info.features[label])  # of a sequence: its items
    self.classes = tuple(str(n) for n in getattr(kind, 'names', ())) or tuple(
        str(i) for i in range(getattr(kind, 'num_classes', None) or 0))
    if not self.classes:
      raise UserError(f'feature {label!r} of the TFDS data set {name!r} is no class label; set '
                      f'data.features.label to one of: {", ".join(info.features)}')
    given = dict(features, image=image, label=label)
    real = 'real_label' if 'real_label' in info.features and label != 'real_label' else ''
    self._decoder = Decoder(len(self.classes), max_labels=max_labels, real=real, **given)

  def _label_feature(self, info) -> str:
    supervised = info.supervised_keys
    if supervised and supervised[1] in info.features:
      return supervised[1]
    for key in ('label', 'labels', 'original_label'):
      if key in info.features:
        return key
    raise UserError(f'the TFDS data set {self.name!r} has no label that is known; set '
                    f'data.features.label to one of: {", ".join(info.features)}')

  def _image_feature(self, info) -> str:
    for key, feature in info.features.items():
      if type(feature).__name__ == 'Image':
        return key
    raise UserError(f'the TFDS data set {self.name!r} holds no images, but: '
                    f'{", ".join(sorted(info.features))}')

  def split(self, name: str) -> Split:
    """Returns a split, such as 'train[:90%]' or 'train[:800]+validation'; see `record_split`."""
    return record_split(self._builder.info, self.name, name, self._decoder)


class VTAB:
  """A task of VTAB-1k over the TFDS data set it is made of, see `vit_jax.data.sources.vtab`."""

  def __init__(self, task: str, data_dir: str, channels: int):
    """Finds the prepared data set.

    Args:
      task: such as 'cifar100' or 'clevr_count'.
      data_dir: as of `TFDS`.
      channels: 3, 1, or 0 for the data's own.

    Raises:
      UserError: for an unknown task, or data that is not prepared.
    """
    self.name, self._task, self.max_labels = f'vtab/{task}', vtab.task(task), 1
    self._builder = open_builder(self._task.tfds, data_dir)
    self.channels = channels or 3
    self.classes = tuple(str(i) for i in range(self._task.num_classes))

  def split(self, name: str) -> Split:
    """Returns 'train' (1,000 examples), 'train800', 'val200' or 'test'; UserError for another name."""
    splits = {n: getattr(self._task, n) for n in ('train', 'train800', 'val200', 'test')}
    if name not in splits:
      raise unknown(f'split of {self.name!r}:', name, splits)
    decoder = Decoder(self._task.num_classes, image='image', rule=self._task.label,
                      image_scale=self._task.image_scale)
    return record_split(self._builder.info, self.name, splits[name], decoder)


def record_split(info, source: str, name: str, decoder: Decoder) -> Split:
  """Returns a split of a prepared data set.

  Args:
    info: of the TFDS builder.
    source: name of the data set, for messages.
    name: of the split.
    decoder: of its records.

  Raises:
    UserError: for an unknown split, another file format, or missing or damaged files.
  """
  file_format = info.file_format.value
  if file_format not in records.FORMATS:
    raise UserError(f'the TFDS data set {source!r} is stored as {file_format}; prepare it as one of: '
                    f'{", ".join(records.FORMATS)}')
  shards, lengths, ranges = [], [], []
  for part in parse_split(name):
    if part.name not in info.splits:
      raise unknown(f'split of {source!r}:', part.name, info.splits)
    split = info.splits[part.name]
    start, stop = part.bounds(split.num_examples)
    ranges.append((start + sum(lengths), stop + sum(lengths)))
    shards += [Known(str(path), file_format, count)
               for path, count in zip(split.filepaths, split.shard_lengths)]
    lengths += split.shard_lengths
  return shard_split(shards, lengths, ranges, resolved(decoder, shards))


def open_builder(name: str, data_dir: str):
  """Returns the read-only TFDS builder of a prepared data set.

  Args:
    name: NAME or NAME/CONFIG, either with :VERSION such as :3.0.2 or :3.*.*; or a folder that holds
      `dataset_info.json`.
    data_dir: '' for `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.

  Raises:
    UserError: when TFDS is missing, or the data set is not prepared there.
  """
  folder = name if os.path.isdir(name) else find_prepared(name, data_dir)
  try:
    import tensorflow_datasets as tfds
  except ImportError:
    raise UserError(f"to read {folder}: pip install 'vit_jax[data]'") from None
  return tfds.builder_from_directory(folder)


def find_prepared(name: str, data_dir: str) -> str:
  """Returns the folder in which TFDS has prepared a data set; the newest version if none is asked for.

  Raises:
    UserError: when there is none, with the command that prepares it.
  """
  root = os.path.expanduser(data_dir or os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets'))
  short, _, version = name.partition(':')
  place = os.path.join(root, short)
  found = {}
  for folder in (place, *sorted(e.path for e in _folders(place))):  # a lone config need not be named
    for entry in _folders(folder):
      if fnmatch.fnmatch(entry.name, version or '*.*.*') and os.path.exists(
          os.path.join(entry.path, 'dataset_info.json')):
        found.setdefault(folder, []).append(entry.path)
  if len(found) > 1:
    configs = ', '.join(os.path.relpath(folder, root) for folder in found)
    raise UserError(f'the TFDS data set {name!r} has several configs in {root}: {configs}; name one')
  if found:
    number = lambda path: [int(n) for n in os.path.basename(path).split('.')]
    return max(next(iter(found.values())), key=number)
  if told := no_folder(name):
    raise UserError(f'data source {name!r} is {told}')
  there = sorted(e.name for place in (root, '.') for e in _folders(place))
  close = difflib.get_close_matches(short, ['digits', *there], n=1, cutoff=.7)
  hint = f'did you mean {close[0]!r}? To' if close and close[0] != short else 'to'
  raise UserError(f'data source {name!r} is neither a built-in name, a folder, nor a TFDS data set that '
                  f'is prepared in {root}; {hint} prepare it: pip install tensorflow-cpu, then tfds '
                  f'build {short}{":" * bool(version)}{version} --data_dir={root}')


def no_folder(name: str) -> str:
  """Returns why a source that is not there can be no TFDS data set, but a path; '' if it can be one.

  Args:
    name: of the source: no folder, and no prepared data set.
  """
  suffix = re.search(r'\.([a-z]\w*)$', name.lower())
  if suffix and suffix[1] in ARCHIVES:
    return 'an archive, not a folder; unpack it and name the folder that comes out'
  if os.path.isfile(name):
    return 'a file, not a folder; name the folder that holds it'
  first, inner, _ = name.partition('/')
  if not suffix and re.fullmatch(r'[a-z]\w*(/[\w.+-]+)?(:[\d.*]+)?', name) and not (
      inner and (first in PLACES or os.path.isdir(first))):
    return ''
  base, parts = os.sep * name.startswith(os.sep), name.strip(os.sep).split(os.sep)
  while os.path.isdir(os.path.join(base, parts[0])):
    base = os.path.join(base, parts.pop(0))
  near = difflib.get_close_matches(parts[0], [e.name for e in _folders(base or '.')], n=1)
  hint = f'; did you mean {os.path.join(base, *near)!r}?' if near else ''
  if not near and (base and base != os.sep or not os.path.isabs(name)):
    hint = f': there is no {parts[0]!r} in {base or os.getcwd()}'
  return f'no folder of images or shards{hint}'


def _folders(path: str) -> list[os.DirEntry]:
  return [e for e in os.scandir(path) if e.is_dir()] if os.path.isdir(path) else []
