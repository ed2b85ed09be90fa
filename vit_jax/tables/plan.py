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
from vit_jax.tables import datasets


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a config would do.

  Attributes:
    config: as loaded.
    task: with its model.
    size: of the data, as published.
    info: its facts.
    parameters: their number.
    learned: how many of them training changes.
    grid: patches (height, width); None for networks without.
    steps: updates of the whole run.
    schedule: step -> learning rate.
  """
  config: config_lib.ConfigDict
  task: task_lib.Task
  size: datasets.Size
  info: Info
  parameters: int
  learned: int
  grid: tuple[int, int] | None
  steps: int
  schedule: schedules.Schedule

  @property
  def model(self) -> nn.Module:
    """The module."""
    return self.task.model

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
  shapes, grid = _shapes(task.model, info.image_size), task.family.grid(task.model, info.image_size)
  parameters, freeze = trees.count(shapes), config.optimizer.get('freeze')
  frozen = freeze and optimizers.matching(shapes, freeze)
  learned = parameters - sum(math.prod(leaf.shape) for leaf, still in zip(
      jax.tree.leaves(shapes), jax.tree.leaves(frozen)) if still)
  return Plan(config, task, size, info, parameters, learned, grid and grid.size, steps, schedule)


def fact(plan: Plan, name: str):
  """Returns what a plan implies, by the word of the tables that print such a thing."""
  value = plan.task.facts(plan)[name]
  return value() if callable(value) else value
