"""What a config would do, told without data and without computing anything."""

import dataclasses
import functools
import math
import os

import flax.linen as nn
import jax
import numpy as np

from vit_jax import config as config_lib, task as task_lib, trees
from vit_jax.models import flops
from vit_jax.optim import optimizers, schedules
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.layers.patches import grid_size
from vit_jax.models.mixer import Mixer
from vit_jax.models.vit import ViT
from vit_jax.tables import datasets


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a config would do.

  Attributes:
    config: as loaded.
    model: the module.
    info: of the data, as published.
    parameters: their number.
    learned: how many of them training changes.
    grid: patches (height, width); None for networks without.
    steps: updates of the whole run.
    schedule: step -> learning rate.
  """
  config: config_lib.ConfigDict
  model: nn.Module
  info: Info
  parameters: int
  learned: int
  grid: tuple[int, int] | None
  steps: int
  schedule: schedules.Schedule

  @functools.cached_property
  def multiply_adds(self) -> int:
    """Of the forward pass of one image."""
    return _multiply_adds(self.model.clone(num_classes=1), self.info.image_size)

  @property
  def rates(self) -> tuple[float, float, float]:
    """Learning rates of the first update, the highest one, and that of the last."""
    schedule = self.config.schedule
    warmup = schedule.get('warmup_steps', 0) or round(
        schedule.get('warmup_epochs', 0.) * self.info.num_train / self.config.data.batch_size)
    steps = [*np.linspace(0, self.steps - 1, 1_000).round(), warmup]
    rates = np.asarray(jax.vmap(self.schedule)(np.asarray(steps)))
    return float(rates[0]), float(rates.max()), float(rates[-2])

  def lines(self) -> list[str]:
    """Returns the plan in words."""
    first, peak, last = self.rates
    grid = '{}x{} patches'.format(*self.grid) if self.grid else 'no patches'
    return ['{}: {:,} parameters, {}x{} pixels, {}, {:.2f} G multiply-adds per image'.format(
                self.config.model.name, self.parameters, *self.info.image_size, grid,
                self.multiply_adds / 1e9),
            f'{self.info.num_classes:,} classes, {self.info.num_train:,} training images, '
            f'{self.steps:,} steps of {self.config.data.batch_size:,}',
            f'learning rate {first:.3g} at first, {peak:.3g} at most, {last:.3g} at last']


@functools.cache  # many configs share a model; the head counts for next to nothing
def _multiply_adds(model, image_size: tuple[int, int]) -> int:
  return flops.multiply_adds(model, image_size)


@functools.cache
def _shapes(model, image_size: tuple[int, int]):
  image = jax.ShapeDtypeStruct((1, *image_size, 3), np.float32)
  return jax.eval_shape(model.init, jax.random.key(0), image)['params']


def load(spec: str, folder: str = 'configs') -> config_lib.ConfigDict:
  """Returns the config of a row, such as 'vit_finetune.py:model=vit_b16'.

  Raises:
    UserError: where the recipes are not in `folder`.
  """
  if not os.path.isdir(folder):
    raise UserError(f'the recipes are not in {folder!r}; say where with --configs=FOLDER')
  return config_lib.load(os.path.join(folder, spec))


def make(config) -> Plan:
  """Plans a config, built abstractly.

  Raises:
    UserError: when the config does not hold together, or its data set's size is not known.
  """
  data, kind = config.data, task_lib.find(config)
  name = 'imagenet2012' if data.source == 'imagenet2012_real' else data.source
  size = datasets.size(f'{name}_panoptic' if data.get('panoptic') else name)
  train = data.mixture[0]['train'] if data.get('mixture') else data.train
  info = kind.planned_info(data, size, size.count(train))
  task = kind.from_config(config, info)
  steps = config_lib.total_steps(config, info.num_train)
  schedule = schedules.make(**config.schedule, total_steps=steps,
                            steps_per_epoch=info.num_train / config.data.batch_size)
  model, shapes = task.model, _shapes(task.model, info.image_size)
  parameters, freeze = trees.count(shapes), config.optimizer.get('freeze')
  frozen = freeze and optimizers.matching(shapes, freeze)
  learned = parameters - sum(math.prod(leaf.shape) for leaf, still in zip(
      jax.tree.leaves(shapes), jax.tree.leaves(frozen)) if still)
  return Plan(config, model, info, parameters, learned, _grid(model, info), steps, schedule)


def _grid(model, info: Info) -> tuple[int, int] | None:
  if isinstance(model, ViT):
    return model.grid(info.image_size)
  return grid_size(info.image_size, model.patch) if isinstance(model, Mixer) else None


def fact(plan: Plan, name: str):
  """Returns what a plan implies, by the word of the tables that print such a thing."""
  value = (_of_detector if 'decoder_layers' in plan.config.model else _of_classifier)(plan)[name]
  return value() if callable(value) else value


def _of_detector(plan: Plan) -> dict[str, object]:
  task, model = plan.config.task, plan.model
  places = dict(none='none', sine_input='sine at input', sine_attn='sine at attn',
                learned_attn='learned at attn', attn='learned at attn', input='learned at input')
  return {
      'GFLOPs': lambda: plan.multiply_adds / 1e9,  # which takes its time
      'params_M': plan.learned / 1e6,  # the authors count no others
      'backbone': model.backbone.replace('resnet', 'R'),
      'encoder spatial': places[model.encoder_positions],
      'decoder spatial': places[model.decoder_positions],
      'decoder output': places[model.query_positions],
      'class': task.get('class_coef', 1.) > 0., 'l1': task.bbox_coef > 0., 'giou': task.giou_coef > 0.}


def _of_classifier(plan: Plan) -> dict[str, object]:
  c, model = plan.config, plan.model
  ops = {op['name']: op for op in c.data.augment}
  auto, mix = ops.get('randaugment'), ops.get('mixup_cutmix', {})
  clear = lambda value: value or None
  return {
      'layers': model.depth, 'hidden': model.width, 'mlp': model.mlp_dim, 'heads': model.num_heads,
      'params_M': plan.parameters / 1e6, 'classes': plan.info.num_classes,
      'images': datasets.size(c.data.source).images, 'epochs': c.total_epochs,
      'batch size': c.data.batch_size, 'optimizer': c.optimizer.name, 'learning rate': c.schedule.peak,
      'learning rate decay': c.schedule.name, 'weight decay': c.optimizer.weight_decay,
      'warm-up epochs': c.schedule.get('warmup_epochs'),
      'label smoothing': clear(c.task.label_smoothing), 'dropout': clear(c.model.dropout_rate),
      'stochastic depth': clear(c.model.drop_path_rate), 'repeated augmentation': c.data.repeats > 1,
      'gradient clipping': c.optimizer.get('clip_norm', 0.) > 0.,
      'RandAugment': auto and f'{auto["magnitude"]:g}/{auto["magnitude_std"]:g}',
      'mixup probability': mix.get('mixup'), 'cutmix probability': mix.get('cutmix'),
      'erasing probability': ops.get('random_erasing', {}).get('probability')}
