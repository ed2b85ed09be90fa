"""Where examples come from. A new built-in data set is a function here or a file beside this one.

A source has `name`, `classes`, `channels` and `split(name) -> Split`.
"""

import os

from vit_jax.data.sources.base import Example, Source, Split
from vit_jax.data.sources.folder import Folder
from vit_jax.data.sources.memory import digits
from vit_jax.data.sources.shards import Shards, record_files
from vit_jax.data.sources.tfds import TFDS, VTAB
from vit_jax.errors import UserError

BUILT_IN = dict(digits=digits)

__all__ = ['BUILT_IN', 'Example', 'Source', 'Split', 'open_source']


def open_source(config, name: str = '', train: str = '') -> Source:
  """Returns the source that a config names.

  Args:
    config: `config.data`: `source` is a built-in name, a folder of class folders, a folder of TFRecord
      or array_record shards, a folder that TFDS wrote, the name of a TFDS data set, or vtab/TASK.
    name, train: another source and training split than the config's; '' for its own. A folder's
      classes come from the training split.

  Raises:
    UserError: when it is none of them, or cannot be used.
  """
  name, train = os.path.expanduser(name or config['source']), train or config['train']
  channels = config['channels']
  if channels not in (0, 1, 3):
    raise UserError(f'data.channels={channels}: images have 3 channels or 1 (0: as the source)')
  if name in BUILT_IN:
    return BUILT_IN[name](channels)
  folder = os.path.isdir(name)
  prepared = folder and os.path.exists(os.path.join(name, 'dataset_info.json'))
  if not prepared and record_files(name):
    return Shards(name, channels, config['features'], config['classes'], config['max_labels'])
  if folder and not prepared:
    return Folder(name, train, channels or 3)
  if '://' in name:
    raise UserError(f'data source {name!r} is no folder of images or shards')
  if name.startswith('vtab/'):
    return VTAB(name.removeprefix('vtab/'), config['data_dir'], channels)
  return TFDS(name, config['data_dir'], channels, config['features'], config['max_labels'])
