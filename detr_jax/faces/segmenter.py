"""A trained segmenter at work: images in, a class for every pixel out."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from detr_jax.data import maps
from vit_jax import compilation, trees
from vit_jax.data import images, listing
from vit_jax.errors import UserError
from vit_jax.faces import inputs
from vit_jax.faces.predictor import Predictor
from vit_jax.models.features import Features
from vit_jax.weights import Loaded


@dataclasses.dataclass(frozen=True)
class Segments:
  """What was found in an image.

  Attributes:
    labels: int32 `[height, width]`, the class of each pixel.
  """
  labels: np.ndarray


class SegmenterPredictor(Predictor):
  """A segmenter with its task; images of any size, segmented as for evaluation."""

  def __init__(self, loaded: Loaded, task):
    """Takes what was loaded and its task, a `detr_jax.tasks.segmentation.Segmentation`."""
    super().__init__(loaded)
    self.task = task
    self._params, self._state = jax.device_put(self.params), jax.device_put(dict(self.state))
    self._segment = compilation.jit(task.segment)
    self._encode = compilation.jit(lambda variables, image: self.model.apply(
        variables, image, method='encode'))
    self._look = compilation.jit(self._intermediates)

  def prepare(self, image: str | np.ndarray) -> np.ndarray:
    """Returns an image as uint8 `[height, width, 3]`; UserError for one that cannot be read."""
    if isinstance(image, str | os.PathLike):
      path = os.fspath(image)
      return images.to_array(images.decode(images.read_file(path), 3, path))
    return images.to_array(images.convert(images.from_array(inputs.pixels(image)), 3))

  def batch(self, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the batch of one prepared image, on a canvas whose sides are rounded up."""
    unit = maps.multiple(self.task.inference)
    canvas = tuple(-(-n // unit) * unit for n in image.shape[:2])
    out = np.zeros((1, *canvas, 3), np.uint8)
    out[0, :image.shape[0], :image.shape[1]] = image
    return dict(image=out, size=np.asarray([image.shape[:2]], np.int32))

  def labels(self, image: np.ndarray) -> np.ndarray:
    """Returns the class of each pixel of a prepared image, int32 `[height, width]`."""
    found = np.asarray(self._segment(self._params, self._state, self.batch(image)))[0]
    return found[:image.shape[0], :image.shape[1]]

  def answers(self, images_: Sequence, **_) -> Iterator[tuple[Any, Any, Any]]:
    """Yields (image as given, its pixels uint8 `[height, width, 3]`, `Segments`) of each image; (image
    as given, None, UserError) of one that cannot be read."""
    for given in images_:
      image = inputs.attempt(self.prepare, given)
      if isinstance(image, UserError):
        yield given, None, image
      else:
        yield given, image, Segments(self.labels(image))

  def record(self, name: str, answer: Segments, **_) -> dict:
    """Returns {'file', 'width', 'height', 'classes': [{'class', 'id', 'pixels', 'share'}]}, the largest
    first."""
    counts = np.bincount(answer.labels.reshape(-1), minlength=len(self.classes))
    height, width = answer.labels.shape
    rows = [{'class': self.classes[k], 'id': int(k), 'pixels': int(counts[k]),
             'share': round(counts[k] / answer.labels.size, 6)}
            for k in np.argsort(-counts, kind='stable') if counts[k]]
    return dict(file=listing.shown(name), width=width, height=height, classes=rows)

  def view(self, image: np.ndarray) -> np.ndarray:
    """Returns the part of a prepared image that the network can see at once: the whole of it, or the
    square in its middle that is a window when it has been resized for windows."""
    side = self.task.inference.window
    if not side:
      return image
    height, width = (max(round(n * side / min(image.shape[:2])), side) for n in image.shape[:2])
    resized = images.from_array(image).resize((width, height), Image.Resampling.BILINEAR)
    top, left = (height - side) // 2, (width - side) // 2
    return np.asarray(resized)[top:top + side, left:left + side]

  def attention(self, image: np.ndarray, path: str) -> list[np.ndarray]:
    """Returns the attention of each layer to one image, float32 `[heads, tokens, tokens]`.

    Args:
      image: uint8 `[height, width, 3]`, see `view`.
      path: of the layers' attention in the intermediates, `{i}` standing for the number of one.
    """
    found = trees.unstack(jax.device_get(self._look(self.variables, self.normalize(image[None]))))
    own = itertools.takewhile(found.__contains__, (path.format(i=i) for i in itertools.count()))
    return [found[name][0] for name in own]

  def _intermediates(self, variables, image):
    _, state = self.model.apply(variables, image, mutable=['intermediates'])
    return {path: values[0] for path, values in trees.flatten(state.get('intermediates', {})).items()
            if path.endswith('/attention')}

  def features(self, images_: inputs.Images) -> list[Features]:
    """Returns what the head reads of each image, whole; see `vit_jax.models.features`."""
    prepared = [self.prepare(image) for image in inputs.listed(images_)]
    return [self._encode(self.variables, self.normalize(image[None])) for image in prepared]
