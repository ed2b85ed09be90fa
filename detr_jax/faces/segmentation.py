"""The face of semantic segmentation: maps over images, with a legend."""

import contextlib
import os
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from detr_jax.data.label_checking import check, holds
from detr_jax.data.maps import open_source
from detr_jax.data.sources.label_maps import IGNORED
from detr_jax.faces import segments as segment_pngs
from detr_jax.faces.segmenter import SegmenterPredictor, Segments
from detr_jax.models import pixels as MODELS
from detr_jax.tasks.segmentation import Segmentation
from detr_jax.weights import pixels as WEIGHTS
from vit_jax import task as task_lib, weights
from vit_jax.faces.sheet import batches

__all__ = ['COUNT', 'DRAWN', 'FORMAT', 'KNOWN', 'MODELS', 'OPTIONS', 'SHOWN', 'TASK', 'WEIGHTS', 'check',
           'draw', 'facts', 'holds', 'open_source', 'predictor', 'sections', 'sheet', 'text', 'writer']

TASK, FORMAT, OPTIONS, KNOWN = 'a segmenter', 'authors', dict(segments=None), {}
DRAWN, COUNT, SHOWN = 12, 6, 6


def predictor(loaded: weights.Loaded, origin: weights.Run | weights.File) -> SegmenterPredictor:
  """Returns what segments with loaded weights."""
  if isinstance(origin, weights.Run):
    config = ConfigDict(origin.config)
    kind = task_lib.find(config)
    if kind.face == __name__:
      return SegmenterPredictor(loaded, kind(loaded.model, loaded.info))
  return SegmenterPredictor(loaded, Segmentation(loaded.model, loaded.info))


def text(record: dict, width: int) -> str:
  """Returns a record as a line of a table whose first column has a width: the largest classes."""
  return f'{record["file"]:{width}}  ' + '  '.join(
      f'{one["class"]} {one["share"]:.1%}' for one in record['classes'][:8])


def draw(segmenter: SegmenterPredictor, kept: Sequence[tuple[str, np.ndarray, Segments]], path: str,
         asked: int, **_) -> None:
  """Writes the picture of images with their maps; arguments as `vit_jax.faces` says."""
  from detr_jax.visual import maps as drawing
  from vit_jax.visual.page import save_figure
  colours = drawing.colours_of(segmenter.info)
  rows = [(image, drawing.overlaid(image, found.labels, colours)) for _, image, found in kept]
  shown = sorted({int(k) for _, _, found in kept for k in np.unique(found.labels)})
  save_figure(drawing.draw(rows, ('image', 'classes'), shown, segmenter.classes, colours), path)


@contextlib.contextmanager
def writer(segmenter: SegmenterPredictor, names: Sequence[str], segments: str | None = None, **_):
  """Gives what writes a PNG with the class of each pixel, and one in colours: (name, answer) -> None.

  Args:
    segmenter: that segments.
    names: of all images.
    segments: folder; None: nothing is written.

  Raises:
    UserError: for a folder that cannot be.
  """
  files = segment_pngs.segment_files(segments, names) if segments else [None] * len(names)
  pngs = dict(zip(names, files, strict=True))

  def add(name, answer):
    if pngs[name]:
      from PIL import Image

      from detr_jax.visual import maps as drawing
      from vit_jax.visual.page import save_figure
      colours = drawing.colours_of(segmenter.info)
      save_figure(Image.fromarray(answer.labels.astype(np.uint8)), pngs[name])
      save_figure(Image.fromarray(drawing.coloured(answer.labels, colours)),
                  os.path.splitext(pngs[name])[0] + '_colours.png')

  yield add


def facts(data, config) -> list[str]:
  """Returns lines that describe the data."""
  info = data.info
  names = ', '.join(info.classes[:12]) + ', ...' * (len(info.classes) > 12)
  return [f'source      {info.source}', f'classes     {info.num_classes}: {names}',
          f'training    {info.num_train:,} images, seen as windows of {info.image_size[0]}x'
          f'{info.image_size[1]}', f'test        {info.num_test:,} images',
          *batches(config, info.num_train)]


