"""All models by name. A new one is a file with `VARIANTS`, and a line here."""

import dataclasses
import fnmatch
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from vit_jax.errors import UserError, unknown
from vit_jax.models import bit, deit, hybrid, mixer, resnet, vit
from vit_jax.models.variant import Variant

MODELS: Mapping[str, Variant] = {
    **vit.VARIANTS, **hybrid.VARIANTS, **deit.VARIANTS, **mixer.VARIANTS, **resnet.VARIANTS,
    **bit.VARIANTS}


def list_models(pattern: str = '*') -> list[str]:
  """Returns the names of all models that fit a shell pattern such as 'vit_b*'."""
  return sorted(fnmatch.filter(MODELS, pattern))


def variant(name: str) -> Variant:
  """Returns the variant of that name; UserError names the nearest one for an unknown name."""
  if name not in MODELS:
    raise unknown('model', name, MODELS)
  return MODELS[name]


def create_model(name: str, **overrides) -> nn.Module:
  """Returns the linen module of a named model; it holds no parameters.

  Args:
    name: one of `list_models()`.
    **overrides: fields of the module, such as `num_classes=10` (None: features instead of logits),
      `dropout_rate=.1`, `scan=True`, `dtype='bfloat16'`.

  Raises:
    UserError: for an unknown name or field.
  """
  found = variant(name)
  fields = {f.name for f in dataclasses.fields(found.module)} - {'name', 'parent'}
  for field, value in overrides.items():
    if field not in fields:
      raise unknown(f'field of model {name!r}:', field, fields)
    if isinstance(value, list):  # from JSON; a module must be hashable
      overrides[field] = tuple(value)
  if isinstance(overrides.get('dtype'), str):
    overrides['dtype'] = _dtype(overrides['dtype'])
  return found.module(**{**found.arguments, **overrides})


def _dtype(name: str) -> jnp.dtype:
  if name not in ('float32', 'bfloat16', 'float16'):
    raise UserError(f'dtype {name!r} is not one of float32, bfloat16, float16')
  return jnp.dtype(name)
