"""Detects objects in images with a trained checkpoint.

    python -m detr_jax.predict runs/quickstart-detr photo.jpg folder_of_photos
    python -m detr_jax.predict runs/quickstart-detr photo.jpg --threshold=.7 --out=boxes.png
    python -m detr_jax.predict runs/quickstart-detr folder --json > detections.json
    python -m detr_jax.predict detr-r50-e632da11.pth photo.jpg --model=detr_r50
    python -m detr_jax.predict runs/panoptic folder --json --segments=pngs > segments.json

Boxes are (left, top, right, bottom) in pixels of the image as it is seen, turned as
its EXIF says; category ids are the data set's own.
A panoptic model also gives segments, which --out draws; --segments writes the segment of each pixel as
COCO's panoptic PNGs do: id = red + 256 green + 65536 blue, 0 for none. Of a model with masks that is not
panoptic, --out draws the masks of the objects.
"""

import os
import sys
from collections.abc import Sequence

from vit_jax import errors
from vit_jax.data import listing
from vit_jax.flags import Parser, number
from vit_jax.predict import Printer

DRAWN = 24  # images that a picture shows at most
SIDE = 480  # pixels of each where there are several, and of one that is smaller


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m detr_jax.predict', description=__doc__)
  flags.add_argument('checkpoint', help='workdir of a run, a checkpoint in it, a published file, '
                     'or a name that `python -m detr_jax.pretrained` lists')
  flags.add_argument('paths', nargs='+', metavar='PATH', help='image files and folders of them')
  flags.add_argument('--model', help='name of the model that a published file belongs to')
  flags.add_argument('--threshold', type=number(0, 1, float), metavar='SCORE',
                     help='least score (default .5, .3 of a model that was trained with the focal loss, '
                     'and .85 of segments)')
  flags.add_argument('--nms', type=number(0, 1, float), default=1., metavar='IOU',
                     help='of two boxes of a class that overlap more, drop the weaker (default: none)')
  flags.add_argument('--json', action='store_true', help='print JSON instead of a table')
  flags.add_argument('--out', metavar='FILE', help='draw the images with their boxes, masks or segments')
  flags.add_argument('--segments', metavar='FOLDER', help='write a PNG with the segments of each image')
  return flags


def record(name: str, found, info) -> dict:
  """Returns what was found in an image, as JSON has it.

  Args:
    name: of the file.
    found: its `inference.Detections`.
    info: facts of the data: `classes`, `category_ids`.

  Returns:
    dict(file, width, height, detections=[dict(class, category_id, score, box)]), of a panoptic model
    also segments=[dict(id, class, category_id, isthing, area, score)].
  """
  kind = lambda label: {'class': info.classes[label], 'category_id': info.category_ids[label]}
  out = dict(file=name, width=found.size[1], height=found.size[0], detections=[
      {**kind(label), 'score': round(score, 6), 'box': [round(n, 2) for n in box]}
      for label, score, box in zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist())])
  if found.picture:
    out['segments'] = [{'id': s['id'], **kind(s['label']), 'isthing': s['isthing'], 'area': s['area'],
                        'score': round(s['score'], 6)} for s in found.picture[1]]
  return out


def text(one: dict) -> str:
  """Returns a record as text: a line for the image, and one below it per box and per segment."""
  counts = [f'{len(one[kind]) or "no"} {noun}{"s" * (len(one[kind]) != 1)}' for kind, noun in (
      ('detections', 'object'), ('segments', 'segment')) if kind in one]
  lines = [f'{one["file"]}: {", ".join(counts)}']
  lines += ['  {class} {score:.2f}  {}'.format(' '.join(f'{n:.0f}' for n in d['box']), **d)
            for d in one['detections']]
  lines += ['  segment {id}: {class} {score:.2f}  {:.1%}'.format(
      s['area'] / (one['width'] * one['height']), **s) for s in one.get('segments', ())]
  return '\n'.join(lines)


