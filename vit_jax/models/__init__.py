"""All models by name. A new family is a file with `FAMILY`, and a line here."""

import flax.linen as nn

from vit_jax.models import (bit, convnext, deit, efficientnet, hrnet, hybrid, mixer, nat, regnet,
                            resnet, swin, vit)
from vit_jax.models.family import Family, family_of, variants_of
from vit_jax.models.variant import Variant, create, find, names

FAMILIES: tuple[Family, ...] = (
    vit.FAMILY, hybrid.FAMILY, deit.FAMILY, mixer.FAMILY, resnet.FAMILY, bit.FAMILY,
    convnext.FAMILY, nat.FAMILY, swin.FAMILY, regnet.FAMILY, efficientnet.FAMILY,
    hrnet.FAMILY)


def variants() -> dict[str, Variant]:
  """Returns {name: variant} of all families."""
  return variants_of(FAMILIES)


def family(of: str | nn.Module) -> Family:
  """Returns the family of a model, or of a model's name; UserError where it has none."""
  return family_of(FAMILIES, of)


def list_models(pattern: str = '*') -> list[str]:
  """Returns the names of all models that match a shell pattern such as 'vit_b*'."""
  return names(variants(), pattern)


def variant(name: str) -> Variant:
  """Returns the variant of that name; UserError names the nearest one for an unknown name."""
  return find(variants(), name)


def create_model(name: str, **overrides) -> nn.Module:
  """Returns the linen module of a named model; it holds no parameters.

  Args:
    name: one of `list_models()`.
    **overrides: fields of the module, such as `num_classes=10` (None: features instead of logits),
      `dropout_rate=.1`, `scan=True`, `dtype='bfloat16'`.

  Raises:
    UserError: for an unknown name or field.
  """
  return create(variants(), name, overrides)
