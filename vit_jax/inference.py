"""A trained classifier at work: files in, probabilities and attention maps out."""

import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import compilation, models, trees, weights
from vit_jax.data import augment, crops, images, listing
from vit_jax.data.sources import Example
from vit_jax.errors import UserError
from vit_jax.tasks.losses import OUTPUTS

BATCH = 32


def image_paths(paths: Sequence[str]) -> list[str]:
  """Returns files as they are and folders as all images below them, sorted; tells what it leaves out.

  Raises:
    UserError: for paths that do not exist, or when there is no image at all.
  """
  paths = [os.path.expanduser(path) for path in paths]
  if missing := [path for path in paths if not os.path.exists(path)]:
    raise UserError(f'no image or folder {", ".join(map(repr, missing))}')
  found = []
  for path in paths:
    below = listing.images_below(path) if os.path.isdir(path) else listing.Listing([path])
    found += below.files
    if below.left_out:
      listing.tell(f'{path}: {listing.told(below.left_out)}')
  if not found:
    raise UserError(f'no images in {", ".join(paths)}; known suffixes: {" ".join(listing.SUFFIXES)}')
  return found


def finish(bad: dict[str, UserError], count: int, draw: Callable[[], None] | None) -> None:
  """Draws what was found, after all results are printed, then tells what could not be done.

  Args:
    bad: {file that cannot be read: why}.
    count: of all files.
    draw: writes the picture; None where nothing is to be drawn.

  Raises:
    UserError: names all files that cannot be read, and a picture that cannot be written.
  """
  problems = [f'{len(bad)} of {count} file(s) cannot be read' + ', the others are done' * (
      len(bad) < count) + f': {"; ".join(map(str, bad.values()))}'] if bad else []
  try:
    if draw:
      draw()
  except UserError as error:
    problems.append(str(error))
  if problems:
    raise UserError('; '.join(problems))


class Classifier:
  """A model with its parameters and the way its images are made.

  Attributes:
    model, params, info: what was loaded.
  """

  def __init__(self, loaded: weights.Loaded, output: str = 'softmax'):
    """Compiles nothing yet.

    Args:
      loaded: model, parameters, facts.
      output: the loss that the model was trained with, see `vit_jax.tasks.losses`.
    """
    self.model, self.params, self.info = loaded
    self._variables = loaded.variables
    self._cut = crops.make(self.info.eval_crop, self.info.image_size, self.info.interpolation)
    self._output = OUTPUTS[output]
    self._predict = compilation.jit(self._logits)
    self._attend = compilation.jit(self._attention)

  @classmethod
  def load(cls, checkpoint: str, model: str | None = None,
           image_size: tuple[int, int] | None = None) -> 'Classifier':
    """Loads a run, a published file with the model's name, or a published checkpoint by its name.

    Raises:
      UserError: as `weights.load`.
    """
    loaded = weights.load(*filter(None, (model, checkpoint)), image_size=image_size, verbose=False)
    from_ = weights.origin(checkpoint)
    if model or not isinstance(from_, weights.Run):
      return cls(loaded)
    return cls(loaded, from_.config['task'].get('loss', 'softmax'))

  def prepare(self, path: str) -> np.ndarray:
    """Returns an image file as the model sees it, uint8 `[height, width, channels]`."""
    return self.cut(Example(images.read_file(path), (), path))

  def cut(self, example: Example) -> np.ndarray:
    """Returns an example of a source as the model sees it, uint8 `[height, width, channels]`."""
    return self._cut(example.image(self.info.channels) if self.info.antialias else
                     example.quick(self.info.channels, antialias=False))

  def _normalize(self, image):
    return augment.normalize(image.astype(jnp.float32) / 255., self.info.mean, self.info.std)

  def _logits(self, variables, image):
    return self._output(self.model.apply(variables, self._normalize(image)))

  def _attention(self, variables, image):
    _, state = self.model.apply(variables, self._normalize(image),
                                mutable=['intermediates'])
    return {k: v[0] for k, v in trees.flatten(state['intermediates']).items()}

  def batches(self, names: Sequence[str]) -> Iterator[tuple[list, list, np.ndarray, dict]]:
    """Yields the answers for image files, a batch at a time.

    Args:
      names: of the files.

    Yields:
      (names that could be read, their images as the model sees them, probabilities float32
      `[images, classes]`, {name: error} of the others).
    """
    def read(name):
      try:
        return self.prepare(name)
      except UserError as error:
        return error

    with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
      for start in range(0, len(names), BATCH):
        part = names[start:start + BATCH]
        found = list(zip(part, pool.map(read, part)))
        bad = {name: image for name, image in found if isinstance(image, UserError)}
        good = [(name, image) for name, image in found if not isinstance(image, UserError)]
        pixels = [image for _, image in good]
        rows = self.probabilities(pixels.__getitem__, len(good)) if good else np.zeros((0, 0))
        yield [name for name, _ in good], pixels, rows, bad

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
        out.append(np.asarray(self._predict(self._variables, part))[:length])
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
    found = jax.device_get(self._attend(self._variables, part))
    name, layers = next(iter(models.family(self.model).attention.values())), trees.unstack(found)
    own = itertools.takewhile(layers.__contains__, (name.format(i=i) for i in itertools.count()))
    return [layers[path][:length] for path in own]
