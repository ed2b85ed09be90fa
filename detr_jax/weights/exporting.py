"""Weights out: files that other tools read."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from detr_jax.weights import families
from vit_jax import trees
from vit_jax.errors import UserError, unknown
from vit_jax.weights import flatten, safetensors
from vit_jax.weights.table import to_theirs

FORMATS = ('detr', 'huggingface')


def check_format(path: str, to: str, formats: tuple[str, ...] = FORMATS) -> None:
  """Raises UserError for an unknown format, or a path that does not end as its files do."""
  if to not in formats:
    raise unknown('format', to, formats)
  if not path.endswith('.safetensors'):
    raise UserError(f'{path!r} does not end with .safetensors, as files in the format {to!r} do')


def export(path: str, model: nn.Module, variables: Mapping[str, Any], to: str = 'huggingface',
           image_size: tuple[int, int] | None = None) -> list[str]:
  """Writes what a detector keeps as a file in the names of another code base.

  Args:
    path: ends with .safetensors.
    model: that the variables belong to.
    variables: `params`, and `batch_stats` of the backbone.
    to: 'detr', the authors' names, or 'huggingface', those of `DetrForObjectDetection` with timm's
      backbone.
    image_size: of the images, where what is written depends on it.

  Returns:
    Sentences on what the reader must be told for equal outputs, since a file of weights cannot say it.

  Raises:
    UserError: for a model that the format has no names for, such as a DETR with anchors or on another
      backbone than a ResNet with batch norm.
  """
  check_format(path, to)
  return write(path, model, variables, to, image_size)


def write(path: str, model: nn.Module, variables: Mapping[str, Any], to: str,
          image_size: tuple[int, int] | None) -> list[str]:
  """Writes a file in the names of a format that the model's family has; as `export`."""
  known = families.of(model)
  table = known and known.formats(model, to)
  if not table:
    raise UserError(f'{type(model).__name__} over {model.backbone!r} has no names in the format {to!r}; '
                    'keep the run, which every command reads')
  flat = {k: np.asarray(v) for k, v in trees.unstack(flatten(variables)).items()}
  safetensors.write(path, to_theirs(table, known.written(model, flat, to, image_size)))
  return known.notes(model, to)
