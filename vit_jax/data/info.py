"""The facts of the data, read from the source once and saved beside the checkpoint."""

import dataclasses
import os

from vit_jax import files
from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Info:
  """What a model must know of the data it was trained on.

  Attributes:
    source: name of the data set or path of the folder.
    classes: names, in the order of the labels.
    channels: of an image.
    image_size: (height, width) of the model's input in pixels.
    num_train, num_test: examples.
    mean, std: per channel or one for all, of values in [0, 1].
    eval_crop: how a test image is cut, as in `config.data.eval_crop`.
    interpolation: as of `images.RESAMPLE`.
    antialias: whether shrinking smooths.
    multi_label: whether an image may have several labels.
    max_labels, max_real: labels of an image, and of ImageNet-ReaL.
  """
  source: str
  classes: tuple[str, ...]
  channels: int
  image_size: tuple[int, int]
  num_train: int = 0
  num_test: int = 0
  mean: tuple[float, ...] = (.5,)
  std: tuple[float, ...] = (.5,)
  eval_crop: dict = dataclasses.field(default_factory=lambda: dict(name='squash'))
  interpolation: str = 'bilinear'
  antialias: bool = True
  multi_label: bool = False
  max_labels: int = 1
  max_real: int = 0

  @property
  def num_classes(self) -> int:
    """Number of classes."""
    return len(self.classes)

  def save(self, workdir: str) -> None:
    """Writes `info.json` into the workdir, whole or not at all."""
    files.write_json(os.path.join(workdir, 'info.json'), dataclasses.asdict(self))

  @classmethod
  def load(cls, workdir: str) -> 'Info':
    """Reads `info.json`, of a class with more facts too; UserError when it is missing or damaged."""
    path = os.path.join(workdir, 'info.json')
    try:
      values = files.read_object(path, 'start the run again with its --config after removing that file')
      known = {field.name for field in dataclasses.fields(cls)}
      return cls(**{k: _tuples(v) for k, v in values.items() if k in known})
    except FileNotFoundError:
      raise UserError(f"{workdir!r} is not a run's workdir: it holds no info.json") from None
    except (AttributeError, TypeError) as error:
      raise UserError(f'{path} is damaged ({error}); start the run again with its --config after '
                      'removing that file') from None


def _tuples(value):
  """Returns a value of JSON with tuples for lists, which no one changes."""
  if isinstance(value, dict):
    return {key: _tuples(item) for key, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value
