"""The face of detection and panoptic segmentation: boxes, masks and segments of images."""

import contextlib
import dataclasses
import sys
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from detr_jax import models as MODELS
from detr_jax import weights as WEIGHTS
from detr_jax.data.checking import check, holds
from detr_jax.data.sources import open_source
from detr_jax.faces import segments as segment_pngs
from detr_jax.faces import writing
from detr_jax.faces.detector import Detections, Detector
from detr_jax.faces.page import sections
from detr_jax.faces.sheet import facts, sheet
from detr_jax.pretrained import DETECTORS as KNOWN
from detr_jax.tasks.detection import Detection
from detr_jax.tasks.panoptic import Panoptic
from vit_jax import errors, task as task_lib, weights

__all__ = ['COUNT', 'DRAWN', 'FORMAT', 'KNOWN', 'MODELS', 'OPTIONS', 'SHOWN', 'TASK', 'WEIGHTS', 'check',
           'draw', 'facts', 'holds', 'open_source', 'predictor', 'sections', 'sheet', 'text', 'writer']

TASK, FORMAT, OPTIONS = 'a detector', 'huggingface', dict(threshold=None, nms=1., segments=None,
                                                          write=None)
DRAWN, COUNT, SHOWN = 24, 12, 12
SIDE = 480  # pixels of each image of a picture of several, and of one that is smaller


def predictor(loaded: weights.Loaded, origin: weights.Run | weights.File) -> Detector:
  """Returns what detects with loaded weights."""
  if isinstance(origin, weights.Run):
    config = ConfigDict(origin.config)
    if origin.package == 'detr_jax' and loaded.model.num_classes == loaded.info.num_classes:
      task = task_lib.find(config).from_config(config, loaded.info)
      return Detector(loaded, dataclasses.replace(task, model=loaded.model))
  task = Panoptic if loaded.info.panoptic else Detection
  return Detector(loaded, task.untrained(loaded.model, loaded.info))


def text(record: dict, width: int) -> str:
  """Returns a record as text: a line for the image, and one below it per box and per segment."""
  del width
  counts = [f'{len(record[kind]) or "no"} {noun}{"s" * (len(record[kind]) != 1)}' for kind, noun in (
      ('detections', 'object'), ('segments', 'segment')) if kind in record]
  weaker = '' if record['detections'] else '; a lower --threshold shows weaker ones'
  lines = [f'{record["file"]}: {", ".join(counts)}{weaker}']
  lines += ['  {class} {score:.2f}  {}'.format(' '.join(f'{n:.0f}' for n in d['box']), **d)
            for d in record['detections']]
  lines += ['  segment {id}: {class} {score:.2f}  {:.1%}'.format(
      s['area'] / (record['width'] * record['height']), **s) for s in record.get('segments', ())]
  return '\n'.join(lines)


def drawn(image, found, classes, small: bool):
  """Returns an image with the boxes, masks or segments that were found in it.

  Args:
    image: uint8 `[height, width, 3]`.
    found: its `detector.Detections`.
    classes: their names.
    small: whether to bring the image to `SIDE` pixels, also where it is larger.
  """
  from detr_jax.ops.masks import resized
  from detr_jax.visual import boxes, segments
  corners = found.boxes
  if small or max(image.shape) < SIDE:
    image, corners = boxes.enlarged(image, corners, SIDE)
  if found.picture:
    ids, those = found.picture
    return segments.draw_segments(image, resized(ids, image.shape[:2]), those, classes)
  if found.masks is not None:
    image = segments.colour_masks(image, resized(found.masks, image.shape[:2]), found.labels)
  return boxes.draw_boxes(image, corners, found.labels, classes, found.scores)


def draw(detector: Detector, kept: Sequence[tuple[str, np.ndarray, Detections]], path: str, asked: int,
         **_) -> None:
  """Writes the picture of images with what was found in them; one by itself where one was asked for.

  Args:
    detector: that detected.
    kept: (name, pixels, detections) of each image.
    path: of the picture.
    asked: number of images that were asked for.
  """
  from detr_jax.visual import boxes
  from vit_jax.visual.page import save_figure
  pictures = [drawn(image, found, detector.classes, asked > 1) for _, image, found in kept]
  save_figure(boxes.sheet(pictures, 3) if asked > 1 else pictures[0], path)


@contextlib.contextmanager
def writer(detector: Detector, names: Sequence[str], segments: str | None = None,
           write: str | None = None, **_):
  """Gives what writes the files that `predict` asks for beside its records: (name, answer) -> None.

  Args:
    detector: that detects.
    names: of all images.
    segments: folder for a PNG with the segments of each image; None: nothing is written.
    write: FORM:PATH, see `detr_jax.faces.writing`; None: nothing is written.

  Raises:
    UserError: for a model without segments, or a folder that cannot be.
  """
  if segments and not detector.panoptic:
    raise errors.UserError('--segments: the model gives no segments; take a panoptic model, such as a '
                           'run of detr_r50_panoptic')
  categories = dict(zip(detector.info.category_ids, detector.classes, strict=True))
  boxes = writing.Writer(write, names, categories) if write else None
  files = segment_pngs.segment_files(segments, names) if segments else [None] * len(names)
  pngs = dict(zip(names, files, strict=True))

  def add(name, answer):
    if pngs[name]:
      segment_pngs.write_segments(answer.picture[0], pngs[name])
    if boxes:
      boxes.add(name, detector.record(name, answer))

  yield add
  if boxes:
    print(boxes.close(), file=sys.stderr)
