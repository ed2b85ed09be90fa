"""The files of all families of detectors. A new family is a file with `PUBLISHED`, and a line here."""

import flax.linen as nn

from detr_jax.weights.families import detr, pixels
from detr_jax.weights.families.base import PublishedDetector
from vit_jax import trees
from vit_jax.weights.table import Table

__all__ = ['FAMILIES', 'PublishedDetector', 'known', 'of', 'tables']

FAMILIES: tuple[PublishedDetector, ...] = (
    detr.PUBLISHED, pixels.SEGMENTER_FILES, pixels.SETR_FILES, pixels.OCRNET_FILES,
    pixels.DEEPLAB_FILES, pixels.UPERNET_FILES)


def of(model: nn.Module) -> PublishedDetector | None:
  """Returns what is known of the files of a model's family; None where no file of it is known."""
  return next((family for family in FAMILIES if family.family.module is type(model)), None)


def known(flat: trees.Flat) -> PublishedDetector | None:
  """Returns the family of detectors that parameters are of; None for those of a classifier."""
  return next((family for family in FAMILIES if family.shown(flat) is not None), None)


def tables() -> tuple[Table, ...]:
  """Returns all formats that are read."""
  return tuple(table for family in FAMILIES for table in family.tables)
