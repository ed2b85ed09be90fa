"""What the recipes of detectors in configs/ share."""

import dataclasses
import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

from detr_jax import models
from detr_jax.models import pixels
from vit_jax import models as backbones
from vit_jax.errors import UserError

# DETR keeps the root, the first stage and all batch norms of its backbone as they were loaded.
FROZEN = ('backbone/(conv|bn)_root/.*', 'backbone/block1/.*', r'backbone/.*\bbn\w+/.*')
STAGES = 4  # of strides 4, 8, 16 and 32
# Fields with an entry for each stage.
PER_STAGE = ('depths', 'widths', 'num_heads', 'dilations', 'group_widths')


def backbone_fields(model: str) -> dict:
  """Returns the fields of the backbone of a named model, so that a config lists them."""
  return dict(models.variant(model).arguments['backbone_fields'])


def stages(backbone: str, depths: Sequence[int]) -> dict:
  """Returns the fields that make a backbone of the first stages of a named model, trained from scratch.

  Args:
    backbone: a model of `vit_jax` with stages, such as 'swin_t'.
    depths: one number for each stage that is kept; the model's own depths are taken.

  Raises:
    UserError: for a model without stages, with more than one of a stride, or an unknown one.
  """
  variant = backbones.variant(backbone)
  fields = {field.name: getattr(variant.module, field.name, None)
            for field in dataclasses.fields(variant.module)} | dict(variant.arguments)
  if 'depths' not in fields:
    raise UserError(f'{backbone} has one map, of its patches, and no stages to choose among by stride; '
                    'choose a model with stages, such as swin_t, convnext_t, nat_mini or resnet18')
  if len(fields['depths']) > STAGES:
    raise UserError(f'{backbone} has {len(fields["depths"])} stages, several of one stride; set '
                    'model.backbone_fields.depths, widths, expansions, kernel_sizes and strides instead')
  out = {name: fields[name][:len(depths)] for name in PER_STAGE if fields.get(name)}
  norms = getattr(sys.modules[variant.module.__module__], 'NORMS', ())
  return out | (dict(map_norms=True) if 'map_norms' in fields else
                dict(norm='group') if 'group' in norms else {})


def smoke(config: ConfigDict) -> None:
  """Shrinks a config in place to a minute on a CPU: a narrow, shallow model, small images, 30 steps.

  The recipe stays, but for the backbone's norm: without weights a frozen one is of no use. An
  `init_from` keeps the model, which must fit its weights.
  """
  if not config.init_from:
    fields = {**models.variant(config.model.name).arguments, **config.model}
    config.model.update(models.family(config.model.name).tiny(fields))
    if 'freeze' in config.optimizer:
      del config.optimizer['freeze']
  if config.data.source == 'digit_scenes':
    config.data.canvases, config.data.transforms = ((64, 64),), [dict(name='flip')]
    config.data.test_transforms = []
    config.data.train, config.data.test, config.data.panoptic = 'train[:256]', 'test[:32]', False
  config.data.batch_size = 8
  config.total_steps, config.total_epochs = 30, 0.
  for name in [name for name in config.schedule if name.endswith('_epochs')]:
    del config.schedule[name]
  if config.schedule.name == 'staircase':
    config.schedule.boundaries = (20,)
  else:
    config.schedule.warmup_steps = 5
  config.log.every = 10
  for section in (config.evaluate, config.checkpoint):
    section.update(every=15, every_epochs=0.)


SCALES = (.5, .75, 1., 1.25, 1.5, 1.75)  # of published figures with several scales


def published_views(data: ConfigDict, side: int, bound: int, window: int, multiscale: bool) -> None:
  """Sets how all published segmenters see images: windows of rescaled ones, their colours distorted.

  Args:
    data: `config.data` of a segmenter, in place.
    side, bound: short side to which images are resized, and a bound of the long one.
    window: side of the square that is cut out to train on.
    multiscale: whether test images are seen at several scales and mirrored.
  """
  data.transforms = [dict(name='random_scale', size=side, max_size=bound),
                     dict(name='window', size=(window, window)), dict(name='flip')]
  data.augment = [dict(name='photometric_distortion')]
  data.inference.update(short_side=side, max_size=bound)
  if multiscale:
    data.inference.update(scales=SCALES, flip=True)


def smoke_segmenter(config: ConfigDict) -> None:
  """Shrinks a config of a segmenter in place to a minute on a CPU: few images of 64x64, 20 steps."""
  config.total_steps, config.schedule.warmup_steps, config.data.batch_size = 20, 5, 8
  if config.data.source == 'digit_maps':
    config.data.update(train='train[:256]', test='test[:32]', window=(64, 64))
    for transform in config.data.transforms:
      if transform['name'] == 'window':
        transform['size'] = (64, 64)
  config.log.every = 10
  for section in (config.evaluate, config.checkpoint):
    section.update(every=10, every_epochs=0.)


def smoke_published_segmenter(config: ConfigDict) -> None:
  """Shrinks a recipe of a published segmenter in place: a small model on digit maps, windows of 64."""
  fields = {**pixels.variant(config.model.name).arguments, **config.model}
  config.model.update(pixels.family(config.model.name).tiny(fields))
  config.total_epochs = 0.
  config.data.update(source='digit_maps', zero_ignored=False, mean=(.5,) * 3, std=(.5,) * 3)
  config.data.inference.update(short_side=0, max_size=0)
  if config.data.inference.window:
    config.data.inference.update(window=64, stride=64)
  for transform in config.data.transforms:
    if transform['name'] == 'random_scale':
      transform.update(size=0, max_size=0)
  smoke_segmenter(config)
