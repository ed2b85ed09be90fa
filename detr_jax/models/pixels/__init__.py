"""All segmenters by name. A new family is a file with `FAMILY`, and a line here.

A segmenter is called as `model(image, train=False)`, gives `base.Pixels`, and has the fields
`num_classes`, `backbone` and `backbone_fields`, and the methods `trunk`, which gives the backbone alone,
and `encode(image)`, which gives its `Features`.
"""

import flax.linen as nn

from detr_jax.models.pixels import deeplab, ocrnet, segmenter, setr, upernet
from detr_jax.models.pixels.base import PixelFamily
from vit_jax.models.family import family_of, variants_of
from vit_jax.models.variant import Variant, create, find, names

FAMILIES: tuple[PixelFamily, ...] = (
    segmenter.FAMILY, upernet.FAMILY, setr.FAMILY, deeplab.FAMILY, ocrnet.FAMILY)


def variants() -> dict[str, Variant]:
  """Returns {name: variant} of all families."""
  return variants_of(FAMILIES)


def family(of: str | nn.Module) -> PixelFamily:
  """Returns the family of a model, or of a model's name; UserError where it has none."""
  return family_of(FAMILIES, of)


def list_models(pattern: str = '*') -> list[str]:
  """Returns the names of all models that match a shell pattern such as 'segmenter_*'."""
  return names(variants(), pattern)


def variant(name: str) -> Variant:
  """Returns the variant of that name; UserError names the nearest one for an unknown name."""
  return find(variants(), name)


def create_model(name: str, **overrides) -> nn.Module:
  """Returns the linen module of a named model; it holds no parameters.

  Args:
    name: one of `list_models()`.
    **overrides: fields of the module, such as `num_classes=11`, `backbone='convnext_t'`,
      `backbone_fields=dict(depths=(1, 1))`.

  Raises:
    UserError: for an unknown name or field.
  """
  return create(variants(), name, overrides)
