"""What the recipes in configs/ share: published data, models of every family, and their smoke tests."""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from vit_jax import config as config_lib, models
from vit_jax.errors import UserError, unknown

# What papers pre-train on: TFDS names and splits; ImageNet-21k's as big_vision has them. JFT-300M is
# not public: any folder of TFRecord shards may stand in its place.
PRETRAINING = dict(
    imagenet1k=dict(source='imagenet2012', train='train', test='validation'),
    imagenet21k=dict(source='imagenet21k', train='full[51200:]', test='full[:25600]'),
    jft=dict(source='jft', train='train', test='validation', max_labels=8))

def one_of(kind: str, name: str, options):
  """Returns `options[name]`, or `name` where the options are a sequence of names.

  Raises:
    UserError: for a name that is not among them; `kind` says of what.
  """
  if name not in options:
    raise unknown(kind, name, options)
  return options[name] if isinstance(options, Mapping) else name


def model(name: str, hidden_layer: bool = False, **fields) -> dict:
  """Returns `config.model`: of the fields, those that this architecture has.

  So one recipe serves a paper's whole list of models: a ResNet has no dropout and no stack to scan.

  Args:
    name: of the model.
    hidden_layer: a layer of tanh, as wide as the model, before the head.
    **fields: of the module.

  Raises:
    UserError: for an unknown model.
  """
  variant = models.variant(name)
  if hidden_layer:
    fields['representation_size'] = variant.arguments['width']
  own = {field.name for field in dataclasses.fields(variant.module)}
  return dict(name=name, dtype='float32', **{k: v for k, v in fields.items() if k in own})


def evaluate_and_save(config: ConfigDict, times: int = 20) -> None:
  """Spreads evaluations and checkpoints evenly over a run, in place.

  The intervals follow the length, also where that is overridden later: steps where it is given in
  steps, epochs where it is in epochs.

  Args:
    config: whose `total_steps` or `total_epochs` is the length.
    times: how often in a run, at least; a run of fewer steps is evaluated at its end alone.
  """
  for section in (config.evaluate, config.checkpoint):
    section.every = config.get_oneway_ref('total_steps') // times
    section.every_epochs = config.get_oneway_ref('total_epochs') / times


def warmup(a, config: ConfigDict, steps: int) -> dict:
  """Returns the warm-up of `config.schedule`: the paper's on its own data, a tenth of the run on other.

  Args:
    a: arguments of the config: `data` and `dataset`, as those of `pretraining_data`.
    config: whose `total_steps` or `total_epochs` is the length.
    steps: of the paper.
  """
  if a.data or any(row['source'] == a.dataset for row in PRETRAINING.values()):
    return dict(warmup_steps=steps)
  return dict(warmup_steps=config.get_oneway_ref('total_steps') // 10,
              warmup_epochs=config.get_oneway_ref('total_epochs') / 10.)


def pretraining_data(a, minival: bool = False) -> ConfigDict:
  """Returns `config.data` for training from random weights, as big_vision crops and tests.

  Args:
    a: arguments of the config: `dataset`, if set, is the source; else `data` names a published one;
      without both, and where `smoke` is set and `dataset` is not, it is the digits. `resolution` and
      `batch_size`.
    minival: whether the last 1 % of ImageNet-1k's training images are kept for choices: `validation`.

  Raises:
    UserError: for an unknown name of `data`.
  """
  published = one_of('data', a.data, PRETRAINING) if a.data else {}
  c = config_lib.image_data(a.dataset or 'digits', a.resolution, a.batch_size)
  if published and not a.dataset and not a.smoke:
    c.update(published)
    if minival and a.data == 'imagenet1k':
      c.train, c.validation = 'train[:99%]', 'train[99%:]'
  elif a.dataset:  # by the name of its source
    c.update(next((row for row in PRETRAINING.values() if row['source'] == a.dataset), {}))
  elif published:
    c.max_labels = published.get('max_labels', 1)
  c.crop = dict(name='inception', min_area=.05)
  c.eval_crop = dict(name='center', ratio=.875)
  c.augment = [dict(name='flip')]
  return c


def smoke(config: ConfigDict) -> None:
  """Shrinks a config in place to a minute on a CPU: a narrow, shallow model, small images, 30 steps.

  The recipe stays. An `init_from` keeps the model, which must fit its weights.
  """
  if not config.init_from:
    family, name = models.family(config.model.name), config.model.name
    if family.tiny is None:
      raise UserError(f'the family of {name} has no small form for smoke; leave smoke out')
    config.model.update(family.tiny({**models.variant(name).arguments, **config.model}))
  config.data.resolution = tuple(16 for _ in config.data.resolution)
  config.data.batch_size = 32 - 32 % (8 * config.data.repeats)
  config.total_steps, config.total_epochs = 30, 0.
  for name in [name for name in config.schedule if name.endswith('_epochs')]:
    del config.schedule[name]
  if config.schedule.name == 'staircase':
    config.schedule.boundaries = tuple(10 + 5 * i for i in range(len(config.schedule.factors)))
  config.schedule.warmup_steps = 2
  config.schedule.peak = min(config.schedule.peak, .03 if config.optimizer.name == 'sgd' else 1e-3)
  config.log.every = 10
  for section in (config.evaluate, config.checkpoint):
    section.update(every=15, every_epochs=0.)
