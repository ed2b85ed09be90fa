"""The files of all families of models. A new family is a file with `PUBLISHED`, and a line here."""

import flax.linen as nn

from vit_jax.weights.families import (bit, convnext, efficientnet, hrnet, mixer, nat, regnet, resnet,
                                      swin, vit)
from vit_jax.weights.families.base import Asked, Facts, Published, Refit, Source
from vit_jax.weights.table import Table

__all__ = ['FAMILIES', 'Asked', 'Facts', 'Published', 'Refit', 'Source', 'of', 'tables']

FAMILIES: tuple[Published, ...] = (vit.PUBLISHED, mixer.PUBLISHED, hrnet.PUBLISHED, resnet.PUBLISHED,
                                   bit.PUBLISHED, convnext.PUBLISHED, nat.PUBLISHED, swin.PUBLISHED,
                                   regnet.PUBLISHED, efficientnet.PUBLISHED)


def of(model: nn.Module | type[nn.Module]) -> Published | None:
  """Returns what is known of the files of a model's family; None where no file of it is known."""
  module = model if isinstance(model, type) else type(model)
  return next((known for known in FAMILIES if known.family.module is module), None)


def tables() -> tuple[Table, ...]:
  """Returns all formats that are read."""
  return tuple(table for known in FAMILIES for table in known.tables)
