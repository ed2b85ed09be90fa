"""One class, or several, per image."""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vit_jax import metrics, models, sharding
from vit_jax.data import augment
from vit_jax.data.info import Info
from vit_jax.errors import UserError, unknown
from vit_jax.evaluation.accuracy import Accuracy, top_k
from vit_jax.task import Aux


def softmax_loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Cross-entropy of the softmax, `[batch]`, for targets `[batch, classes]` that sum to 1."""
  return optax.softmax_cross_entropy(logits, targets)


def sigmoid_loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Binary cross-entropies, summed over the classes (AugReg, arXiv:2106.10270, section 3.4)."""
  return optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)


LOSSES = dict(softmax=softmax_loss, sigmoid=sigmoid_loss)
OUTPUTS = dict(softmax=jax.nn.softmax, sigmoid=jax.nn.sigmoid)  # what makes logits probabilities


@dataclasses.dataclass(frozen=True)
class Classification:
  """A model that gives logits, trained by cross-entropy.

  Attributes:
    model: gives logits `[batch, classes]`.
    info: facts of the data.
    ops: what is done to a training batch on the device, see `data.augment`.
    loss_name: 'softmax' or 'sigmoid'.
    label_smoothing: share of each target that is spread over all classes.
    best: measure by which checkpoints are compared.
  """
  model: nn.Module
  info: Info
  ops: Sequence[Mapping] = ()
  loss_name: str = 'softmax'
  label_smoothing: float = 0.
  best: str = 'test/accuracy'

  @classmethod
  def from_config(cls, config, info: Info) -> 'Classification':
    """Builds the task of a config; UserError for an unknown option, model or augmentation."""
    fields = dict(config.model)
    wanted = fields.get('num_classes', info.num_classes)
    if wanted != info.num_classes:
      raise UserError(f'model.num_classes={wanted}, but the data has {info.num_classes} classes; '
                      'leave model.num_classes out: it is read from the data')
    model = models.create_model(fields.pop('name'), **{**fields, 'num_classes': info.num_classes})
    ops = [dict(op) for op in config.data.augment]
    augment.check(ops)
    return cls._with_options(model, info, ops, **{k: v for k, v in config.task.items()
                                                  if k != 'name'})

  @classmethod
  def _with_options(cls, model, info, ops, **options):
    names = dict(loss='loss_name', label_smoothing='label_smoothing')
    for option in options:
      if option not in names:
        raise unknown('option of the task:', option, names)
    if options.get('loss', 'softmax') not in LOSSES:
      raise unknown('loss', options['loss'], LOSSES)
    return cls(model, info, ops, **{names[k]: v for k, v in options.items()})

  @property
  def rules(self) -> sharding.Rules:
    """The sharding rules of the model's family."""
    return sharding.RULES[type(self.model).__name__.lower()]

  def init(self, rng, batch):
    """Returns fresh variables for images of the batch's size."""
    image = jnp.zeros((1, *batch['image'].shape[1:]), jnp.float32)
    return self.model.init(rng, image)

  def _targets(self, labels):
    """Returns smoothed one-hot targets `[batch, classes]`."""
    targets = jax.nn.one_hot(labels, self.info.num_classes)
    return optax.smooth_labels(targets, self.label_smoothing)

  def augment(self, batch, rng):
    """Returns the batch with float images in [0, 1] after augmentation, and `target`."""
    images = batch['image'].astype(jnp.float32) / 255.
    images, targets = augment.apply(images, self._targets(batch['label']), rng, self.ops)
    return {**batch, 'image': images, 'target': targets}

  def _apply(self, params, model_state, images, **kwargs):
    images = augment.normalize(images, self.info.mean, self.info.std)
    return self.model.apply({'params': params, **model_state}, images, **kwargs)

  def loss(self, params, model_state, batch, rng):
    """Returns the mean loss of an augmented batch, and its metrics."""
    logits, changed = self._apply(params, model_state, batch['image'], train=True,
                                  rngs={'dropout': rng}, mutable=list(model_state))
    losses = LOSSES[self.loss_name](logits, batch['target'])
    total, count = metrics.masked(losses, batch['mask'])
    sums = {'loss': (total, count),
            'accuracy': metrics.masked(top_k(logits, batch['label'], 1), batch['mask'])}
    return total / jnp.maximum(count, 1.), Aux(sums, changed, count)

  def predict(self, params, model_state, batch):
    """Returns logits `[batch, classes]` of uint8 images, without augmentation."""
    return self._apply(params, model_state, batch['image'].astype(jnp.float32) / 255.)

  def evaluators(self):
    """Returns the accuracy over the test split, with the loss of unsmoothed targets."""
    plain = lambda logits, labels: LOSSES[self.loss_name](
        logits, jax.nn.one_hot(labels, self.info.num_classes))
    return {'test': Accuracy(self.predict, plain)}
