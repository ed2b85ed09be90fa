"""All models by name. A new one is a file with `VARIANTS`, and a line here."""

from collections.abc import Mapping

import flax.linen as nn

from vit_jax.models import bit, deit, hybrid, mixer, resnet, vit
from vit_jax.models.variant import Variant, create, find, names

MODELS: Mapping[str, Variant] = {
    **vit.VARIANTS, **hybrid.VARIANTS, **deit.VARIANTS, **mixer.VARIANTS, **resnet.VARIANTS,
    **bit.VARIANTS}


def list_models(pattern: str = '*') -> list[str]:
  """Returns the names of all models that fit a shell pattern such as 'vit_b*'."""
  return names(MODELS, pattern)


def variant(name: str) -> Variant:
  """Returns the variant of that name; UserError names the nearest one for an unknown name."""
  return find(MODELS, name)


def create_model(name: str, **overrides) -> nn.Module:
  """Returns the linen module of a named model; it holds no parameters.

  Args:
    name: one of `list_models()`.
    **overrides: fields of the module, such as `num_classes=10` (None: features instead of logits),
      `dropout_rate=.1`, `scan=True`, `dtype='bfloat16'`.

  Raises:
    UserError: for an unknown name or field.
  """
  return create(MODELS, name, overrides)
