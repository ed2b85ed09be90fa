"""A class for every pixel (Segmenter, arXiv:2105.05633; UperNet, arXiv:1807.10221)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from detr_jax.data import colours, maps
from detr_jax.data.info import SegmentationInfo
from detr_jax.data.sources.label_maps import IGNORED
from detr_jax.evaluation.mean_iou import MeanIoU
from detr_jax.models import pixels, positions
from detr_jax.models.pixels.base import PixelFamily, Pixels
from detr_jax.ops.windows import Inference
from detr_jax.weights import pixels as weights_lib
from vit_jax import models as backbones, ranges
from vit_jax.errors import UserError, unknown
from vit_jax.models import flops
from vit_jax.models.family import over
from vit_jax.task import Aux, model_fields


@dataclasses.dataclass(frozen=True)
class Segmentation:
  """Cross-entropy of every pixel, and mean IoU.

  Attributes:
    model: see `detr_jax.models.pixels`.
    info: facts of the data.
    auxiliary: weight of the loss of each head that helps to train, where the model has some.
    count_ignored: whether the mean counts the pixels that teach nothing too, as mmsegmentation's.
    class_weights: of the loss of each class; (): 1 for all.
    ops: colour operations on training images, see `detr_jax.data.colours`.
  """
  model: nn.Module
  info: SegmentationInfo
  auxiliary: float = .4
  count_ignored: bool = False
  class_weights: tuple[float, ...] = ()
  ops: Sequence[Mapping] = ()

  best = 'miou'
  face = 'detr_jax.faces.segmentation'
  weights = weights_lib

  @classmethod
  def open_data(cls, config, seed: int, mesh, eval_batch: int = 0):
    """Returns images with label maps, see `detr_jax.data.maps.build`."""
    return maps.build(config, seed, mesh, eval_batch)

  @classmethod
  def from_config(cls, config, info: SegmentationInfo) -> 'Segmentation':
    """Builds the task of a config; UserError for an unknown option, model or class count."""
    options = {k: v for k, v in config.task.items() if k != 'name'}
    known = dict(auxiliary=float, count_ignored=bool, class_weights=tuple[float, ...])
    for option in options:
      if option not in known:
        raise unknown('option of the task:', option, known)
    ranges.check('task.', options, known, {})
    weights = tuple(options.get('class_weights', ()))
    if weights and len(weights) != info.num_classes:
      raise UserError(f'task.class_weights has {len(weights)} numbers, the data {info.num_classes} '
                      'classes; give one for each')
    ops = [dict(op) for op in config.data.get('augment', ())]
    colours.check(ops)
    model = pixels.create_model(**model_fields(config, info))
    return cls(model, info, **{**options, 'class_weights': weights}, ops=ops)

  @classmethod
  def planned_info(cls, data, size, num_train: int) -> SegmentationInfo:
    """Returns the facts of published data that is not at hand."""
    return SegmentationInfo(data.source, tuple(map(str, range(size.classes))), 3, tuple(data.window),
                            num_train, 0, tuple(data.mean), tuple(data.std),
                            inference=dict(data.inference))

  @property
  def family(self) -> PixelFamily:
    """The family of the model, on its backbone."""
    return over(pixels.family(self.model), backbones.family(self.model.backbone))

  @property
  def inference(self) -> Inference:
    """How images of any size are segmented."""
    return Inference(**self.info.inference)

  def facts(self, plan) -> dict[str, Any]:
    """Returns what the tables of segmenters print of a plan, see `vit_jax.task.Task`."""
    trunk, (height, width) = self.model.trunk(), self.info.image_size
    own = backbones.family(trunk).facts(trunk)
    wide = lambda: flops.multiply_adds(self.model.alone(), (height, 4 * width))
    return {**own, 'token size': own.get('hidden'), 'params_M': plan.parameters / 1e6,
            'GFLOPs': lambda: wide() / 1e9}  # as UperNet's are counted

  def check_start(self) -> None:
    """Any model starts from random parameters."""

  def constants(self, mesh) -> dict:
    """Nothing but the batch is read."""
    return {}

  def init(self, rng, batch):
    """Returns fresh variables for images of the size of a window."""
    side = self.inference.window
    size = (side, side) if side else batch['image'].shape[1:3]
    return self.model.init(rng, jnp.zeros((1, *size, 3), jnp.float32))

  def augment(self, batch, rng):
    """Returns the batch after the colour operations, with what each row's pixels count for in all of it.

    `share` `[batch]`: the number of rows over that of the pixels of the global batch that are counted.
    """
    if self.ops:
      inside = positions.valid(batch['size'], *[batch['image'].shape[1:3]] * 2)[..., None]
      images = colours.apply(batch['image'].astype(jnp.float32) / 255., inside, rng, self.ops)
      batch = {**batch, 'image': images}
    labels, rows = batch['labels'], batch['labels'].shape[0]
    counted = jnp.float32(labels.size) if self.count_ignored else self._weights(labels).sum()
    return {**batch, 'share': jnp.full((rows,), rows / jnp.maximum(counted, 1.))}

  def _weights(self, labels) -> jax.Array:
    """Returns what each pixel counts for, float32 `[batch, height, width]`."""
    known = (labels != IGNORED).astype(jnp.float32)
    if not self.class_weights:
      return known
    table = jnp.asarray(self.class_weights, jnp.float32)
    return known * table[jnp.where(labels == IGNORED, 0, labels)]

  def images(self, batch) -> jax.Array:
    """Returns normalised images; what lies outside them is 0, as if it had been padded afterwards."""
    images = batch['image']
    if images.dtype == jnp.uint8:
      images = images.astype(jnp.float32) / 255.
    images = (images - jnp.asarray(self.info.mean)) / jnp.asarray(self.info.std)
    return images * positions.valid(batch['size'], images.shape[1:3], images.shape[1:3])[..., None]

  def loss(self, params, model_state, batch, rng):
    """Returns the mean cross-entropy of the pixels that count, and its metrics."""
    outputs, changed = self.model.apply(
        {'params': params, **model_state}, self.images(batch), train=True, rngs=dict(dropout=rng),
        mutable=list(model_state))
    total, labels = self.criterion(outputs, batch), batch['labels']
    right = ((outputs.logits.argmax(-1) == labels) * (labels != IGNORED)).sum()
    rows = jnp.float32(len(labels))
    metrics = {'loss': (total * rows, rows), 'pixel_accuracy': (right.astype(jnp.float32), (
        labels != IGNORED).sum().astype(jnp.float32))}
    return total, Aux(metrics, changed, rows)

  def criterion(self, outputs: Pixels, batch) -> jax.Array:
    """Returns the loss of what a model gives for a batch with `labels` and `share`."""
    labels, weights = batch['labels'], self._weights(batch['labels'])
    # One-hot: by integer labels, XLA's CPU compiler makes a scatter of one thread of the gradient.
    hot = jax.nn.one_hot(labels, self.info.num_classes)

    def mean(logits):
      losses = -(jax.nn.log_softmax(logits.astype(jnp.float32)) * hot).sum(-1)
      return ((losses * weights).sum((1, 2)) * batch['share']).mean()

    return mean(outputs.logits) + self.auxiliary * sum(map(mean, outputs.auxiliary))

  def segment(self, params, model_state, batch) -> jax.Array:
    """Returns the class of each pixel of the canvas that the images lie on, int32 `[batch, height,
    width]`."""
    predict = lambda images: self.model.apply({'params': params, **model_state}, images).logits
    return self.inference.classes(predict, self.images(batch), batch['size'],
                                  maps.multiple(self.inference))

  def evaluators(self, split: str = 'test'):
    """Returns what measures mean IoU."""
    return [MeanIoU(self.segment, self.info.classes)]
