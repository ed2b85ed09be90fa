"""A trained detector at work: images in, boxes, segments and attention maps out."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detr_jax.data import pipeline, transforms
from detr_jax.data.sources import DetectionExample
from detr_jax.ops import boxes as box_ops, postprocess
from vit_jax import compilation, trees
from vit_jax.data import images, listing
from vit_jax.errors import UserError
from vit_jax.faces import inputs
from vit_jax.faces.predictor import Predictor
from vit_jax.models.features import Features
from vit_jax.weights import Loaded

Batch = Mapping[str, np.ndarray]


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


class Detector(Predictor):
  """A detector with its task. Images go through one at a time, made ready as for evaluation.

  Attributes:
    task: predicts and detects, see `detr_jax.tasks.detection.Detection`.
    threshold: score from which a detection is worth showing.
    masks: whether the model has a mask head.
    panoptic: whether its masks make one segment of each pixel.
  """
  OPTIONS = ('threshold', 'nms', 'masks')

  def __init__(self, loaded: Loaded, task):
    """Compiles nothing yet.

    Args:
      loaded: model, parameters, facts.
      task: with that model.
    """
    super().__init__(loaded)
    self.task, self.threshold = task, task.family.threshold(task.model)
    self._params = jax.device_put(self.params)
    self._state = jax.device_put(dict(self.state))
    self._chain = transforms.make(self.info.test_transforms)
    self._canvases = pipeline.check_canvases(self.info.test_canvases, 'test_canvases')
    self.masks, self.panoptic = getattr(task.model, 'masks', False), hasattr(task, 'picture')
    self._detect = compilation.jit(task.detect)
    self._detect_masks = compilation.jit(task.segment if self.panoptic else task.detect_masks)
    self._look = compilation.jit(self._internals)
    self._boxes = compilation.jit(lambda *given: task.predict(*given).boxes[-1])
    self._features = compilation.jit(task.features)

  def prepare(self, image: str | np.ndarray) -> DetectionExample:
    """Returns an image as an example; UserError for one that cannot be read.

    Args:
      image: path of a file, or uint8 `[height, width, 3]`.
    """
    path = os.fspath(image) if isinstance(image, str | os.PathLike) else ''
    if path:
      decoded = images.decode(images.read_file(path), 3, path)
    else:
      decoded = images.convert(images.from_array(inputs.pixels(image)), 3)
    pixels = images.to_array(decoded)
    nothing = np.zeros(0, np.int32)
    return DetectionExample(pixels, path, 0, 0, np.zeros((0, 4)), nothing, nothing.astype(bool))

  def answers(self, images_: Sequence, threshold: float | None = None, nms: float = 1.,
              masks: bool | None = None, **_) -> Iterator[tuple[Any, Any, Any]]:
    """Yields (image as given, its pixels uint8 `[height, width, 3]`, `Detections`) of each image; (image
    as given, None, UserError) of one that cannot be read.

    Args:
      images_: paths of files, or uint8 `[height, width, 3]`.
      threshold: least score; None: what is worth showing.
      nms: see `detect`.
      masks: whether masks are wanted; None: of a panoptic model alone, whose answer they are.
    """
    sure = {} if threshold is None else dict(sure=threshold)
    threshold = self.threshold if threshold is None else threshold
    masks = self.panoptic if masks is None else self.panoptic or self.masks and masks
    for given in images_:
      example = inputs.attempt(self.prepare, given)
      if isinstance(example, UserError):
        yield given, None, example
      else:
        yield given, example.content, self.detect(example, threshold, nms, masks, **sure)

  def record(self, name: str, answer: Detections, **_) -> dict:
    """Returns what was found in an image, as JSON has it.

    Returns:
      dict(file, width, height, detections=[dict(class, category_id, score, box)]), of a panoptic model
      also segments=[dict(id, class, category_id, isthing, area, score)].
    """
    kind = lambda label: {'class': self.classes[label], 'category_id': self.info.category_ids[label]}
    rows = zip(answer.labels.tolist(), answer.scores.tolist(), answer.boxes.tolist())
    out = dict(file=listing.shown(name), width=answer.size[1], height=answer.size[0], detections=[
        {**kind(label), 'score': round(score, 6), 'box': [round(n, 2) for n in box]}
        for label, score, box in rows])
    if answer.picture:
      out['segments'] = [
          {'id': s['id'], **kind(s['label']), 'isthing': s['isthing'], 'area': s['area'],
           'score': round(s['score'], 6)} for s in answer.picture[1]]
    return out

  def features(self, images_: Sequence) -> list[Features]:
    """Returns what the head reads of each image, on its canvas; see `vit_jax.models.features`."""
    batches = (self.batch(self.prepare(image)) for image in images_)
    return [self._features(self._params, self._state, batch) for batch in batches]

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
    family = self.task.family
    outputs, state = self.task.predict(params, model_state, batch, mutable=['intermediates'],
                                       capture_intermediates=family.capture)
    seen = {k: v[0] for k, v in trees.flatten(state['intermediates']).items()}
    found = family.look(self.task.model, outputs, seen)
    height, width = jnp.moveaxis(batch['size'].astype(jnp.float32), -1, 0)
    scale = jnp.stack([width, height, width, height], axis=-1)[:, None]
    return {**found, 'boxes': box_ops.to_xyxy(found['boxes']) * scale}

  def look(self, example: DetectionExample) -> Look:
    """Returns the last layer's outputs for an image, and where it looked."""
    batch = self.batch(example)
    found = jax.tree.map(lambda x: x[0], jax.device_get(self._look(self._params, self._state, batch)))
    height, width = batch['size'][0]
    return Look(image=batch['image'][0, :height, :width], canvas=batch['image'].shape[1:3],
                grid=found.pop('tokens').shape[:2], **found)

  def boxes(self, example: DetectionExample) -> np.ndarray:
    """Returns the boxes of all queries `[queries, 4]`, as shares of the image."""
    return np.asarray(self._boxes(self._params, self._state, self.batch(example)))[0]
