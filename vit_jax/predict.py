"""Predicts the classes of images with a trained checkpoint.

    python -m vit_jax.predict runs/quickstart photo.jpg folder_of_photos
    python -m vit_jax.predict runs/quickstart folder --json --out=predictions.png
    python -m vit_jax.predict ViT-B_16.npz photo.jpg --model=vit_b16
    python -m vit_jax.predict vit_b16.augreg_imagenet21k_imagenet1k_384 photo.jpg
"""

import json
import sys
import textwrap
from collections.abc import Callable, Sequence

import numpy as np

from vit_jax import errors
from vit_jax.data import listing
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


def line(record: dict, width: int) -> str:
  """Returns a record as a line of a table whose first column has a width."""
  return f'{record["file"]:{width}}  ' + '  '.join(
      f'{p["class"]} {p["probability"]:.1%}' for p in record['predictions'])


class Printer:
  """Prints records as they come: lines of text, or the elements of one JSON list."""

  def __init__(self, as_json: bool, text: Callable[[dict], str]):
    """Takes the form: JSON, or what `text` makes of a record."""
    self._json, self._text, self._count = as_json, text, 0

  def add(self, records: Sequence[dict]) -> None:
    """Prints records and flushes, so that a reader sees them at once."""
    for record in records:
      if self._json:
        print(',\n' if self._count else '[\n', textwrap.indent(json.dumps(record, indent=1), ' '),
              sep='', end='')
      else:
        print(self._text(record))
      self._count += 1
    sys.stdout.flush()

  def close(self) -> None:
    """Ends the list."""
    if self._json:
      print('\n]' if self._count else '[]', flush=True)


def predict(classifier, names: Sequence[str], flags) -> tuple[list, dict]:
  """Prints the predictions for files as they come.

  Returns:
    ([(name, image, probabilities)] of the first ones where --out wants a picture, {name: error} of files
    that cannot be read).
  """
  width = max(len(listing.shown(name)) for name in names)
  printer, drawn, bad = Printer(flags.json, lambda record: line(record, width)), [], {}
  for good, images, probabilities, wrong in classifier.batches(names):
    printer.add(records(map(listing.shown, good), probabilities, classifier.info.classes, flags.top))
    bad.update(wrong)
    if flags.out:
      drawn += list(zip(good, images, probabilities))[:DRAWN - len(drawn)]
  printer.close()
  return drawn, bad


def draw(drawn, classes, top: int, path: str, count: int) -> None:
  """Writes the picture of the first images of `count`, and their predictions."""
  from vit_jax.visual import galleries
  from vit_jax.visual.page import save_figure
  names, images, probabilities = zip(*drawn)
  save_figure(galleries.draw_predictions(images, np.stack(probabilities), classes, top,
                                         names=list(map(listing.shown, names))), path)
  if count > DRAWN:
    print(f'{path} shows the first {DRAWN} of {count} images', file=sys.stderr)


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  from vit_jax import compilation, inference
  compilation.enable_cache()
  classifier = inference.Classifier.load(flags.checkpoint, flags.model, flags.image_size)
  names = inference.image_paths(flags.paths)
  drawn, bad = predict(classifier, names, flags)
  picture = lambda: draw(drawn, classifier.info.classes, flags.top, flags.out, len(names) - len(bad))
  inference.finish(bad, len(names), picture if drawn else None)


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.predict', main)
