"""The face of classification: files in, probabilities and attention maps out."""

import concurrent.futures
import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from vit_jax import compilation, models, trees, weights
from vit_jax import models as MODELS
from vit_jax import weights as WEIGHTS
from vit_jax.data import crops, images, listing
from vit_jax.data.sources import Example, open_source
from vit_jax.errors import UserError
from vit_jax.faces import inputs
from vit_jax.faces.page import sections
from vit_jax.faces.predictor import Predictor
from vit_jax.faces.sheet import check, facts, holds, sheet
from vit_jax.models.features import Features
from vit_jax.pretrained import PRETRAINED as KNOWN
from vit_jax.tasks.losses import OUTPUTS

__all__ = ['COUNT', 'DRAWN', 'FORMAT', 'KNOWN', 'MODELS', 'OPTIONS', 'SHOWN', 'TASK', 'WEIGHTS',
           'Classifier', 'check', 'draw', 'facts', 'holds', 'open_source', 'predictor', 'sections',
           'sheet', 'text', 'writer']

TASK, FORMAT, OPTIONS = 'a classifier', 'npz', dict(top=5)
DRAWN, COUNT, SHOWN = 60, 16, 32  # images of `predict`, `explore` and `data --show`
BATCH = 32


class Classifier(Predictor):
  """A classifier, and the way its images are made."""
  OPTIONS = ('top',)

  def __init__(self, loaded: weights.Loaded, output: str = 'softmax'):
    """Compiles nothing yet.

    Args:
      loaded: model, parameters, facts.
      output: the loss that the model was trained with, see `vit_jax.tasks.losses`.
    """
    super().__init__(loaded)
    self._cut = crops.make(self.info.eval_crop, self.info.image_size, self.info.interpolation)
    self._output = OUTPUTS[output]
    self._predict = compilation.jit(lambda variables, image: self._output(
        self.model.apply(variables, self.normalize(image))))
    self._attend = compilation.jit(self._attention)

  @functools.cached_property
  def _features(self):
    own = self.model.clone(num_classes=None)
    return compilation.jit(lambda variables, image: own.apply(variables, self.normalize(image)))

  def prepare(self, image: str | np.ndarray) -> np.ndarray:
    """Returns an image as the model sees it, uint8 `[height, width, channels]`.

    Args:
      image: path of a file, or uint8 `[height, width, channels]`.
    """
    if isinstance(image, str | os.PathLike):
      return self.cut(Example(images.read_file(os.fspath(image)), (), os.fspath(image)))
    return self.cut(Example(inputs.pixels(image), (), 'the array'))

  def cut(self, example: Example) -> np.ndarray:
    """Returns an example of a source as the model sees it, uint8 `[height, width, channels]`."""
    return self._cut(example.image(self.info.channels) if self.info.antialias else
                     example.quick(self.info.channels, antialias=False))

  def _attention(self, variables, image):
    _, state = self.model.apply(variables, self.normalize(image), mutable=['intermediates'])
    return {k: v[0] for k, v in trees.flatten(state['intermediates']).items()}

  def answers(self, images_: Sequence, **options) -> Iterator[tuple[Any, Any, Any]]:
    """Yields (image as given, uint8 as the model sees it, probabilities float32 `[classes]`) of each
    image; (image as given, None, UserError) of one that cannot be read."""
    with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
      for part in inputs.in_batches(images_, BATCH):
        read = list(pool.map(lambda image: inputs.attempt(self.prepare, image), part))
        good = [image for image in read if not isinstance(image, UserError)]
        rows = iter(self.probabilities(good.__getitem__, len(good)) if good else ())
        for given, image in zip(part, read, strict=True):
          yield (given, None, image) if isinstance(image, UserError) else (given, image, next(rows))

  def record(self, name: str, answer: np.ndarray, top: int = 5) -> dict:
    """Returns {'file': ..., 'predictions': [{'class': ..., 'probability': ...}, ...]}."""
    order = np.argsort(-answer, kind='stable')[:top]
    return dict(file=listing.shown(name), predictions=[
        {'class': self.classes[i], 'probability': round(float(answer[i]), 6)} for i in order])

  def features(self, images_: Sequence) -> Features:
    """Returns what a head would read of images, see `vit_jax.models.features`; all at once."""
    pixels = np.stack([self.prepare(image) for image in images_])
    return self._features(self.variables, pixels)

  def probabilities(self, read: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """Returns float32 `[count, classes]`; holds one batch of images at a time.

    Args:
      read: returns image i, uint8 `[height, width, channels]`; called in threads.
      count: number of images.
    """
    out = []
    with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
      for start in range(0, count, BATCH):
        images_read = list(pool.map(read, range(start, min(start + BATCH, count))))
        part, length = self._padded(np.stack(images_read))
        out.append(np.asarray(self._predict(self.variables, part))[:length])
    return np.concatenate(out)

  def _padded(self, part):
    """Returns a part of one fixed size, so that one program serves all, and its true length."""
    padding = [(0, BATCH - len(part))] + [(0, 0)] * 3
    return np.pad(part, padding), len(part)

  def attention(self, batch: np.ndarray) -> list[np.ndarray]:
    """Returns the attention of each layer, float32 `[images, heads, tokens, tokens]`.

    Args:
      batch: uint8 `[images, height, width, channels]`, at most `BATCH` of them.
    """
    part, length = self._padded(batch)
    found = trees.unstack(jax.device_get(self._attend(self.variables, part)))
    name = next(iter(models.family(self.model).attention.values()))
    own = itertools.takewhile(found.__contains__, (name.format(i=i) for i in itertools.count()))
    return [found[path][:length] for path in own]


def predictor(loaded: weights.Loaded, origin: weights.Run | weights.File) -> Classifier:
  """Returns what predicts with loaded weights."""
  if not isinstance(origin, weights.Run):
    return Classifier(loaded)
  return Classifier(loaded, origin.config['task'].get('loss', 'softmax'))


def text(record: dict, width: int) -> str:
  """Returns a record as a line of a table whose first column has a width."""
  return f'{record["file"]:{width}}  ' + '  '.join(
      f'{p["class"]} {p["probability"]:.1%}' for p in record['predictions'])


def draw(classifier: Classifier, kept: Sequence[tuple[str, np.ndarray, np.ndarray]], path: str,
         asked: int, top: int = 5) -> None:
  """Writes the picture of images with their predictions.

  Args:
    classifier: that predicted.
    kept: (name, image, probabilities) of each image.
    path: of the picture.
    asked: number of images that predictions were asked for.
    top: classes of each.
  """
  from vit_jax.visual import galleries
  from vit_jax.visual.page import save_figure
  names, pictures, probabilities = zip(*kept)
  save_figure(galleries.draw_predictions(pictures, np.stack(probabilities), classifier.classes, top,
                                         names=list(map(listing.shown, names))), path)


@contextlib.contextmanager
def writer(classifier: Classifier, names: Sequence[str], **_):
  """Gives what writes files beside the records: nothing does."""
  yield lambda name, answer: None
