"""Where examples come from. A new built-in data set is a function here or a file beside this one.

A source has `name`, `classes`, `channels` and `split(name) -> Split`.
"""

import os

from vit_jax.data.sources.base import Source, Split
from vit_jax.data.sources.folder import Folder
from vit_jax.data.sources.memory import digits
from vit_jax.errors import UserError, nearest

BUILT_IN = dict(digits=digits)

__all__ = ['BUILT_IN', 'Source', 'Split', 'open_source']


def open_source(name: str, train: str, channels: int = 0) -> Source:
  """Returns the source that a config names.

  Args:
    name: a built-in name or the path of a folder of class folders.
    train: the training split, from which a folder's classes come.
    channels: 3 or 1; 0: as the source has them.

  Raises:
    UserError: when it is neither, or the folder cannot be used.
  """
  if channels not in (0, 1, 3):
    raise UserError(f'data.channels={channels}: images have 3 channels or 1 (0: as the source)')
  if name in BUILT_IN:
    return BUILT_IN[name](channels)
  if os.path.isdir(name):
    return Folder(name, train, channels or 3)
  hint = '' if os.sep in name else f'; {nearest(name, BUILT_IN)}'
  raise UserError(f'data source {name!r} is neither a built-in name nor a folder{hint}')
