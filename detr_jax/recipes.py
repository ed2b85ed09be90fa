"""What the recipes of detectors in configs/ share."""

from ml_collections import ConfigDict

from detr_jax import models

# DETR keeps the root, the first stage and all batch norms of its backbone as they were loaded.
FROZEN = ('backbone/(conv|bn)_root/.*', 'backbone/block1/.*', r'backbone/.*\bbn\w+/.*')


def backbone_fields(model: str) -> dict:
  """Returns the fields of the backbone of a named model, so that a config lists them."""
  return dict(models.variant(model).arguments['backbone_fields'])


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
