"""A published model: constructor arguments, where they come from, and how its images are made."""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from vit_jax import ranges
from vit_jax.errors import UserError, unknown

# Of ImageNet's training images; torchvision, timm and the DeiT family use them.
IMAGENET_MEAN, IMAGENET_STD = (.485, .456, .406), (.229, .224, .225)


DTYPES = ('float32', 'bfloat16', 'float16')  # of a computation

# Numbers of a module that are not simply 0 or more.
RANGES = {
    'num_classes|patch_size|width|widths|num_heads|mlp_dim|tokens_mlp_dim|channels_mlp_dim|stem_width|'
    'representation_size|num_queries|max_positions': '[1, inf)',
    'depth|depths|stem_depths|decoder_layers': '[1, 1000]', 'encoder_layers': '[0, 1000]',
    'dropout_rate|attention_dropout_rate|drop_path_rate': '[0, 1)', 'head_bias': '(-inf, inf)',
    'layer_norm_eps|temperature': '(0, inf)', 'label_noise': '[0, 1]'}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """How an image becomes a model's input.

  Attributes:
    mean, std: per channel, of values in [0, 1].
    crop: 'squash' to the size, or 'center': cut the middle after a resize.
    crop_ratio: share of the shorter side that 'center' keeps.
    interpolation: 'bilinear' or 'bicubic', antialiased.
  """
  mean: tuple[float, ...] = (.5, .5, .5)
  std: tuple[float, ...] = (.5, .5, .5)
  crop: str = 'center'
  crop_ratio: float = .875
  interpolation: str = 'bilinear'


@dataclasses.dataclass(frozen=True)
class Variant:
  """One row of a paper's table of models.

  Attributes:
    module: the linen module.
    arguments: of its constructor.
    parameters: exact number at `image_size`, three channels and 1000 classes.
    source: paper and table.
    image_size: (height, width) at which `parameters` counts.
    preprocessing: of its published weights.
  """
  module: Callable[..., nn.Module]
  arguments: Mapping[str, Any]
  parameters: int
  source: str
  image_size: tuple[int, int] = (224, 224)
  preprocessing: Preprocessing = Preprocessing()


def names(models: Mapping[str, Variant], pattern: str = '*') -> list[str]:
  """Returns the names among `models` that fit a shell pattern, in order."""
  return sorted(fnmatch.filter(models, pattern))


def find(models: Mapping[str, Variant], name: str) -> Variant:
  """Returns the variant of that name; UserError names the nearest one for an unknown name."""
  if name not in models:
    raise unknown('model', name, models)
  return models[name]


def create(models: Mapping[str, Variant], name: str, overrides: Mapping[str, Any]) -> nn.Module:
  """Returns the linen module of a named model, some of its fields replaced.

  Raises:
    UserError: for an unknown name or field.
  """
  found, overrides = find(models, name), dict(overrides)
  fields = {k: v for k, v in ranges.annotations(found.module).items() if k not in ('name', 'parent')}
  for field, value in overrides.items():
    if field not in fields:
      raise unknown(f'field of model {name!r}:', field, fields)
    overrides[field] = _hashable(value)
  if 'dtype' in overrides:
    overrides['dtype'] = _dtype(overrides['dtype'])
  ranges.check(f'model {name!r}: ', overrides, fields, RANGES)
  if overrides.get('depths') == ():
    raise UserError(f'model {name!r}: depths=() must have a number for each stage, at least one')
  return found.module(**{**found.arguments, **overrides})


def _hashable(value):
  """Returns lists, as JSON has them, as tuples, also within a dict: a module must be hashable."""
  if hasattr(value, 'items'):  # a dict, or a part of a config
    return FrozenDict({k: _hashable(v) for k, v in value.items()})
  return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _dtype(kind) -> jnp.dtype:
  """Returns what a name stands for, as a config has it; a dtype as it is."""
  if isinstance(kind, (str, int, float, tuple, type(None))) and kind not in DTYPES:
    raise UserError(f'dtype {kind!r} is not one of {", ".join(DTYPES)}')
  return jnp.dtype(kind)