def sheet(data, task, config, count: int, step: int, path: str) -> None:
  """Writes the contact sheet: training windows as the model sees them, and their labels over them."""
  import jax

  from detr_jax.visual import maps as drawing
  from vit_jax.task import keys
  from vit_jax.visual.page import save_figure
  augmented = jax.jit(lambda batch, step: task.augment(batch, keys(config.seed, step)[0])['image'])
  colours, rows, seen = drawing.colours_of(data.info), [], set()
  while len(rows) < count:
    _, batch = next(data.train.after(step, step + 1))
    image, labels = np.asarray(augmented(batch, step)), np.asarray(batch['labels'])
    if image.dtype != np.uint8:
      image = np.uint8(np.clip(image, 0., 1.) * 255. + .5)
    for picture, found in zip(image, labels):
      rows.append((picture, drawing.overlaid(picture, found, colours)))
      seen |= set(np.unique(found).tolist())
    step += 1
  shown = sorted(seen - {IGNORED})
  save_figure(drawing.draw(rows[:count], ('training window', 'its labels'), shown, data.info.classes,
                           colours), path)


def sections(segmenter: SegmenterPredictor, config: dict, names, split) -> list:
  """Returns the sections of the page: images with truth and answer, and the IoU of each class."""
  from detr_jax.visual import maps as drawing
  from vit_jax.visual.page import Picture, Section
  del config
  info, rows, seen, colours = segmenter.info, [], set(), drawing.colours_of(segmenter.info)
  own = isinstance(names, int)
  examples = [split.read(i) for i in range(min(names, len(split)))] if own and split else []
  for one in examples if own else names:
    image = segmenter.prepare(one) if not own else np.asarray(one.image())
    found = segmenter.labels(image)
    truth = [drawing.overlaid(image, one.labels(image.shape[:2]), colours)] if own else []
    rows.append((image, *truth, drawing.overlaid(image, found, colours)))
    seen |= set(np.unique(found).tolist())
  titles = ('image', 'truth', 'answer') if own else ('image', 'answer')
  out = [Section('Maps', 'The class of each pixel, over the image.', [Picture(
      drawing.draw(rows, titles, sorted(seen), info.classes, colours), 'images')])] if rows else []
  out += attention(segmenter, rows[0][0]) if rows else []
  return out + embeddings(segmenter) + (measured(segmenter, split) if split else [])


LAYERS = 6  # of which attention is drawn


def attention(segmenter: SegmenterPredictor, image: np.ndarray) -> list:
  """Attention of the encoder by layer, and of the classes to the patches, where there is any."""
  from vit_jax import models
  own, image = MODELS.family(segmenter.model).attention, segmenter.view(image)
  out = []
  for path in list(models.family(segmenter.model.backbone).attention.values())[:1]:
    out += encoder_attention(segmenter, image, segmenter.attention(image, f'backbone/{path}'))
  if 'classes' in own:
    out += class_attention(segmenter, image, segmenter.attention(image, own['classes']))
  return out


