"""A set of boxes per image (DETR, arXiv:2005.12872), with masks where the model has a mask head."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from detr_jax import models
from detr_jax import weights as weights_lib
from detr_jax.data import colours, limits, pipeline, sources, transforms
from detr_jax.data.info import DetectionInfo
from detr_jax.evaluation.average_precision import AveragePrecision, has_masks
from detr_jax.models import positions
from detr_jax.models.family import Head
from detr_jax.ops import masks, postprocess
from vit_jax import models as backbones
from vit_jax import ranges
from vit_jax.errors import UserError, unknown
from vit_jax.models.family import over
from vit_jax.task import Aux, model_fields


@dataclasses.dataclass(frozen=True)
class Detection:
  """A detector of any family, see `detr_jax.models.family.Head`.

  Attributes:
    model: of the family.
    info: facts of the data.
    criterion: the family's losses.
    ground_truth: (name of a split in `config.data`) -> what it is measured against, see
      `sources.ground_truth`.
    max_detections: detections per image that are evaluated.
    ops: colour operations on training images, see `detr_jax.data.colours`.
  """
  model: nn.Module
  info: DetectionInfo
  criterion: Any
  ground_truth: Any = None
  max_detections: int = 100
  ops: Sequence[Mapping] = ()

  best = 'ap'
  face = 'detr_jax.faces.detection'
  weights = weights_lib

  @classmethod
  def open_data(cls, config, seed: int, mesh, eval_batch: int = 0) -> pipeline.Data:
    """Returns images with boxes, see `detr_jax.data.pipeline.build`."""
    return pipeline.build(config, seed, mesh, eval_batch)

  @classmethod
  def from_config(cls, config, info: DetectionInfo) -> 'Detection':
    """Builds the task of a config; UserError for an unknown option, model or class count."""
    model = models.create_model(**model_fields(config, info))
    model.check_canvases(dict.fromkeys((*info.canvases, *info.test_canvases)))
    options = {k: v for k, v in config.task.items() if k != 'name'}
    decided, losses = cls.losses(model)
    known = {k: v for k, v in ranges.annotations(losses).items() if k not in decided}
    known['max_detections'] = int
    for option in options:
      if option not in known:
        raise unknown('option of the task:', option, known)
    ranges.check('task.', options, known, dict(max_detections='[1, inf)'))
    detections = options.pop('max_detections', 100)
    criterion = losses(**decided, **options)
    truth = functools.cache(functools.partial(sources.ground_truth, config.data))
    ops = [dict(op) for op in config.data.get('augment', ())]
    colours.check(ops)
    return cls(model, info, criterion, truth, detections, ops)

  @staticmethod
  def losses(model: nn.Module) -> tuple[dict[str, Any], type]:
    """Returns (the fields that the model decides, the class) of its family's losses."""
    family = models.family(model)
    return family.decided(model), family.losses

  @classmethod
  def untrained(cls, model: nn.Module, info: DetectionInfo) -> 'Detection':
    """Returns the task of a model that is not trained here, such as a published one."""
    decided, losses = cls.losses(model)
    return cls(model, info, losses(**decided))

  @classmethod
  def planned_info(cls, data, size, num_train: int) -> DetectionInfo:
    """Returns the facts of published data that is not at hand, with a test image as it becomes."""
    canvases = tuple(map(tuple, data.canvases))
    test_image = transforms.extent(transforms.make(data.test_transforms), *size.image_size)
    return DetectionInfo(
        data.source, tuple(map(str, range(data.id_slots or size.classes))), 3, test_image, num_train, 0,
        tuple(data.mean), tuple(data.std), canvases=canvases, masks=data.masks, panoptic=data.panoptic)

  @property
  def family(self) -> Head:
    """The family of the model, on its backbone."""
    return over(models.family(self.model), backbones.family(self.model.backbone))

  def facts(self, plan) -> dict[str, Any]:
    """Returns what the tables of detectors print of a plan, see `vit_jax.task.Task`."""
    task = plan.config.task
    return {**self.family.facts(self.model), 'GFLOPs': lambda: plan.multiply_adds / 1e9,
            'params_M': plan.learned / 1e6,  # the authors count no others
            'class': task.get('class_coef', 1.) > 0., 'l1': task.bbox_coef > 0.,
            'giou': task.giou_coef > 0.}

  def check_start(self) -> None:
    """Raises UserError for a frozen batch norm that has nothing to be frozen at.

    Without loaded statistics it is the identity, and the features of a deep network are not of any
    scale that a transformer could use.
    """
    if getattr(self.model, 'norm', '') == 'frozen':
      raise UserError(
          f'the batch norm of the backbone {self.model.backbone!r} is frozen, and would stay as it is '
          'made: start from weights (config.init_from=a detector or an ImageNet ResNet), or let it '
          'learn (--config.model.backbone_fields.norm=group, and no freezing in config.optimizer)')

  def constants(self, mesh) -> dict:
    """Nothing but the batch is read."""
    return {}

  def init(self, rng, batch):
    """Returns fresh variables for images of the batch's canvas."""
    image = jnp.zeros((1, *batch['image'].shape[1:]), jnp.float32)
    return self.model.init(rng, image)

  def augment(self, batch, rng):
    """Returns the batch after the colour operations, with what every row counts for in all of it."""
    if self.ops:
      inside = positions.valid(batch['size'], *[batch['image'].shape[1:3]] * 2)[..., None]
      images = colours.apply(batch['image'].astype(jnp.float32) / 255., inside, rng, self.ops)
      batch = {**batch, 'image': images}
    return {**batch, **self.criterion.shares(batch, self.family.slots(self.model))}

  def _images(self, batch) -> jax.Array:
    """Returns normalised images; what lies outside them is 0, as if it had been padded afterwards."""
    images = batch['image']
    if images.dtype == jnp.uint8:
      images = images.astype(jnp.float32) / 255.
    images = (images - jnp.asarray(self.info.mean)) / jnp.asarray(self.info.std)
    return images * positions.valid(batch['size'], images.shape[1:3], images.shape[1:3])[..., None]

  def _targets(self, batch) -> Mapping[str, jax.Array]:
    """Returns labels and boxes, and masks where the data has them."""
    targets = {key: batch[key] for key in ('labels', 'boxes', 'mask')}
    if 'masks' in batch:
      targets['masks'] = masks.unpack(batch['masks'], batch['image'].shape[2])
    return targets

  def loss(self, params, model_state, batch, rng):
    """Returns the weighted sum of the terms of all layers, and its metrics."""
    targets = self._targets(batch)
    dropout, denoising = jax.random.split(rng)
    outputs, changed = self.model.apply(
        {'params': params, **model_state}, self._images(batch), batch['size'], train=True,
        targets=targets, rngs=dict(dropout=dropout, denoising=denoising), mutable=list(model_state))
    if getattr(outputs, 'masks', None) is not None and 'masks' not in targets:
      raise UserError('the model predicts masks, and the batches hold none to learn from; set '
                      'data.masks=true, or model.masks=false')
    share = {key: batch[key] for key in self.criterion.SHARES}
    total, sums = self.criterion(outputs, targets, share)
    images = batch['mask'].sum()
    logged = {name: pair for name, pair in sums.items() if not name[-1].isdigit()}  # of the last layer
    return total, Aux({'loss': (total * images, images), **logged}, changed, images)

  def predict(self, params, model_state, batch, **options):
    """Returns `Outputs` of uint8 images; options are those of `model.apply`."""
    return self.model.apply({'params': params, **model_state}, self._images(batch), batch['size'],
                            **options)

  def features(self, params, model_state, batch):
    """Returns the `Features` of the backbone, of uint8 images."""
    return self.model.apply({'params': params, **model_state}, self._images(batch), batch['size'],
                            method='encode')

  def _detections(self, outputs, batch) -> dict[str, jax.Array]:
    return self.family.decode(self.model, outputs, batch['original_size'], self.max_detections)

  def detect(self, params, model_state, batch) -> dict[str, jax.Array]:
    """Returns scores, labels and boxes in pixels of the files, see `ops.postprocess.detections`."""
    return self._detections(self.predict(params, model_state, batch), batch)

  def detect_masks(self, params, model_state, batch) -> dict[str, jax.Array]:
    """Returns what `detect` does, with the mask logits of the detections and the sizes."""
    outputs = self.predict(params, model_state, batch)
    found = self._detections(outputs, batch)
    return {**found, **self._sizes(batch),
            'masks': jnp.take_along_axis(outputs.masks, found['queries'][..., None, None], axis=1)}

  @staticmethod
  def _sizes(batch) -> dict[str, jax.Array]:
    """Returns `[batch, 2]` what brings masks on a canvas to their images."""
    canvas = jnp.broadcast_to(jnp.asarray(batch['image'].shape[1:3]), batch['size'].shape)
    return dict(canvas=canvas, size=batch['size'], original_size=batch['original_size'])

  @staticmethod
  def instance_masks(row) -> np.ndarray:
    """Returns bool masks `[n, height, width]` of an image as it was, of a row of `detect_masks`."""
    return postprocess.instance_masks(row['masks'], row['canvas'], row['size'], row['original_size'])

  def evaluators(self, split: str = 'test'):
    """Returns the evaluator of average precision: of boxes, and of masks where both sides have them.

    Raises:
      UserError: for a truth that cannot be used, see `sources.ground_truth`.
    """
    if split == 'test':  # once, of all splits
      limits.tell(self.info, self.family.slots(self.model), getattr(self.model, 'denoising', 0),
                  self.max_detections)
    truth = functools.partial(self.ground_truth, split)
    masks = getattr(self.model, 'masks', False) and has_masks(truth())
    return [AveragePrecision(self.detect_masks if masks else self.detect, truth,
                             self.info.category_ids, self.max_detections,
                             self.instance_masks if masks else None)]
