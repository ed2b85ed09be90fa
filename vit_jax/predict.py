"""Predicts the classes of images with a trained checkpoint.

    python -m vit_jax.predict runs/quickstart photo.jpg folder_of_photos
    python -m vit_jax.predict runs/quickstart folder --json --out=predictions.png
    python -m vit_jax.predict ViT-B_16.npz photo.jpg --model=vit_b16
    python -m vit_jax.predict vit_b16.augreg_imagenet21k_imagenet1k_384 photo.jpg
"""

import json
import sys

import numpy as np

from vit_jax import errors
from vit_jax.flags import Parser, number, size

DRAWN = 60  # images that a picture shows at most


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.predict', description=__doc__)
  flags.add_argument('checkpoint', help='workdir of a run, a checkpoint in it, a published file, '
                     'or a name that `python -m vit_jax.pretrained` lists')
  flags.add_argument('paths', nargs='+', metavar='PATH', help='image files and folders of them')
  flags.add_argument('--model', help='name of the model that a published file belongs to')
  flags.add_argument('--image_size', metavar='HEIGHTxWIDTH', type=size,
                     help='of the images as the model sees them (default: as it was trained)')
  flags.add_argument('--top', type=number(1), default=5, help='classes to show (default 5)')
  flags.add_argument('--json', action='store_true', help='print JSON instead of a table')
  flags.add_argument('--out', metavar='FILE', help='draw the images with their predictions')
  return flags


def records(names, probabilities: np.ndarray, classes, top: int) -> list[dict]:
  """Returns [{'file': ..., 'predictions': [{'class': ..., 'probability': ...}, ...]}, ...]."""
  out = []
  for name, row in zip(names, probabilities):
    order = np.argsort(-row, kind='stable')[:top]
    out.append(dict(file=name, predictions=[
        {'class': classes[i], 'probability': round(float(row[i]), 6)} for i in order]))
  return out


def table(found: list[dict]) -> str:
  """Returns the records as a table, one line per image."""
  width = max(len(r['file']) for r in found)
  return '\n'.join(f'{r["file"]:{width}}  ' + '  '.join(
      f'{p["class"]} {p["probability"]:.1%}' for p in r['predictions']) for r in found)


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  from vit_jax import compilation, inference
  compilation.enable_cache()
  classifier = inference.Classifier.load(flags.checkpoint, flags.model, flags.image_size)
  names = inference.image_paths(flags.paths)
  probabilities = classifier.probabilities(lambda i: classifier.prepare(names[i]), len(names))
  classes = classifier.info.classes
  found = records(names, probabilities, classes, flags.top)
  print(json.dumps(found, indent=1) if flags.json else table(found))
  if flags.out:
    from vit_jax.visual import galleries
    from vit_jax.visual.page import save_figure
    shown = names[:DRAWN]
    save_figure(galleries.draw_predictions([classifier.prepare(name) for name in shown],
                                           probabilities[:DRAWN], classes, flags.top, names=shown),
                flags.out)
    if names[DRAWN:]:
      print(f'{flags.out} shows the first {DRAWN} of {len(names)} images', file=sys.stderr)


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.predict', main)
