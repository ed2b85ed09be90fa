"""Writes a folder of images as record shards, which stream from disk or a bucket.

    python -m vit_jax.data.convert photos shards/photos --shards=16
    python -m vit_jax.data.convert photos shards/photos --shards=16 --format=array_record

Every split (a folder of class folders in the source) becomes `SPLIT-00000-of-00016.tfrecord` and so on:
tf.train.Examples with the untouched image file, its label and its name, mixed once, so that any stretch
of a shard holds many classes. `shards.json` names the classes. Train on them with
`--config.data.source=shards/photos`.
"""

import concurrent.futures
import os
import sys
import time
from collections.abc import Mapping

import numpy as np

from vit_jax import errors, files
from vit_jax.data import images, listing, records
from vit_jax.data.sources.base import Split
from vit_jax.data.sources.folder import Folder
from vit_jax.data.sources.shards import MANIFEST, record_files
from vit_jax.data.sources.tfds import no_folder
from vit_jax.flags import Parser, number


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.data.convert', description=__doc__)
  flags.add_argument('source', help='folder that holds SPLIT/CLASS/IMAGE')
  flags.add_argument('target', help='folder to write')
  flags.add_argument('--shards', type=number(1), default=16, help='of each split (default 16)')
  flags.add_argument('--splits', default='', help='such as train,test; default: all of the source')
  flags.add_argument('--train', default='train', help='split that gives the classes (default train)')
  flags.add_argument('--format', default='tfrecord', help='tfrecord (default) or array_record')
  flags.add_argument('--check', action='store_true', help='decode every image and name the damaged ones')
  return flags


class Progress:
  """Prints a line every few seconds: images, images/s, time left."""

  def __init__(self, total: int):
    self._total, self._done, self._start = total, 0, time.monotonic()
    self._said = self._start

  def add(self) -> None:
    """Counts an image."""
    self._done += 1
    now = time.monotonic()
    if now - self._said > 5. or self._done == self._total:
      self._said = now
      rate = self._done / max(now - self._start, 1e-9)
      print(f'{self._done:,} of {self._total:,} images, {rate:,.0f} images/s, '
            f'{(self._total - self._done) / rate:.0f} s left', flush=True)


def convert(source: str, target: str, *, shards: int = 16, splits: str = '', train: str = 'train',
            file_format: str = 'tfrecord', check: bool = False) -> dict:
  """Writes the shards and returns what `shards.json` holds.

  Args:
    source: folder that holds SPLIT/CLASS/IMAGE.
    target: folder to write.
    shards: of each split.
    splits: names, separated by commas; '' for all folders in the source.
    train: the split that gives the classes.
    file_format: 'tfrecord' or 'array_record'.
    check: whether to decode every image first.

  Raises:
    UserError: for a folder that is none, more shards than images, or damaged images (if `check`).
  """
  if file_format not in records.FORMATS:
    raise errors.unknown('--format', file_format, records.FORMATS)
  if not os.path.isdir(source):
    raise errors.UserError(f'{source!r} is {no_folder(source) or "no folder"}')
  folder = Folder(source, train)
  names = splits.split(',') if splits else listing.folders_in(source)
  found = {name: folder.split(name) for name in names}
  for name, split in found.items():
    if not 1 <= shards <= len(split):
      raise errors.UserError(f'--shards={shards}: the split {name!r} has {len(split)} images; choose '
                             f'between 1 and {len(split)}')
  if check:
    _check(found)
  try:
    return _write(folder, found, target, shards, file_format)
  except OSError as error:
    raise files.cannot_write(error, '' if error.filename else target) from None


def _write(folder: Folder, found: Mapping[str, Split], target: str, shards: int,
           file_format: str) -> dict:
  """Writes all splits and returns what `shards.json` holds."""
  written = {f'{name}-{i:05d}-of-{shards:05d}.{file_format}' for name in found for i in range(shards)}
  if other := sorted(set(record_files(target)) - written):
    raise errors.UserError(f'{target} holds other shards ({listing.some(other, 3)}), which would be '
                           'mixed with these; name another folder, or remove them')
  os.makedirs(target, exist_ok=True)
  progress, lengths = Progress(sum(map(len, found.values()))), {}
  for name, split in found.items():
    order = np.random.default_rng(0).permutation(len(split))
    for i, part in enumerate(np.array_split(order, shards)):
      file = f'{name}-{i:05d}-of-{shards:05d}.{file_format}'
      lengths[file] = len(part)
      with records.writer(os.path.join(target, file), file_format) as write:
        for index in part:
          example = split.read(int(index))
          write(records.write_example(dict(
              image=[example.content], label=list(example.labels),
              name=[listing.shown(os.path.relpath(example.name, folder.name)).encode()])))
          progress.add()
  manifest = dict(classes=folder.classes, lengths=lengths)
  files.write_json(os.path.join(target, MANIFEST), manifest)
  return manifest


def _check(splits) -> None:
  """Raises UserError with all images that cannot be decoded."""
  def broken(split, index):
    example = None
    try:
      example = split.read(index)
      example.image(3)
    except errors.UserError as error:
      return example.name if example else str(error)

  with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
    bad = [name for split in splits.values()
           for name in pool.map(lambda i, s=split: broken(s, i), range(len(split))) if name]
  for name in bad:
    print(f'damaged: {name}', file=sys.stderr)
  if bad:
    raise errors.UserError(f'{len(bad)} damaged image(s), the first is {bad[0]}; remove or replace '
                           'them, or write without --check and train with data.on_error=skip')


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  manifest = convert(flags.source, flags.target, shards=flags.shards, splits=flags.splits,
                     train=flags.train, file_format=flags.format, check=flags.check)
  print(f'wrote {sum(manifest["lengths"].values()):,} images in {len(manifest["lengths"])} shards')
  print(f'train with --config.data.source={flags.target}')


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.data.convert', main)
