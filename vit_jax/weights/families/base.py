"""What is known of the files of weights of a family of models."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn

from vit_jax import trees
from vit_jax.models.family import Family, Grid, Size
from vit_jax.weights.fit import CLASSIFIER, Report, Rules
from vit_jax.weights.table import Table


class Source(NamedTuple):
  """Weights before they are fitted to a model.

  Attributes:
    flat: our paths, layers one by one.
    grid: of the position table; None: not known.
    table: the format they come from, with its rule for resampling.
    classes: names of the classes of a run; () for a published file.
    size: (height, width) of its images; None: not known.
  """
  flat: trees.Flat
  grid: Grid | None
  table: Table
  classes: tuple[str, ...] = ()
  size: Size | None = None


class Facts(NamedTuple):
  """What the `config.json` beside weights says of a model; what it does not say is empty.

  Attributes:
    fields: of the model.
    image_size: (height, width) in pixels.
    classes: their names.
    preprocessing: fields of `models.variant.Preprocessing`.
  """
  fields: Mapping[str, Any] = {}
  image_size: Size | None = None
  classes: tuple[str, ...] = ()
  preprocessing: Mapping[str, Any] = {}


class Asked(NamedTuple):
  """What the caller says of a published file.

  Attributes:
    path, name: of the file, and of its model.
    sizes: (height, width) that the images of the file may have had, the likeliest first.
    trained_size: that they did have; (0, 0): not known.
    resize_patches: whether the model may have patches of another size.
  """
  path: str
  name: str
  sizes: tuple[Size | None, ...] = ()
  trained_size: Size = (0, 0)
  resize_patches: bool = False


class Refit(NamedTuple):
  """How weights are to be made fit a model.

  Attributes:
    model, image_size: the model, and the (height, width) of its images.
    resampling: rule for position tables; '' for that of the format.
    resize_patches: whether the patch embedding may be resized.
    trained_size: as of `Asked`.
  """
  model: nn.Module
  image_size: Size
  resampling: str = ''
  resize_patches: bool = False
  trained_size: Size = (0, 0)


def facts_of(config: Mapping, processor: Mapping, **fields) -> Facts:
  """Returns the facts that all of transformers' configs say alike: classes, mean and deviation.

  Args:
    config: `config.json`.
    processor: `preprocessor_config.json`.
    **fields: of the model.
  """
  names = config.get('id2label') or {}
  classes = tuple(str(names[key]) for key in sorted(names, key=int))
  rule = {key: tuple(map(float, processor[name])) for key, name in (
      ('mean', 'image_mean'), ('std', 'image_std')) if name in processor}
  return Facts(fields, None, () if classes and classes[0] == 'LABEL_0' else classes, rule)


def attributes(model: nn.Module, names: Iterable[str]) -> dict[str, Any]:
  """Returns fields of a model."""
  return {name: getattr(model, name) for name in names}


@dataclasses.dataclass(frozen=True)
class Published:
  """What published files hold of a family, and how they are read and written.

  Attributes:
    family: of the models.
    tables: the formats that are read; the first that the names in a file show counts.
    shown: parameters -> the fields of a variant that their names and shapes tell; None: they are of
      another family.
    formats: (module, word such as 'npz' or 'timm') -> the table to write, or None.
    told: (module, names of fields) -> the same fields of a model, as `shown` gives them.
    fields: (module, source) -> further fields that a file shows, whatever its variant.
    placed: (source, module, asked) -> (source with the grid of its position table, size of its images
      or None).
    side: (parameters, table, module) -> height of the images of a file; 0: it does not tell.
    refit: (source, shapes of the model, refit, report) -> the parameters, resampled where the model has
      another size; None: nothing is resampled.
    written: (module, parameters, word, image size) -> what is written.
    notes: (module, word) -> sentences on what the reader of a written file must be told.
    described: {`model_type` of transformers' config.json: (config, preprocessor) -> `Facts`}.
    rules: what another task or list of classes may replace.
  """
  family: Family
  tables: tuple[Table, ...]
  shown: Callable[[trees.Flat], dict[str, Any] | None]
  formats: Callable[[nn.Module, str], Table | None]
  told: Callable[[nn.Module, Iterable[str]], dict[str, Any]] = attributes
  fields: Callable[[nn.Module, Source], dict[str, Any]] = lambda model, source: {}
  placed: Callable[[Source, nn.Module, Asked], tuple[Source, Size | None]] = (
      lambda source, model, asked: (source, None))
  side: Callable[[trees.Flat, Table, nn.Module], int] = lambda flat, table, model: 0
  refit: Callable[[Source, Mapping[str, Any], Refit, Report], trees.Flat] | None = None
  written: Callable[..., trees.Flat] = lambda model, flat, to, image_size: flat
  notes: Callable[[nn.Module, str], list[str]] = lambda model, to: []
  described: Mapping[str, Callable[[Mapping, Mapping], Facts]] = dataclasses.field(default_factory=dict)
  rules: Rules = CLASSIFIER
