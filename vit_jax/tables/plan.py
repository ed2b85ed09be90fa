"""What a config would do, told without data and without computing anything."""

import dataclasses
import functools
import os

import flax.linen as nn
import jax
import numpy as np

from vit_jax import config as config_lib, flops, schedules, task as task_lib, trees
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
    grid: patches (height, width); None for networks without.
    steps: updates of the whole run.
    schedule: step -> learning rate.
  """
  config: config_lib.ConfigDict
  model: nn.Module
  info: Info
  parameters: int
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
def _parameters(model, image_size: tuple[int, int]) -> int:
  image = jax.ShapeDtypeStruct((1, *image_size, 3), np.float32)
  return trees.count(jax.eval_shape(model.init, jax.random.key(0), image)['params'])


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
  size = datasets.size('imagenet2012' if config.data.source == 'imagenet2012_real'
                       else config.data.source)
  train = config.data.mixture[0]['train'] if config.data.mixture else config.data.train
  info = Info(config.data.source, tuple(map(str, range(size.classes))), 3,
              tuple(config.data.resolution), size.count(train), 0, tuple(config.data.mean),
              tuple(config.data.std), multi_label=config.data.max_labels > 1,
              max_labels=config.data.max_labels)
  task = task_lib.find(config).from_config(config, info)
  steps = config_lib.total_steps(config, info.num_train)
  schedule = schedules.make(**config.schedule, total_steps=steps,
                            steps_per_epoch=info.num_train / config.data.batch_size)
  model = task.model
  return Plan(config, model, info, _parameters(model, info.image_size), _grid(model, info), steps,
              schedule)


def _grid(model, info: Info) -> tuple[int, int] | None:
  if isinstance(model, ViT):
    return model.grid(info.image_size)
  return grid_size(info.image_size, model.patch) if isinstance(model, Mixer) else None


def facts(plan: Plan) -> dict[str, object]:
  """Returns what the plan of a ViT implies, by the words of the tables that print such things."""
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