def draw(image, found, info, small: bool):
  """Returns an image with the boxes, masks or segments that were found in it.

  Args:
    image: uint8 `[height, width, 3]`.
    found: its `inference.Detections`.
    info: facts of the data: `classes`.
    small: whether to bring the image to `SIDE` pixels, also where it is larger.
  """
  from detr_jax.ops.masks import resized
  from detr_jax.visual import boxes, segments
  corners = found.boxes
  if small or max(image.shape) < SIDE:
    image, corners = boxes.enlarged(image, corners, SIDE)
  if found.picture:
    ids, those = found.picture
    return segments.draw_segments(image, resized(ids, image.shape[:2]), those, info.classes)
  if found.masks is not None:
    image = segments.colour_masks(image, resized(found.masks, image.shape[:2]), found.labels)
  return boxes.draw_boxes(image, corners, found.labels, info.classes, found.scores)


def segment_files(folder: str, names: Sequence[str]) -> list[str]:
  """Returns the PNG of each image, in a folder that is made.

  Raises:
    UserError: a folder that cannot be, two images that would have the same file, or one that would be
      overwritten itself.
  """
  files = {}
  for name in names:
    file = os.path.join(folder, os.path.splitext(os.path.basename(name))[0] + '.png')
    if file in files:
      raise errors.UserError(f'{files[file]} and {name} would both have their segments in {file}; give '
                             'the images names of their own, or call once for each folder')
    files[file] = name
  images = set(map(os.path.realpath, names))
  for file, name in files.items():
    if os.path.realpath(file) in images:
      raise errors.UserError(f'the segments of {name} would overwrite the image {file}; name another '
                             'folder by --segments')
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError as error:
    raise errors.UserError(f'cannot make the folder --segments={folder}: {error}') from None
  return list(files)


def write_segments(ids, file: str) -> None:
  """Writes segment ids `[height, width]` as COCO's panoptic PNGs have them."""
  from PIL import Image

  from detr_jax.data.sources.segmentation import panoptic_pixels
  from vit_jax.visual.page import save_figure
  save_figure(Image.fromarray(panoptic_pixels(ids)), file)


def predict(detector, names: Sequence[str], flags) -> tuple[list, dict]:
  """Prints what is found in each file as it comes; writes the segments.

  Returns:
    (pictures of the first files where --out wants them, {name: error} of files that cannot be read).
  """
  files = segment_files(flags.segments, names) if flags.segments else [None] * len(names)
  threshold = detector.threshold if flags.threshold is None else flags.threshold
  options = {} if flags.threshold is None else dict(sure=flags.threshold)
  options['masks'] = detector.panoptic or detector.masks and bool(flags.out)
  printer, pictures, bad = Printer(flags.json, text), [], {}
  for name, file in zip(names, files):
    try:
      example = detector.read(name)
      found = detector.detect(example, threshold, flags.nms, **options)
    except errors.UserError as error:
      bad[name] = error
      continue
    printer.add([record(listing.shown(name), found, detector.info)])
    if file:
      write_segments(found.picture[0], file)
    if flags.out and len(pictures) < DRAWN:
      pictures.append(draw(example.content, found, detector.info, small=len(names) > 1))
  printer.close()
  return pictures, bad


def draw_sheet(pictures, path: str, asked: int, count: int) -> None:
  """Writes the pictures of the first of `count` images on a sheet; one by itself where one was asked."""
  from detr_jax.visual import boxes
  from vit_jax.visual.page import save_figure
  save_figure(boxes.sheet(pictures, 3) if asked > 1 else pictures[0], path)
  if count > DRAWN:
    print(f'{path} shows the first {DRAWN} of {count} images', file=sys.stderr)


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  from detr_jax import inference
  from vit_jax import compilation
  from vit_jax.inference import finish, image_paths
  compilation.enable_cache()
  detector = inference.Detector.load(flags.checkpoint, flags.model)
  if flags.segments and not detector.panoptic:
    raise errors.UserError(f'--segments: {flags.checkpoint} gives no segments; take a panoptic model, '
                           'such as a run of detr_r50_panoptic')
  names = image_paths(flags.paths)
  pictures, bad = predict(detector, names, flags)
  picture = lambda: draw_sheet(pictures, flags.out, len(names), len(names) - len(bad))
  finish(bad, len(names), picture if pictures else None)


if __name__ == '__main__':
  errors.exit_cleanly('detr_jax.predict', main)
