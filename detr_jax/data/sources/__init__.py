"""Where images with boxes come from. A new built-in data set is a file beside this one.

A source has `name`, `categories` and `split(name) -> DetectionSplit`.
"""

import functools
import os

from detr_jax.data.sources.base import Categories, DetectionExample, DetectionSplit, Source
from detr_jax.data.sources.coco import Coco
from detr_jax.data.sources.digit_scenes import DigitScenes
from vit_jax.errors import UserError, unknown

BUILT_IN = dict(digit_scenes=DigitScenes)

__all__ = ['BUILT_IN', 'Categories', 'DetectionExample', 'DetectionSplit', 'Source', 'ground_truth',
           'open_source']


def open_source(config) -> Source:
  """Returns the source that `config.data` names; the same object for the same options.

  Raises:
    UserError: when it is none, or cannot be used.
  """
  if config['on_error'] not in ('raise', 'skip'):
    raise unknown('data.on_error', config['on_error'], ('raise', 'skip'))
  keys = ('source', 'data_dir', 'train', 'panoptic', 'masks', 'id_slots', 'on_error')
  return _open(*(config[key] for key in keys))


@functools.lru_cache(4)
def _open(name: str, data_dir: str, train: str, panoptic: bool, masks: bool, id_slots: int,
          on_error: str) -> Source:
  if name in BUILT_IN:
    return BUILT_IN[name]()
  if os.path.isdir(name):
    return Coco(name, train, panoptic, masks, id_slots, on_error)
  raise UserError(f'data source {name!r} is neither a folder nor one of: {", ".join(BUILT_IN)}')


def ground_truth(config) -> dict:
  """Returns the annotations of the test split of `config.data`, see `DetectionSplit.annotations`."""
  return open_source(config).split(config['test']).annotations()
