"""What all golden readers share: a file whose every key must be used, weights, and running a model.

A reader builds its model or function from a file's `meta`. A key that no reader uses would mean that a
file with another value of it tests the reader and not the model, so `Golden.unused` lists such keys.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vit_jax import models, trees, weights
from vit_jax.weights import formats
from vit_jax.models.family import Grid
from vit_jax.weights.positions import guess_grid
from vit_jax.weights.table import to_ours

# Keys of `meta` that describe a file; they choose nothing.
DESCRIPTIONS = ('system', 'reference', 'cls', 'seed', 'input_convention', 'notes', 'name',
                'params_without_effect', 'weakest_param_effect_in_tolerances')
_VERSION = re.compile(r'v?\d+(\.\d+)+\S*')  # of a library


class Unknown(Exception):
  """A file has a key or a value that its reader does not know."""


class NotJudged(Exception):
  """A file belongs to a model that this project does not have yet."""


class Fields(Mapping):
  """A JSON object that remembers which of its keys were read."""

  def __init__(self, values: Mapping[str, Any], path: str):
    """Wraps the objects and the lists of objects in `values`, too; `path` is for messages."""
    self._path, self._read = path, set()
    self._values = {key: _wrapped(value, f'{path}.{key}') for key, value in values.items()}

  def __getitem__(self, key: str):
    if key not in self._values:
      raise KeyError(f'{self._path}.{key} is missing')
    value = self._values[key]
    self._read.add(key)
    return value

  def __contains__(self, key) -> bool:
    return key in self._values

  def __iter__(self):
    return iter(self._values)

  def __len__(self) -> int:
    return len(self._values)

  def choose(self, key: str, options: Mapping, default=None):
    """Returns what `options` has for the value of a key; Unknown for another value."""
    value = self.get(key, default)
    if value not in options:
      raise Unknown(f'{self._path}.{key}={value!r} is not one of {list(options)}')
    return options[value]

  def check(self, key: str, wanted) -> None:
    """Raises Unknown if a key is there with another value than `wanted`."""
    value = self.get(key, wanted)
    if value != wanted:
      raise Unknown(f'{self._path}.{key}={value!r} is not supported, only {wanted!r}')

  def check_equal(self, other: 'Fields') -> None:
    """Raises Unknown if a key has another value in `other`; the shared keys count as used here alone."""
    for key in self._values.keys() & other._values.keys():
      if self[key] != other._values[key]:
        raise Unknown(f'{self._path}.{key} and {other._path}.{key} are not the same')

  def skip(self, *keys: str) -> None:
    """Marks keys as used whose values cannot change any output."""
    self._read.update(keys)

  def unused(self) -> list[str]:
    """Returns the paths of all keys that were not read."""
    out = [f'{self._path}.{key}' for key in self._values if key not in self._read]
    for key in self._read & set(self._values):
      value = self._values[key]
      for child in value if isinstance(value, list) else [value]:
        out += child.unused() if isinstance(child, Fields) else []
    return out


def _wrapped(value, path: str):
  if isinstance(value, Mapping):
    return Fields(value, path)
  if isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
    return [_wrapped(v, f'{path}[{i}]') for i, v in enumerate(value)]
  return value


@dataclasses.dataclass(frozen=True)
class Golden:
  """A golden file: see its README for the format."""
  meta: Fields
  weights: Mapping[str, np.ndarray]
  inputs: Fields
  outputs: Mapping[str, np.ndarray]
  tolerances: Mapping[str, Mapping]  # meta's `outputs`

  def unused(self) -> list[str]:
    """Returns what no reader used: keys of `meta` and of the inputs."""
    return self.meta.unused() + self.inputs.unused()

  def number_of(self, pattern: str) -> int:
    """Returns how many inputs have a name like 'image_{}', whose numbers must be 0, 1, 2, ..."""
    number = sum(re.fullmatch(pattern.format(r'\d+'), name) is not None for name in self.inputs)
    if any(pattern.format(i) not in self.inputs for i in range(number)):
      raise Unknown(f'the inputs {pattern.format("N")} are not numbered from 0')
    return number


def read(path: str) -> Golden:
  """Reads a golden file.

  Raises:
    Unknown: for an array that is neither a weight, an input nor an output.
  """
  with np.load(path, allow_pickle=False) as archive:
    parts = {'weights/': {}, 'in/': {}, 'out/': {}}
    for key in archive.files:
      prefix = key[:key.find('/') + 1]
      if prefix in parts:
        parts[prefix][key.removeprefix(prefix)] = archive[key]
      elif key != 'meta':
        raise Unknown(f'{key} is neither meta nor below weights/, in/ or out/')
    values = json.loads(str(archive['meta']))
  tolerances, meta = values.pop('outputs', {}), Fields(values, 'meta')
  versions = (k for k, v in values.items() if isinstance(v, str) and _VERSION.fullmatch(v))
  meta.skip(*DESCRIPTIONS, *versions)
  return Golden(meta, parts['weights/'], Fields(parts['in/'], 'in'), parts['out/'], tolerances)


def run(model: nn.Module, variables, *args):
  """Returns the model's output and every intermediate, by path, in exact float32."""
  with jax.default_matmul_precision('highest'):
    outputs, state = jax.jit(lambda v, *args: model.apply(
        v, *args, capture_intermediates=True, mutable=['intermediates']))(variables, *args)
  return outputs, {k.removesuffix('/__call__'): v[0] for k, v in
                   trees.flatten(state['intermediates']).items()}


