"""Weights out: files that other tools read."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from vit_jax import trees
from vit_jax.errors import UserError, unknown
from vit_jax.models.family import Size
from vit_jax.weights import families, npz, safetensors
from vit_jax.weights.shapes import flatten
from vit_jax.weights.table import to_theirs

# Whose names are written, and in which container.
FORMATS = dict(npz='.npz', timm='.safetensors', deit='.safetensors', torchvision='.safetensors',
               huggingface='.safetensors', authors='.safetensors')


def check_format(path: str, to: str) -> None:
  """Raises UserError for an unknown format, or a path that does not end as its files do."""
  if to not in FORMATS:
    raise unknown('format', to, FORMATS)
  if not path.endswith(FORMATS[to]):
    raise UserError(f'{path!r} does not end with {FORMATS[to]}, as files in the format {to!r} do')


def export(path: str, model: nn.Module, variables: Mapping[str, Any], to: str = 'npz',
           image_size: Size | None = None) -> list[str]:
  """Writes what a model keeps as a file in the names of another code base.

  Args:
    path: ends as `FORMATS` says.
    model: that the variables belong to.
    variables: `params`, and `batch_stats` if any; layers stacked or one by one.
    to: one of `FORMATS`. 'npz' is what the family was published in: of a ViT vision_transformer's
      names, or big_vision's for what those have none for (attention pooling, positions without the
      class token). 'authors' has the names of a PyTorch code base that first published the family.
    image_size: (height, width) for which sin-cos positions are written as a table; in the format 'npz'
      no table stands for them.

  Returns:
    Sentences on what the reader must be told for equal logits, since a file of weights cannot say it.

  Raises:
    UserError: for a model that the format has no names for.
  """
  check_format(path, to)
  known = families.of(model)
  table = known and known.formats(model, to)
  if not table:
    raise UserError(f'{type(model).__name__} has no names in the format {to!r}')
  flat = {k: np.asarray(v) for k, v in trees.unstack(flatten(variables)).items()}
  theirs = to_theirs(table, known.written(model, flat, to, image_size))
  (npz if to == 'npz' else safetensors).write(path, theirs)
  return known.notes(model, to)
