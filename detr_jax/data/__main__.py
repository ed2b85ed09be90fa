"""Shows what a config trains a detector on, before anything is trained.

    python -m detr_jax.data configs/detr.py
    python -m detr_jax.data configs/detr.py --show --out=sheet.png

Opens the data, which checks its annotations, prints its facts and how fast it is read. `--show` also
writes a contact sheet of what the model really sees: training images after the transforms on their
canvas, with their boxes (and masks), then test images as they are evaluated, with the boxes of the
annotations. `python -m detr_jax.data.check FOLDER` looks at every image and lists all problems.
"""

import time

import numpy as np

from vit_jax import errors
from vit_jax.flags import Parser, number, split_overrides

SIDE = 480  # pixels of a picture on the contact sheet


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m detr_jax.data', description=__doc__,
                                  epilog='Any leaf of the config is a flag: --config.data.batch_size=64')
  flags.add_argument('config', help='FILE[:arguments], or the config.json of a run')
  flags.add_argument('--show', action='store_true', help='write a contact sheet')
  flags.add_argument('--out', default='sheet.png', help='of the contact sheet (default sheet.png)')
  flags.add_argument('--count', type=number(1), default=12, help='training images on it (default 12)')
  flags.add_argument('--step', type=number(0), default=0, help='first step to look at (default 0)')
  return flags


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
          f'batch       {config.data.batch_size}; an epoch has '
          f'{info.num_train / config.data.batch_size:,.1f}']


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


def draw(data, count: int, step: int, path: str) -> None:
  """Writes the contact sheet."""
  from detr_jax.visual import boxes as drawing
  pictures = []
  while len(pictures) < count:
    _, batch = next(data.train.after(step, step + 1))
    batch = {key: np.asarray(value) for key, value in batch.items()}
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
  drawing.sheet(pictures, columns=4).save(path)


def main(argv: list[str] | None = None) -> None:
  """Runs the command line."""
  import sys
  from vit_jax import config as config_lib, sharding
  from detr_jax.data import pipeline
  argv, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
  flags = parser().parse_args(argv)
  config = config_lib.stages(config_lib.load(flags.config, overrides))[0]
  import jax
  mesh = sharding.make_mesh(data=1, devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    data = pipeline.build(config.data, config.seed, mesh)
    print('\n'.join(facts(data, config)), flush=True)
    begin, seen = time.monotonic(), 0
    for _, batch in data.train.after(flags.step, flags.step + 8):
      seen += len(batch['mask'])
      if time.monotonic() - begin > 5.:
        break
    print(f'reading     {seen / (time.monotonic() - begin):,.0f} images/s on this machine')
    if flags.show:
      draw(data, flags.count, flags.step, flags.out)
      print(f'wrote {flags.out}')


if __name__ == '__main__':
  errors.exit_cleanly('detr_jax.data', main)
