"""All models by name. A new family is a file with `FAMILY`, and a line here."""

import flax.linen as nn

from detr_jax.models import detr
from detr_jax.models.family import Head
from vit_jax.models.family import family_of, variants_of
from vit_jax.models.variant import Variant, create, find, names

FAMILIES: tuple[Head, ...] = (detr.FAMILY,)


def variants() -> dict[str, Variant]:
  """Returns {name: variant} of all families."""
  return variants_of(FAMILIES)


def family(of: str | nn.Module) -> Head:
  """Returns the family of a model, or of a model's name; UserError where it has none."""
  return family_of(FAMILIES, of)


def list_models(pattern: str = '*') -> list[str]:
  """Returns the names of all models that match a shell pattern such as 'detr_r50*'."""
  return names(variants(), pattern)


def variant(name: str) -> Variant:
  """Returns the variant of that name; UserError names the nearest one for an unknown name."""
  return find(variants(), name)


def create_model(name: str, **overrides) -> nn.Module:
  """Returns the linen module of a named model; it holds no parameters.

  Args:
    name: one of `list_models()`.
    **overrides: fields of the module, such as `num_classes=3`, `num_queries=20`, `queries='anchors'`,
      `backbone='resnet18'`, `backbone_fields=dict(norm='group')`.

  Raises:
    UserError: for an unknown name or field.
  """
  return create(variants(), name, overrides)
