"""Predicts with a trained checkpoint: the classes of images, or the objects and segments in them.

    python -m vit_jax.predict runs/quickstart photo.jpg folder_of_photos
    python -m vit_jax.predict runs/quickstart folder --top=3 --json --out=predictions.png
    python -m vit_jax.predict runs/quickstart-detr folder --threshold=.7 --out=boxes.png
    python -m vit_jax.predict runs/quickstart-detr folder --write=voc:labelled
    python -m vit_jax.predict ViT-B_16.npz photo.jpg --model=vit_b16
    python -m vit_jax.predict vit_b16.augreg_imagenet21k_imagenet1k_384 photo.jpg
    python -m vit_jax.predict detr_r50.coco photo.jpg --json
    python -m vit_jax.predict runs/panoptic folder --json --segments=pngs > segments.json

Boxes are (left, top, right, bottom) in pixels of the image as it is seen, turned as its EXIF says;
category ids are the data set's own. A panoptic model also gives segments, which --out draws; --segments
writes the segment of each pixel as COCO's panoptic PNGs do: id = red + 256 green + 65536 blue, 0 for
none. Of a model with masks that is not panoptic, --out draws the masks of the objects.
"""

import sys

from vit_jax import errors
from vit_jax.flags import Parser, number, size


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.predict', description=__doc__)
  flags.add_argument('checkpoint', help='workdir of a run, WORKDIR@best, a checkpoint in it, a '
                     'published file, or a name that `python -m vit_jax.pretrained` lists')
  flags.add_argument('paths', nargs='+', metavar='PATH', help='image files and folders of them')
  flags.add_argument('--model', help='name of the model that a published file belongs to')
  flags.add_argument('--image_size', metavar='HEIGHTxWIDTH', type=size,
                     help='of the images as a classifier sees them (default: as it was trained)')
  flags.add_argument('--top', type=number(1), help='classes to show (default 5)')
  flags.add_argument('--threshold', type=number(0, 1, float), metavar='SCORE',
                     help='least score of a detection (default .5, .3 of a model that was trained with '
                     'the focal loss, and .85 of segments)')
  flags.add_argument('--nms', type=number(0, 1, float), metavar='IOU',
                     help='of two boxes of a class that overlap more, drop the weaker (default: none)')
  flags.add_argument('--segments', metavar='FOLDER', help='write a PNG with the segments of each image')
  flags.add_argument('--write', metavar='FORM:PATH', help='write the detections as coco:FILE.json, '
                     'voc:FOLDER or yolo:FOLDER')
  flags.add_argument('--json', action='store_true', help='print JSON instead of a table')
  flags.add_argument('--out', metavar='FILE', help='draw the images with what was predicted')
  return flags


def predict(face, predictor, names: list[str], options: dict, as_json: bool, keep: int
            ) -> tuple[list, dict]:
  """Prints a record for each file as it comes.

  Args:
    face: of the predictor, see `vit_jax.faces`.
    predictor: answers.
    names: of the files.
    options: of the face.
    as_json: print JSON.
    keep: how many answers are kept for a picture.

  Returns:
    ([(name, what was prepared, answer)] of the first ones, {name: error} of files that cannot be read).
  """
  from vit_jax.data import listing
  from vit_jax.faces import inputs
  width = max(len(listing.shown(name)) for name in names)
  printer = inputs.Printer(as_json, lambda record: face.text(record, width))
  asked, kept, bad = {**options, **(dict(masks=True) if keep else {})}, [], {}
  with face.writer(predictor, names, **options) as write:
    for name, prepared, answer in predictor.answers(names, **asked):
      if isinstance(answer, errors.UserError):
        bad[name] = answer
        continue
      printer.add(predictor.record(name, answer, **options))
      write(name, answer)
      if len(kept) < keep:
        kept.append((name, prepared, answer))
  printer.close()
  return kept, bad


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  from vit_jax import compilation, faces
  from vit_jax.faces import inputs
  compilation.enable_cache()
  sizes = dict(image_size=flags.image_size) if flags.image_size else {}
  face, predictor = faces.find(*filter(None, (flags.model, flags.checkpoint)), verbose=False, **sizes)
  options = faces.check_options(face, {name: getattr(flags, name) for name in (
      'top', 'threshold', 'nms', 'segments', 'write')})
  names = inputs.image_paths(flags.paths)
  kept, bad = predict(face, predictor, names, options, flags.json, face.DRAWN if flags.out else 0)

  def draw():
    face.draw(predictor, kept, flags.out, len(names), **options)
    if len(names) - len(bad) > len(kept):
      print(f'{flags.out} shows the first {len(kept)} of {len(names) - len(bad)} images',
            file=sys.stderr)

  inputs.finish(bad, len(names), draw if kept else None)


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.predict', main)
