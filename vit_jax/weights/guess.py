"""Which named model a file is of, by the names and shapes of what it holds."""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models.bit import BiT
from vit_jax.models.mixer import Mixer
from vit_jax.models.resnet import ResNet
from vit_jax.models.vit import ViT
from vit_jax.weights.fit import guess_grid
from vit_jax.weights.table import Table

_SHOWN = 6  # names in an error


def _count(flat: Mapping[str, Any], pattern: str) -> int:
  """Returns the number of different numbers that stand for the group of a pattern."""
  return len({found[1] for found in (re.match(pattern, path) for path in flat) if found})


def _units(flat: Mapping[str, Any]) -> tuple[int, ...]:
  stages = _count(flat, r'block(\d+)/')
  return tuple(_count(flat, rf'block{s + 1}/unit(\d+)/') for s in range(stages))


def _of_file(flat: Mapping[str, np.ndarray]) -> tuple[type, dict[str, Any]]:
  """Returns the family of the parameters and what their names and shapes tell of the model."""
  if 'embedding/kernel' in flat:
    block, hybrid = 'Transformer/encoderblock_0/', 'conv_root/kernel' in flat
    first = flat.get(block + 'MlpBlock_0/Dense_0/kernel', np.zeros((0, 0)))
    return ViT, dict(
        kernel=flat['embedding/kernel'].shape[:2], width=flat['embedding/kernel'].shape[3],
        depth=_count(flat, r'Transformer/encoderblock_(\d+)/'), mlp_dim=first.shape[1],
        stem_depths=_units(flat) if hybrid else None,
        stem_width=flat['conv_root/kernel'].shape[3] if hybrid else 0,
        distillation_token='dist' in flat, layer_scale=block + 'gamma_1' in flat)
  if 'stem/kernel' in flat:
    hidden = [flat.get(f'MixerBlock_0/{axis}_mixing/Dense_0/bias', np.zeros(0)).size
              for axis in ('token', 'channel')]
    return Mixer, dict(patch=flat['stem/kernel'].shape[:2], width=flat['stem/kernel'].shape[3],
                       depth=_count(flat, r'MixerBlock_(\d+)/'), tokens_mlp_dim=hidden[0],
                       channels_mlp_dim=hidden[1])
  root = flat.get('conv_root/kernel', np.zeros((0, 0, 0, 0))).shape
  fields = dict(width=root[3], depths=_units(flat))
  if 'norm/scale' in flat:
    return BiT, fields
  return ResNet, dict(fields, bottleneck='block1/unit1/conv3/kernel' in flat, small_images=root[0] == 3,
                      norm='group' if 'gn_root/scale' in flat else 'batch')


def _of_model(model: nn.Module, names) -> dict[str, Any]:
  """Returns the same of a model."""
  fields = {name: getattr(model, name) for name in names}
  if isinstance(model, ViT):
    fields['layer_scale'] = model.layer_scale is not None
    fields['stem_width'] = model.stem_width if model.stem_depths is not None else 0
  return fields


def _side(flat: Mapping[str, np.ndarray], table: Table, patch: tuple[int, int]) -> int:
  """Returns the height of the images that a position table belongs to; 0 where that is not known."""
  try:
    grid = guess_grid(flat, table.class_position)
  except UserError:  # not square
    return 0
  return grid.size[0] * patch[0] if grid else 0


def candidates(flat: Mapping[str, np.ndarray], table: Table) -> list[str]:
  """Returns the names of the models that parameters may belong to.

  Args:
    flat: our paths, layers one by one; how attention is cut into heads does not matter.
    table: the format that they come from; Google's own has no model with the erf form of GELU.
  """
  family, fields = _of_file(flat)
  found = {}
  for name in models.MODELS:
    model = models.create_model(name)
    if type(model) is family and _of_model(model, fields) == fields and (
        getattr(model, 'gelu', 'tanh') == 'tanh' or 'gelu' in table.fields):
      found.setdefault(model, []).append(name)
  out = []
  for model, names in found.items():  # variants of one model differ in the size of their images
    size = lambda name: models.variant(name).image_size[0]
    side = _side(flat, table, model.patch) if isinstance(model, ViT) else 0
    out.append(max((n for n in names if size(n) <= side), key=size, default=names[0]))
  return out


def only(path: str, flat: Mapping[str, np.ndarray], table: Table) -> str:
  """Returns the one model that parameters belong to.

  Raises:
    UserError: when there are several, or none.
  """
  names = candidates(flat, table)
  if len(names) == 1:
    return names[0]
  remedy = f"name it: vit_jax.load({(names or ['NAME'])[0]!r}, {path!r}, ...), or --model"
  if names:
    raise UserError(f'{path} may be of {" or ".join(names)}, which differ in what no file of weights '
                    f'says; {remedy}')
  family, fields = _of_file(flat)
  alike = lambda name: sum(_of_model(models.create_model(name), fields)[k] == v
                           for k, v in fields.items())
  same = [name for name, found in models.MODELS.items() if found.module is family]
  near = ', '.join(sorted(same, key=alike, reverse=True)[:_SHOWN])
  said = ', '.join(f'{k}={v}' for k, v in fields.items() if v)
  raise UserError(f'{path} is of no named model ({family.__name__}: {said}; near: {near}); {remedy}')
