"""What a task is. The loop knows tasks by this alone; a new one is a new file that has it."""

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

import flax.struct
import jax

from vit_jax.errors import UserError
from vit_jax.metrics import Pair
from vit_jax.models.family import Family

Batch = Mapping[str, jax.Array]
Variables = Mapping[str, Any]


@flax.struct.dataclass
class Aux:
  """What a loss gives beside its value.

  Attributes:
    metrics: {name: (sum, count)}.
    model_state: what the model changed of its own, such as running statistics.
    weight: what the loss was divided by, so that parts of a batch add up to the whole: its number
      of examples.
  """
  metrics: Mapping[str, Pair]
  model_state: Variables
  weight: jax.Array


class Evaluator(Protocol):
  """Measures over a whole split. `step` runs on the devices, the rest on the host."""

  def step(self, params, model_state, batch: Batch) -> Any:
    """Returns sums over the global batch, or outputs to collect; jitted and sharded."""

  def update(self, total, outputs) -> Any:
    """Adds a batch's outputs, on the host; `total` is None at first."""

  def finish(self, total) -> dict[str, float]:
    """Returns the measures."""

  def tables(self, total) -> dict[str, list[dict]]:
    """Returns what is too long for a log line: {name: rows}, written as `SPLIT_NAME.csv`, or as
    it is where the name ends with `.json`."""


class Task(Protocol):
  """What differs between systems. It owns no optimizer, no mesh and no file."""

  weights: ModuleType  # reads and writes weights of its models, as `vit_jax.weights` does
  face: str  # dotted path of the module that shows its answers, see `vit_jax.faces`
  best: str  # name of the measure of a split by which checkpoints are compared, such as 'accuracy'
  family: Family  # of the model: where its parameters lie, its depth groups, ...

  @classmethod
  def open_data(cls, config, seed: int, mesh, eval_batch: int = 0):
    """Returns the data of `config.data`, as `vit_jax.data.pipeline.Data`.

    Args:
      config: `config.data`.
      seed: of the order and of what is random on the host.
      mesh: on which the batches lie.
      eval_batch: rows of a batch that is evaluated; 0: as of a training batch.
    """

  @classmethod
  def from_config(cls, config, info) -> 'Task':
    """Returns the task of a config on data with these facts."""

  @classmethod
  def planned_info(cls, data, size, num_train: int):
    """Returns the facts of published data that is not at hand, for `vit_jax.tables.plan`.

    Args:
      data: `config.data`.
      size: of the data, a `vit_jax.tables.datasets.Size`.
      num_train: images of the training split.
    """

  def facts(self, plan) -> dict[str, Any]:
    """Returns what a `vit_jax.tables.plan.Plan` implies, by the words of the tables that print it; a
    value may be a function that computes it."""

  def check_start(self) -> None:
    """Raises UserError where the model cannot be trained from random parameters."""

  def init(self, rng: jax.Array, batch: Batch) -> Variables:
    """Returns fresh variables: `params` and whatever else the model keeps."""

  def constants(self, mesh) -> dict[str, Any]:
    """Returns what `augment` reads in every step and no step changes, such as a teacher's variables.

    {argument of `augment`: tree of arrays, placed on the mesh}. They do not belong to the state: read
    anew at each start of a run, which refuses others than those it began with.
    """

  def augment(self, batch: Batch, rng: jax.Array, **constants) -> Batch:
    """Returns the global training batch as the model sees it, before it is split into parts."""

  def loss(self, params, model_state, batch: Batch, rng: jax.Array) -> tuple[jax.Array, Aux]:
    """Returns the scalar that is minimised, for an augmented batch or a part of one."""

  def evaluators(self, split: str = 'test') -> Sequence[Evaluator]:
    """Returns what measures a split ('test' or 'validation'), all in one pass over it."""


def keys(seed: int, step) -> tuple[jax.Array, jax.Array]:
  """Returns the keys of a step: of the augmentation, and of the model's dropout."""
  augment_key, model_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))
  return augment_key, model_key


def model_fields(config, info) -> dict[str, Any]:
  """Returns `config.model` with the number of classes that the data has.

  Raises:
    UserError: when the config wants another number.
  """
  wanted = config.model.get('num_classes', info.num_classes)
  if wanted != info.num_classes:
    raise UserError(f'model.num_classes={wanted}, but the data has {info.num_classes} classes; '
                    'leave model.num_classes out: it is read from the data')
  return {**config.model, 'num_classes': info.num_classes}


def find(config) -> type[Task]:
  """Returns the class that `config.task.name` names by its dotted path.

  Raises:
    UserError: when there is no such class.
  """
  path, _, name = config.task.name.rpartition('.')
  try:
    return getattr(importlib.import_module(path), name)
  except (ImportError, AttributeError, ValueError):
    raise UserError(f'task.name {config.task.name!r} names no class; expected a dotted path such as '
                    'vit_jax.tasks.classification.Classification') from None


def eval_batch(config) -> int:
  """Returns the rows of an evaluated batch: `evaluate.batch_size`, or what a step holds at once."""
  return config.evaluate.batch_size or max(config.data.batch_size // max(config.accumulate, 1), 1)


def build(config, mesh) -> tuple[Any, Task]:
  """Returns (data, task) of a config; UserError for what cannot be used."""
  task = find(config)
  data = task.open_data(config.data, config.seed, mesh, eval_batch(config))
  return data, task.from_config(config, data.info)
