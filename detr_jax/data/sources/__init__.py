"""Where images with boxes come from. A new built-in data set is a file beside this one.

A source has `name`, `categories` and `split(name) -> DetectionSplit`.
"""

import difflib
import functools
import os

from detr_jax.data.sources.base import Categories, DetectionExample, DetectionSplit, Source, say
from detr_jax.data.sources.coco import Coco, find, split_parts, stamp
from detr_jax.data.sources.digit_scenes import DigitScenes
from detr_jax.data.sources.tfds import TFDS
from vit_jax.data.sources.tfds import no_folder
from vit_jax.errors import UserError, unknown

BUILT_IN = dict(digit_scenes=DigitScenes)
CHOICES = dict(on_error=('raise', 'skip'), outside=('error', 'clip'), exif=('upright', 'stored'),
               segments=('annotated', 'published'))

__all__ = ['BUILT_IN', 'Categories', 'DetectionExample', 'DetectionSplit', 'Source', 'ground_truth',
           'open_source']


def open_source(config) -> Source:
  """Returns the source that `config.data` names; the same object for the same options.

  Raises:
    UserError: when it is none, or cannot be used.
  """
  chosen = {key: config.get(key, known[0]) for key, known in CHOICES.items()}  # older runs lack some
  for key, value in chosen.items():
    if value not in CHOICES[key]:
      raise unknown(f'data.{key}', value, CHOICES[key])
  keys = ('source', 'data_dir', 'train', 'panoptic', 'masks', 'id_slots')
  return _open(*(config[key] for key in keys), *chosen.values(), _stamp(config))


def _stamp(config) -> tuple | None:
  """Returns what changes when the annotations of the training split are written anew."""
  if not os.path.isdir(config['source']):
    return None
  try:
    root, panoptic = config['source'], config['panoptic']
    return stamp(find(root, split_parts(root, config['train'], panoptic)[0].name, panoptic).json)
  except UserError:  # opening it tells what is wrong
    return None


@functools.lru_cache(4)
def _open(name: str, data_dir: str, train: str, panoptic: bool, masks: bool, id_slots: int,
          on_error: str, outside: str, exif: str, segments: str, _: tuple | None) -> Source:
  if name in BUILT_IN:
    return BUILT_IN[name]()
  folder = os.path.isdir(name)
  if not folder and difflib.get_close_matches(name, BUILT_IN, cutoff=.8):
    raise unknown('data source', name, BUILT_IN)
  if folder and not os.path.exists(os.path.join(name, 'dataset_info.json')):
    return Coco(name, train, panoptic, masks, id_slots, on_error, outside, exif, segments)
  if not folder and (reason := no_folder(name)):
    raise UserError(f'data source {name!r} is {reason}; expected a folder with annotations/*.json, or '
                    'of VOC or YOLO')
  return TFDS(name, data_dir, masks, id_slots, on_error, exif == 'stored', segments == 'published')


def ground_truth(config, name: str = 'test') -> dict:
  """Returns what average precision on the split `config.data[name]` is counted against.

  That is `DetectionSplit.annotations`; of panoptic data the instance annotations of the things, as
  DETR's authors do (section 4.4), or, where there are none, the boxes of all segments, which is told.

  Raises:
    UserError: instance annotations that do not fit the panoptic ones.
  """
  source = open_source(config)
  split = source.split(config[name])
  if split.instances:
    return split.instances()
  if split.panoptic:
    say(f'{source.name} has no instance annotations of {config[name]} beside the panoptic ones (as '
        'annotations/instances_SPLIT.json): AP is that of the boxes of all segments, none of masks')
  return split.annotations()
