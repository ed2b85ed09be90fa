"""A trained detector at work: files in, boxes, segments and attention maps out."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from detr_jax import weights
from detr_jax.data import pipeline, transforms
from detr_jax.data.sources import DetectionExample
from detr_jax.ops import boxes as box_ops, postprocess
from detr_jax.ops.losses import SetCriterion
from detr_jax.tasks.detection import Detection
from detr_jax.tasks.panoptic import Panoptic
from vit_jax.weights import runs
from vit_jax import compilation, task as task_lib, trees
from vit_jax.data import images
from vit_jax.weights import run_config

Batch = Mapping[str, np.ndarray]

# Scores above which a detection is shown: the focal loss, which comes with sigmoids, holds them back.
THRESHOLDS = dict(softmax=.5, sigmoid=.3)


@dataclasses.dataclass(frozen=True)
class Detections:
  """What was found in an image, best first.

  Attributes:
    size: (height, width) of the image file.
    scores: float32 `[n]`.
    labels: int32 `[n]`; `info.classes` and `info.category_ids` tell what they stand for.
    boxes: float32 `[n, 4]` (left, top, right, bottom) in pixels of the upright image (EXIF
      orientation applied), inside it.
    queries: int32 `[n]`, which query each is of.
    masks: bool `[n, *size]`, of a model for instances that was asked for them.
    picture: segment ids int32 `[*size]` and the segments, see `ops.postprocess.panoptic`, of a panoptic
      model that was asked for them.
  """
  size: tuple[int, int]
  scores: np.ndarray
  labels: np.ndarray
  boxes: np.ndarray
  queries: np.ndarray
  masks: np.ndarray | None = None
  picture: tuple[np.ndarray, list[dict]] | None = None


@dataclasses.dataclass(frozen=True)
class Look:
  """What a model saw in an image.

  Attributes:
    image: uint8 `[height, width, 3]`, as the model got it.
    canvas: (height, width) of the padded image.
    logits: `[queries, classes (+ 1)]`, of the last layer.
    labels, scores: `[queries]`, the most probable object of each query.
    boxes: `[queries, 4]` corners in pixels of `image`.
    masks: `[queries, h, w]` logits over the canvas, or None.
    grid: (rows, columns) of the encoder's tokens, which cover the canvas.
    encoder: `[tokens, tokens]`, attention of the last encoder layer, the mean over its heads; None
      without encoder.
    decoder: `[queries, tokens]`, of the last decoder layer to the image, likewise.
  """
  image: np.ndarray
  canvas: tuple[int, int]
  logits: np.ndarray
  labels: np.ndarray
  scores: np.ndarray
  boxes: np.ndarray
  masks: np.ndarray | None
  grid: tuple[int, int]
  encoder: np.ndarray | None
  decoder: np.ndarray


class Detector:
  """A task with its variables. Images go through one at a time, made ready as for evaluation.

  Attributes:
    task: predicts and detects, see `detr_jax.tasks.detection.Detection`.
    info: facts of its data.
    threshold: score from which a detection is worth showing.
    masks: whether the model has a mask head.
    panoptic: whether its masks make one segment of each pixel.
  """

  def __init__(self, task, variables: Mapping[str, Any]):
    """Compiles nothing yet.

    Args:
      task: with its model.
      variables: `params`, and `batch_stats` where the model has them.
    """
    self.task, self.info = task, task.info
    self.threshold = THRESHOLDS[task.model.classifier]
    self._params = jax.device_put(variables['params'])
    self._state = jax.device_put({k: v for k, v in variables.items() if k != 'params'})
    self._chain = transforms.make(self.info.test_transforms)
    self._canvases = pipeline.check_canvases(self.info.test_canvases, 'test_canvases')
    self.masks, self.panoptic = task.model.masks, isinstance(task, Panoptic)
    self._detect = compilation.jit(task.detect)
    self._detect_masks = compilation.jit(task.segment if self.panoptic else task.detect_masks)
    self._look = compilation.jit(self._internals)
    self._boxes = compilation.jit(lambda *given: task.predict(*given).boxes[-1])

  @classmethod
  def load(cls, path: str, model: str | None = None) -> 'Detector':
    """Loads a run, or a published file.

    Args:
      path: workdir of a run, a checkpoint in it, a file, or the name of a published detector.
      model: name of the model that a file is of, where the file does not tell.

    Raises:
      UserError: as `detr_jax.weights.load`.
    """
    loaded = weights.load(*filter(None, (model, path)), verbose=False)
    if model or not runs.is_run(path):
      task = Panoptic if loaded.info.panoptic else Detection
      return cls(task(loaded.model, loaded.info, SetCriterion(), None), loaded.variables)
    config = ConfigDict(run_config(runs.find(path)[0]))
    return cls(task_lib.find(config).from_config(config, loaded.info), loaded.variables)

  def read(self, path: str) -> DetectionExample:
    """Returns an image file as an example; UserError for one that cannot be read."""
    pixels = images.to_array(images.decode(images.read_file(path), 3, path))
    nothing = np.zeros(0, np.int32)
    return DetectionExample(pixels, path, 0, 0, np.zeros((0, 4)), nothing, nothing.astype(bool))

  def batch(self, example: DetectionExample) -> Batch:
    """Returns the batch of one image, on the canvas that suits it."""
    image = example.image()
    example = dataclasses.replace(example, content=images.to_array(image))  # so that it is decoded once
    extent = transforms.extent(self._chain, image.height, image.width)
    canvas = self._canvases[pipeline.fitting(extent, self._canvases)]
    out = {key: np.empty((1, *shape), dtype)
           for key, (shape, dtype) in pipeline.shapes(canvas, self.info.max_boxes, False).items()}
    pipeline.filler(self._chain)({key: array[0, ...] for key, array in out.items()}, example, None)
    return out

  def detect(self, example: DetectionExample, threshold: float = 0., nms: float = 1.,
             masks: bool = False, sure: float = postprocess.PANOPTIC_THRESHOLD) -> Detections:
    """Returns what is found in an image.

    Args:
      example: the image.
      threshold: least score.
      nms: see `ops.postprocess.suppress`; 1 keeps all.
      masks: whether masks, or segments of a panoptic model, are wanted; the model must have `masks`.
      sure: probability above which a query may have a segment of a panoptic picture.
    """
    batch = self.batch(example)
    run = self._detect_masks if masks else self._detect
    found = {key: np.asarray(value)[0] for key, value in run(self._params, self._state, batch).items()}
    height, width = batch['original_size'][0].tolist()
    found['boxes'] = np.clip(found['boxes'], 0., [width, height] * 2)
    kept = np.flatnonzero(found['scores'] >= threshold)
    kept = kept[postprocess.suppress(found['boxes'][kept], found['scores'][kept],
                                     found['labels'][kept], nms)]
    more = {}
    if masks and self.panoptic:
      more['picture'] = self.task.picture(found, sure)
    elif masks:
      more['masks'] = self.task.instance_masks({**found, 'masks': found['masks'][kept]})
    keys = ('scores', 'labels', 'boxes', 'queries')
    return Detections((height, width), **{key: found[key][kept] for key in keys}, **more)

  def _internals(self, params, model_state, batch):
    model = self.task.model
    outputs, state = self.task.predict(
        params, model_state, batch, mutable=['intermediates'],
        capture_intermediates=lambda module, _: module.name == 'input_proj')
    seen = {k: v[0] for k, v in trees.flatten(state['intermediates']).items()}
    last = lambda name, layers: seen[name.format(layers - 1)].mean(axis=1) if layers else None
    logits, boxes = outputs.last()
    height, width = jnp.moveaxis(batch['size'].astype(jnp.float32), -1, 0)
    boxes = box_ops.to_xyxy(boxes) * jnp.stack([width, height, width, height], axis=-1)[:, None]
    # The other layers' maps are large: what is not returned is not kept.
    return (logits, *postprocess.best_class(logits, model.classifier), boxes, outputs.masks,
            seen['input_proj/__call__'],
            last('encoder/layer_{}/self_attn/attention', model.encoder_layers),
            last('decoder/layer_{}/cross_attn/attention', model.decoder_layers))

  def look(self, example: DetectionExample) -> Look:
    """Returns the last layer's outputs for an image, and where it looked."""
    batch = self.batch(example)
    found = jax.tree.map(lambda x: x[0], jax.device_get(self._look(self._params, self._state, batch)))
    *outputs, tokens, encoder, decoder = found
    height, width = batch['size'][0]
    return Look(batch['image'][0, :height, :width], batch['image'].shape[1:3], *outputs,
                tokens.shape[:2], encoder, decoder)

  def boxes(self, example: DetectionExample) -> np.ndarray:
    """Returns the boxes of all queries `[queries, 4]`, as shares of the image."""
    return np.asarray(self._boxes(self._params, self._state, self.batch(example)))[0]

  def pixels(self, path: str) -> np.ndarray:
    """Returns an image file upright, uint8 `[height, width, 3]`."""
    return self.read(path).content