def encoder_attention(segmenter: SegmenterPredictor, image: np.ndarray, layers: list) -> list:
  """What two patches attend to, through the layers."""
  from detr_jax.visual import segmenters as drawing
  from vit_jax.visual.page import Picture, Section
  if not layers:
    return []
  rows, columns = MODELS.family(segmenter.model).grid(segmenter.model, image.shape[:2]).size
  shown = np.unique(np.linspace(0, len(layers) - 1, LAYERS).astype(int))
  patches = {'the middle': (rows // 2) * columns + columns // 2,
             'upper left': (rows // 4) * columns + columns // 4}
  seen = lambda i, at: layers[i].mean(0)[at - rows * columns, -rows * columns:].reshape(rows, columns)
  return [Section('Attention of the encoder', 'What two patches attend to in layers from the first to '
                  'the last, as the mean of the heads.', [Picture(drawing.draw_lit(image, [
                      [(f'layer {i}, {name}', seen(i, at)) for i in shown]
                      for name, at in patches.items()]), 'layer by layer')])]


def class_attention(segmenter: SegmenterPredictor, image: np.ndarray, layers: list) -> list:
  """What the embeddings of the largest classes attend to, in each layer of the decoder."""
  from detr_jax.visual import segmenters as drawing
  from vit_jax.visual.page import Picture, Section
  if not layers:
    return []
  cells = layers[0].shape[-1] - len(segmenter.classes)
  maps = segmenter.features([image])[0].maps
  grid = next(map_.shape[1:3] for map_ in maps if map_.shape[1] * map_.shape[2] == cells)
  counts = np.bincount(segmenter.labels(image).reshape(-1), minlength=len(segmenter.classes))
  largest = np.argsort(-counts, kind='stable')[:LAYERS]
  return [Section('Attention of the classes', 'What the embeddings of the largest classes attend to in '
                  'each layer of the mask transformer.', [Picture(drawing.draw_lit(image, [
                      [(f'{segmenter.classes[k]}, layer {i}',
                        layer.mean(0)[cells + k, :cells].reshape(grid)) for k in largest]
                      for i, layer in enumerate(layers)]), 'class by class')])]


def embeddings(segmenter: SegmenterPredictor) -> list:
  """Where the embeddings of the classes lie to each other, where there are any."""
  from detr_jax.visual import maps, segmenters as drawing
  from vit_jax import trees
  from vit_jax.visual.page import Picture, Section
  path = MODELS.family(segmenter.model).classes
  flat = trees.flatten(segmenter.params)
  if path not in flat:
    return []
  return [Section('Class embeddings', 'The embeddings of the classes by their two largest singular '
                  'directions (Segmenter, figure 8): what is alike lies together.', [Picture(
                      drawing.draw_classes(np.asarray(flat[path]), segmenter.classes,
                                           maps.colours_of(segmenter.info)), 'class embeddings')])]


MEASURED = 100  # test images of which the IoU is drawn


def measured(segmenter: SegmenterPredictor, split) -> list:
  """The IoU of each class over the first test images, and the images with the most errors."""
  from detr_jax.evaluation import mean_iou
  from detr_jax.visual import maps as drawing
  from vit_jax.visual.page import Picture, Section
  info, total, scores = segmenter.info, 0, []
  count = min(len(split), MEASURED)
  for i in range(count):
    example = split.read(i)
    image = np.asarray(example.image())
    truth = example.labels(image.shape[:2])
    counts = np.asarray(mean_iou.confusion(truth, segmenter.labels(image), info.num_classes), np.int64)
    total = total + counts
    scores.append(mean_iou.measures(counts)[0]['pixel_accuracy'])
  found, iou = mean_iou.measures(total)
  colours, worst = drawing.colours_of(info), np.argsort(scores)[:3]
  rows = []
  for i in worst:
    example = split.read(int(i))
    image = np.asarray(example.image())
    rows.append((image, drawing.overlaid(image, example.labels(image.shape[:2]), colours),
                 drawing.overlaid(image, segmenter.labels(image), colours)))
  return [
      Section('Classes', f'Intersection over union over {count} test images; their mean is '
              f'{found["miou"]:.1%}, pixel accuracy {found["pixel_accuracy"]:.1%}.',
              [Picture(drawing.bars(iou, info.classes, colours), 'IoU of each class')]),
      Section('Worst images', 'The test images with the fewest right pixels.', [Picture(
          drawing.draw(rows, ('image', 'truth', 'answer'), range(info.num_classes), info.classes,
                       colours), 'worst images')])]
