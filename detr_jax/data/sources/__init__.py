"""Where images with boxes come from. A new built-in data set is a file beside this one.

A source has `name`, `categories` and `split(name) -> DetectionSplit`.
"""

import difflib
import functools
import os

from detr_jax.data.sources.base import Categories, DetectionExample, DetectionSplit, Source, say
from detr_jax.data.sources.coco import Coco
from detr_jax.data.sources.digit_scenes import DigitScenes
from detr_jax.data.sources.tfds import TFDS
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
  folder = os.path.isdir(name)
  if not folder and difflib.get_close_matches(name, BUILT_IN, cutoff=.8):
    raise unknown('data source', name, BUILT_IN)
  if folder and not os.path.exists(os.path.join(name, 'dataset_info.json')):
    return Coco(name, train, panoptic, masks, id_slots, on_error)
  if name.startswith((os.sep, '.', '~')) and not folder:
    raise UserError(f'data source {name!r} is no folder; expected one with annotations/*.json')
  return TFDS(name, data_dir, masks, id_slots, on_error)


def ground_truth(config) -> dict:
  """Returns what average precision on the test split of `config.data` is counted against.

  That is `DetectionSplit.annotations`; of panoptic data the instance annotations of the things, as
  DETR's authors do (section 4.4), or, where there are none, the boxes of all segments, which is told.

  Raises:
    UserError: instance annotations that do not fit the panoptic ones.
  """
  source = open_source(config)
  split = source.split(config['test'])
  if split.instances:
    return split.instances()
  if split.panoptic:
    say(f'{source.name} has no instance annotations of {config["test"]} beside the panoptic ones (as '
        'annotations/instances_SPLIT.json): AP is that of the boxes of all segments, none of masks')
  return split.annotations()
