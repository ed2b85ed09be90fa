"""One class, or several, per image."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax.tasks import losses
from vit_jax import metrics, models, ranges
from vit_jax import weights as weights_lib
from vit_jax.data import augment, pipeline
from vit_jax.data.info import Info
from vit_jax.errors import UserError, unknown
from vit_jax.evaluation.accuracy import multi_hot, top_k
from vit_jax.evaluation.measures import Measures
from vit_jax.models.family import Family
from vit_jax.task import Aux, model_fields


@dataclasses.dataclass(frozen=True)
class Classification:
  """A model that gives logits, trained by a cross-entropy.

  Attributes:
    model: gives logits `[batch, classes]`.
    info: facts of the data.
    ops: what is done to a training batch on the device, see `data.augment`.
    loss_name: 'softmax', 'sigmoid' or 'binary', see `vit_jax.tasks.losses`.
    label_smoothing: share of each target that is spread over all classes.
    target_threshold: of the loss 'binary': mixed targets above it count as 1, others as 0.
  """
  model: nn.Module
  info: Info
  ops: Sequence[Mapping] = ()
  loss_name: str = 'softmax'
  label_smoothing: float = 0.
  target_threshold: float | None = None

  weights: ClassVar = weights_lib
  face: ClassVar[str] = 'vit_jax.faces.classification'
  # {option of `config.task`: field}
  OPTIONS: ClassVar[Mapping[str, str]] = dict(
      loss='loss_name', label_smoothing='label_smoothing', target_threshold='target_threshold')

  @classmethod
  def open_data(cls, config, seed: int, mesh, eval_batch: int = 0) -> pipeline.Data:
    """Returns labelled images, see `vit_jax.data.pipeline.build`."""
    return pipeline.build(config, seed, mesh, eval_batch)

  @classmethod
  def from_config(cls, config, info: Info) -> 'Classification':
    """Builds the task of a config; UserError for an unknown option, model or augmentation."""
    model = models.create_model(**model_fields(config, info))
    ops = [dict(op) for op in config.data.augment]
    augment.check(ops, info.channels)
    return cls._with_options(model, info, ops, **{k: v for k, v in config.task.items()
                                                  if k != 'name'})

  @classmethod
  def planned_info(cls, data, size, num_train: int) -> Info:
    """Returns the facts of published data that is not at hand, see `vit_jax.task.Task`."""
    classes = tuple(map(str, range(size.classes)))
    return Info(data.source, classes, 3, tuple(data.resolution), num_train, 0, tuple(data.mean),
                tuple(data.std), multi_label=data.max_labels > 1, max_labels=data.max_labels)

  @classmethod
  def _with_options(cls, model, info, ops, **options):
    for option in options:
      if option not in cls.OPTIONS:
        raise unknown('option of the task:', option, cls.OPTIONS)
    kinds = ranges.annotations(cls)
    ranges.check('task.', options, {k: kinds[field] for k, field in cls.OPTIONS.items()}, {})
    task = cls(model, info, ops, **{cls.OPTIONS[k]: v for k, v in options.items()})
    losses.check(task.loss_name, task.label_smoothing, task.target_threshold, info.num_classes,
                 info.multi_label)
    return task

  @property
  def best(self) -> str:
    """The measure by which checkpoints are compared."""
    return 'precision_at_1' if self.info.multi_label else 'accuracy'

  @property
  def family(self) -> Family:
    """The family of the model."""
    return models.family(self.model)

  def facts(self, plan) -> dict:
    """Returns what the tables of classifiers print of a plan, see `vit_jax.task.Task`."""
    c = plan.config
    ops = {op['name']: op for op in c.data.augment}
    auto, mix = ops.get('randaugment'), ops.get('mixup_cutmix', {})
    clear = lambda value: value or None
    return {
        **self.family.facts(self.model), 'params_M': plan.parameters / 1e6,
        'image': plan.info.image_size[0], 'GFLOPs': lambda: plan.multiply_adds / 1e9,
        'classes': plan.info.num_classes, 'images': plan.size.images, 'epochs': c.total_epochs,
        'batch size': c.data.batch_size, 'optimizer': c.optimizer.name,
        'learning rate': c.schedule.peak, 'learning rate decay': c.schedule.name,
        'weight decay': c.optimizer.get('weight_decay'),
        'warm-up epochs': c.schedule.get('warmup_epochs'),
        'label smoothing': clear(self.label_smoothing), 'dropout': clear(c.model.get('dropout_rate')),
        'stochastic depth': clear(c.model.get('drop_path_rate')),
        'repeated augmentation': c.data.repeats > 1,
        'gradient clipping': c.optimizer.get('clip_norm', 0.) > 0.,
        'RandAugment': auto and f'{auto["magnitude"]:g}/{auto["magnitude_std"]:g}',
        'mixup probability': mix.get('mixup'), 'cutmix probability': mix.get('cutmix'),
        'erasing probability': ops.get('random_erasing', {}).get('probability')}

  def check_start(self) -> None:
    """Any model starts from random parameters."""

  def init(self, rng, batch):
    """Returns fresh variables for images of the batch's size."""
    image = jnp.zeros((1, *batch['image'].shape[1:]), jnp.float32)
    return self.model.init(rng, image)

  def constants(self, mesh) -> dict:
    """Nothing but the batch is read."""
    return {}

  def augment(self, batch, rng):
    """Returns the batch with float images in [0, 1] after augmentation, and `target`."""
    images = batch['image'].astype(jnp.float32) / 255.
    hot = multi_hot(batch['label'], self.info.num_classes).astype(jnp.float32)
    images, targets = augment.apply(images, losses.smooth(hot, self.label_smoothing), rng, self.ops,
                                    self.info.mean, self.info.std)
    return {**batch, 'image': images, 'target': losses.binarize(targets, self.target_threshold)}

  def _apply(self, params, model_state, images, **kwargs):
    images = augment.normalize(images, self.info.mean, self.info.std)
    return self.model.apply({'params': params, **model_state}, images, **kwargs)

  def loss(self, params, model_state, batch, rng):
    """Returns the mean loss of an augmented batch, and its metrics."""
    logits, changed = self._apply(params, model_state, batch['image'], train=True,
                                  rngs={'dropout': rng}, mutable=list(model_state))
    sums = {name: metrics.masked(each, batch['mask'])
            for name, each in self.measure(logits, batch).items()}
    total, count = sums['loss']
    return total / jnp.maximum(count, 1.), Aux(sums, changed, count)

  def measure(self, logits, batch) -> dict[str, jax.Array]:
    """Returns `loss` and what else is logged of each example of a training batch, `[batch]` each."""
    if isinstance(logits, tuple):
      raise UserError('the model has two heads, of which the second learns from a teacher; train it by '
                      "distillation (task.name='vit_jax.tasks.distillation.Distillation'), or set "
                      'model.distillation_token=false')
    right = top_k(logits, multi_hot(batch['label'], self.info.num_classes), 1)
    return {'loss': losses.LOSSES[self.loss_name](logits, batch['target']),
            self.best: right}

  def predict(self, params, model_state, batch):
    """Returns logits `[batch, classes]` of uint8 images, without augmentation."""
    return self._apply(params, model_state, batch['image'].astype(jnp.float32) / 255.)

  def represent(self, params, model_state, batch):
    """Returns what the head reads, `[batch, width]`, of uint8 images, without augmentation."""
    _, state = self._apply(params, model_state, batch['image'].astype(jnp.float32) / 255.,
                           mutable=['intermediates'])
    return state['intermediates']['representation'][0]

  def evaluators(self, split: str = 'test'):
    """Returns the evaluator of accuracy and calibration, with the loss of unsmoothed targets."""
    return [Measures(self.predict, losses.LOSSES[self.loss_name], losses.OUTPUTS[self.loss_name],
                     self.info.classes, self.info.multi_label)]
