"""What `vit_jax.load` returns for every task: a model with its parameters, ready to answer."""

import abc
from collections.abc import Iterator, Sequence
from typing import Any

from vit_jax.errors import unknown
from vit_jax.faces import inputs
from vit_jax.weights import Loaded


class Predictor(abc.ABC):
  """A model with its parameters; unpacks into `model, params, info`.

      predictor = vit_jax.load('vit_b16.augreg_imagenet21k_imagenet1k_384')
      predictor.predict(['cat.jpg'])
      predictor.features(['cat.jpg']).maps

  Attributes:
    model: takes images that were normalised as those it was trained on.
    params: its parameters.
    info: facts of its data, such as the size, mean and standard deviation of its images.
    state: what else it keeps, such as running statistics under `batch_stats`.
    report: what became of each parameter.
    OPTIONS: names of the options of `predict`.
  """
  OPTIONS: tuple[str, ...] = ()

  def __init__(self, loaded: Loaded):
    """Takes what was loaded; compiles nothing yet."""
    self.loaded = loaded
    self.model, self.params, self.info = loaded
    self.state, self.report = loaded.state, loaded.report

  @property
  def variables(self) -> dict:
    """All that `model.apply` takes."""
    return self.loaded.variables

  @property
  def classes(self) -> tuple[str, ...]:
    """Names of the classes, in the order of the labels."""
    return self.info.classes

  def normalize(self, images):
    """Returns what the model takes, see `vit_jax.weights.Loaded.normalize`."""
    return self.loaded.normalize(images)

  @abc.abstractmethod
  def answers(self, images: Sequence, **options) -> Iterator[tuple[Any, Any, Any]]:
    """Yields (image as given, what was prepared of it, the answer or a UserError) for each image.

    Holds one batch at a time, so that lists may be long.

    Args:
      images: paths of files, or uint8 `[height, width, channels]`.
      **options: of the task, see `predict`.
    """

  @abc.abstractmethod
  def record(self, name: str, answer: Any, **options) -> dict:
    """Returns an answer as JSON has it."""

  def predict(self, images: inputs.Images, **options) -> list[dict]:
    """Returns a record for each image, as `python -m vit_jax.predict --json` prints it.

    Args:
      images: paths of files and folders, or uint8 `[height, width, channels]`; a list, or one of them.
      **options: of the task, see `OPTIONS`.

    Raises:
      UserError: for an image that cannot be read, or an unknown option.
    """
    for name in options:
      if name not in self.OPTIONS:
        raise unknown('option of predict:', name, self.OPTIONS)
    out = []
    for i, (given, _, answer) in enumerate(self.answers(inputs.listed(images), **options)):
      if isinstance(answer, Exception):
        raise answer
      out.append(self.record(given if isinstance(given, str) else str(i), answer, **options))
    return out

  def __iter__(self) -> Iterator:
    return iter(self.loaded)

  def __repr__(self) -> str:
    return self.loaded.described(type(self).__name__)
