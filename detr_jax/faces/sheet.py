"""What `python -m vit_jax.data` shows of images with boxes."""

import numpy as np

from vit_jax.faces.sheet import batches

SIDE = 480  # pixels of a picture on the contact sheet


def facts(data, config) -> list[str]:
  """Returns lines that describe the data."""
  info, split = data.info, data.train.reader.splits[0]
  names = ', '.join(info.classes[:10]) + ', ...' * (len(info.classes) > 10)
  sizes = ', '.join(f'{height}x{width}: {count:,} images'
                    for (height, width), count in data.train.canvases())
  return [f'source      {info.source}',
          f'classes     {info.num_classes}: {names}',
          f'training    {info.num_train:,} images with {split.counts.sum():,} boxes, '
          f'{int((split.counts == 0).sum()):,} images without; at most {split.counts.max()} in one, '
          f'{info.max_boxes} in a batch',
          f'test        {info.num_test:,} images',
          f'canvases    {sizes}',
          *batches(config, info.num_train)]


def drawn(batch, row: int, classes, boxes=None, labels=None):
  """Returns a row of a batch as a picture: all of its canvas, with its own boxes or the given ones."""
  from detr_jax.ops import boxes as ops, masks as packed
  from detr_jax.visual import boxes as drawing
  image = batch['image'][row].copy()
  height, width = batch['size'][row]
  if 'masks' in batch:
    masks = np.asarray(packed.unpack(batch['masks'][row], image.shape[1]))
    for number, mask in enumerate(masks[batch['labels'][row] >= 0]):
      image[mask] = .5 * image[mask] + .5 * np.asarray(drawing.colour(number))
  if boxes is None:
    labels = batch['labels'][row][batch['labels'][row] >= 0]
    boxes = np.asarray(ops.to_xyxy(batch['boxes'][row][:len(labels)]))
  image[height:], image[:, width:] = image[height:] // 2 + 64, image[:, width:] // 2 + 64  # the padding
  picture, boxes = drawing.enlarged(image, boxes * ([width, height] * 2), SIDE)
  return drawing.draw_boxes(picture, boxes, labels, classes)


def sheet(data, task, config, count: int, step: int, path: str) -> None:
  """Writes the contact sheet: training images on their canvas with their targets, then test images.

  Args:
    data, task: of the config.
    config: of the run.
    count: training images.
    step: the first one to look at.
    path: of the picture.
  """
  import jax
  from detr_jax.visual import boxes as drawing
  from vit_jax.task import keys
  from vit_jax.visual.page import save_figure
  coloured = jax.jit(lambda batch, step: task.augment(batch, keys(config.seed, step)[0])['image'])
  pictures = []
  while len(pictures) < count:
    _, batch = next(data.train.after(step, step + 1))
    image = np.asarray(coloured(batch, step)) if config.data.augment else np.asarray(batch['image'])
    batch = {key: np.asarray(value) for key, value in batch.items()}
    if image.dtype != np.uint8:
      batch['image'] = np.uint8(np.clip(image, 0., 1.) * 255. + .5)
    step += 1
    pictures += [drawn(batch, row, data.info.classes) for row in range(len(batch['mask']))]
  pictures = pictures[:count]
  test = {key: np.asarray(value) for key, value in next(iter(data.splits['test'])).items()}
  split = data.splits['test'].split
  for row in np.flatnonzero(test['mask'])[:4]:
    example = split.read(int(test['index'][row]))
    height, width = test['original_size'][row]
    pictures.append(drawn(test, row, data.info.classes, example.boxes / ([width, height] * 2),
                          example.labels))
  save_figure(drawing.sheet(pictures, columns=4), path)
