"""Detects objects in images with a trained checkpoint.

    python -m detr_jax.predict runs/quickstart-detr photo.jpg folder_of_photos
    python -m detr_jax.predict runs/quickstart-detr photo.jpg --threshold=.7 --out=boxes.png
    python -m detr_jax.predict runs/quickstart-detr folder --json > detections.json
    python -m detr_jax.predict detr-r50-e632da11.pth photo.jpg --model=detr_r50

Boxes are (left, top, right, bottom) in pixels of the image file; category ids are the data set's own.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from vit_jax import errors

DRAWN = 24  # images that a picture shows at most
SIDE = 480  # pixels of each where there are several, and of one that is smaller


def parser() -> argparse.ArgumentParser:
  """Returns the flags of this command line."""
  flags = argparse.ArgumentParser(prog='python -m detr_jax.predict', description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('checkpoint', help='workdir of a run, a checkpoint in it, a published file, '
                     'or a name that `python -m detr_jax.pretrained` lists')
  flags.add_argument('paths', nargs='+', metavar='PATH', help='image files and folders of them')
  flags.add_argument('--model', help='name of the model that a published file belongs to')
  flags.add_argument('--threshold', type=float, help='least score (default .5, and .3 of a model that '
                     'was trained with the focal loss)')
  flags.add_argument('--nms', type=float, default=1., metavar='IOU',
                     help='of two boxes of a class that overlap more, drop the weaker (default: none)')
  flags.add_argument('--json', action='store_true', help='print JSON instead of a table')
  flags.add_argument('--out', metavar='FILE', help='draw the images with their boxes')
  return flags


def records(names: Sequence[str], found: Sequence, info) -> list[dict]:
  """Returns what was detected, as JSON has it.

  Args:
    names: of the files.
    found: `inference.Detections` of each.
    info: facts of the data: `classes`, `category_ids`.

  Returns:
    [dict(file, width, height, detections=[dict(class, category_id, score, box)])]
  """
  return [dict(file=name, width=one.size[1], height=one.size[0], detections=[
      {'class': info.classes[label], 'category_id': info.category_ids[label], 'score': round(score, 6),
       'box': [round(n, 2) for n in box]} for label, score, box in zip(
           one.labels.tolist(), one.scores.tolist(), one.boxes.tolist())])
          for name, one in zip(names, found)]


def table(found: list[dict]) -> str:
  """Returns the records as text: a line per image, and one below it per box."""
  lines = []
  for record in found:
    detections = record['detections']
    number = len(detections) or 'no'
    lines.append(f'{record["file"]}: {number} object{"s" * (len(detections) != 1)}')
    lines += ['  {class} {score:.2f}  {}'.format(' '.join(f'{n:.0f}' for n in d['box']), **d)
              for d in detections]
  return '\n'.join(lines)


def draw(detector, names: Sequence[str], found: Sequence):
  """Returns a picture of the first images with their boxes; one alone is not made smaller."""
  from detr_jax.visual import boxes
  pictures = []
  for name, one in list(zip(names, found))[:DRAWN]:
    image, corners = detector.pixels(name), one.boxes
    if len(found) > 1 or max(image.shape) < SIDE:
      image, corners = boxes.enlarged(image, corners, SIDE)
    pictures.append(boxes.draw_boxes(image, corners, one.labels, detector.info.classes, one.scores))
  return boxes.sheet(pictures, 3) if len(found) > 1 else pictures[0]


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  for name, value in (('threshold', flags.threshold), ('nms', flags.nms)):
    if value is not None and not 0. <= value <= 1.:
      raise errors.UserError(f'--{name}={value:g} must be between 0 and 1')
  from detr_jax import inference
  from vit_jax import compilation
  from vit_jax.inference import image_paths
  compilation.enable_cache()
  detector = inference.Detector.load(flags.checkpoint, flags.model)
  names = image_paths(flags.paths)
  threshold = detector.threshold if flags.threshold is None else flags.threshold
  found = [detector.detect(detector.read(name), threshold, flags.nms) for name in names]
  written = records(names, found, detector.info)
  print(json.dumps(written, indent=1) if flags.json else table(written))
  if flags.out:
    from vit_jax.visual.page import save_figure
    save_figure(draw(detector, names, found), flags.out)
    if names[DRAWN:]:
      print(f'{flags.out} shows the first {DRAWN} of {len(names)} images', file=sys.stderr)


if __name__ == '__main__':
  errors.exit_cleanly('detr_jax.predict', main)
