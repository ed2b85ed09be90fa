"""What a model keeps: its variables as flat paths, and their shapes before there is any array."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax import trees
from vit_jax.models.family import Size
from vit_jax.weights.fit import completed

STATE = 'batch_stats/'  # where running statistics lie among our paths


def variable_shapes(model: nn.Module, image_size: Size, channels: int) -> dict:
  """Returns the tree of shapes of all that a model keeps: `params`, and `batch_stats` if any."""
  image = jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)
  shapes = lambda model: dict(jax.eval_shape(model.init, jax.random.key(0), image))
  if getattr(model, 'scan', True):
    return shapes(model)
  # One layer is traced for all: of a deep model, half the time of loading it.
  return unflatten(trees.unstack(flatten(shapes(model.clone(scan=True)))))


def init_shapes(model: nn.Module, image_size: Size, channels: int) -> dict:
  """Returns the tree of shapes of a model's parameters."""
  return variable_shapes(model, image_size, channels)['params']


def flatten(variables: Mapping[str, Any]) -> trees.Flat:
  """Returns our paths: parameters without a prefix, running statistics below `STATE`."""
  state = trees.flatten({k: v for k, v in variables.items() if k != 'params'})
  return {**trees.flatten(variables['params']), **state}


def unflatten(flat: trees.Flat) -> dict:
  """The inverse of `flatten`."""
  prefixed = {k if k.startswith(STATE) else f'params/{k}': v for k, v in flat.items()}
  return trees.unflatten(prefixed)


def complete(flat: trees.Flat, model: nn.Module, shapes: Mapping[str, Any], image_size: Size,
             channels: int, seed: int) -> dict:
  """Returns all variables: loaded arrays where there are any, else the model's own start.

  Args:
    flat: our paths, layers one by one; emptied, so that no array is held twice.
    model: whose variables they are.
    shapes: of `variable_shapes`.
    image_size: (height, width) in pixels.
    channels: of the images.
    seed: of what starts anew.
  """
  wanted = flatten(shapes)
  if trees.is_stacked(wanted):
    flat = trees.stack(flat)
  fresh = {}
  if {k: v.shape for k, v in flat.items()} != {k: v.shape for k, v in wanted.items()}:
    image = jnp.zeros((1, *image_size, channels))
    fresh = flatten(jax.jit(model.init)(jax.random.key(seed), image))
  return unflatten({path: jnp.asarray(completed(flat.pop(path), fresh.get(path, want)) if path in flat
                                      else fresh[path]) for path, want in wanted.items()})