def load(golden: Golden, model: nn.Module, image: np.ndarray, *,
         old_size: tuple[int, int] | None = None, extra: Mapping[str, np.ndarray] | None = None,
         resampling: str = '', class_position: bool | None = None, headless: bool = False):
  """Returns the file's weights fitted to the model, and them as flat paths.

  Args:
    golden: the file.
    model: what reads images.
    image: `[batch, height, width, channels]`.
    old_size: (height, width) of the images that the weights' position table was made for; None: those
      of `image`, or a square.
    extra: by our paths, what the file gives apart from its weights.
    resampling: rule for the position table; '' for that of the format.
    class_position: whether the table has an entry for the class token; None: as the format has it.
    headless: whether the weights end before the head.

  Raises:
    Unknown: when the model has a parameter that the file does not give, or the file one without use.
  """
  size, channels = image.shape[1:3], image.shape[3]
  arrays, extra = formats.parameters(golden.weights), extra or {}
  table = formats.guess(arrays)
  flat = to_ours(table, arrays, getattr(model, 'num_heads', None))
  shapes = weights.variable_shapes(model, size, channels)
  position = table.class_position if class_position is None else class_position
  source = weights.Source(flat, _old_grid(flat, model, old_size, position),
                          dataclasses.replace(table, class_position=position))
  fitted, report = weights.fit_model(source, model, trees.unstack(weights.flatten(shapes)), size,
                                     resampling=resampling)
  given = ('head/',) if headless else tuple(extra)
  _complain('the file lacks', (p for p in report.reinitialised if not p.startswith(given)))
  idle = tuple(name.removeprefix('ckpt.').split('/')[0].split('.')[0]
               for name in golden.meta.get('params_without_effect', ()))
  _complain('the model has no place for', (p for p in report.ignored if not p.startswith(idle)))
  fitted.update(extra)
  return weights.complete(dict(fitted), model, shapes, size, channels, seed=0), fitted


def _old_grid(flat, model, size, class_position) -> Grid | None:
  """Returns the grid of the weights' position table, made for images of a size."""
  wanted = models.family(model).grid(model, size) if size else None
  if wanted is None:
    return None
  found = guess_grid(flat, class_position, wanted)
  if found and found.size != wanted.size:
    raise Unknown(f'the position table is of a grid of {found.size}, and not of {wanted.size}, which is '
                  f'that of the images of {size} that meta tells')
  return found


def _complain(what: str, names: Iterable[str]) -> None:
  names = list(names)
  if names:
    raise Unknown(f'{what}: {", ".join(names)}')


def exactly(flat: Mapping[str, np.ndarray], model: nn.Module, *args) -> dict:
  """Returns the variables of a model that is called with `args`; Unknown unless they are its own."""
  shapes = weights.flatten(jax.eval_shape(model.init, jax.random.key(0), *args))
  want = {k: v.shape for k, v in shapes.items()}
  got = {k: np.shape(v) for k, v in flat.items()}
  _complain('the file lacks', want.keys() - got.keys())
  _complain('the model has no place for', got.keys() - want.keys())
  _complain('other shapes than those of the model', (k for k in want if got[k] != want[k]))
  return weights.unflatten(flat)


def pair(size) -> tuple[int, int]:
  """Returns (height, width) of a number or of two."""
  return (size, size) if isinstance(size, int) else tuple(size)
