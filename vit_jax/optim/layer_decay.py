"""Layer-wise decay of the learning rate: the nearer to the input, the slower (arXiv:2106.08254).

The table of a model's family (`depth`) puts every parameter into a depth group. The rate of group i
among n is scaled by decay ** (n - 1 - i), as timm's `param_groups_layer_decay` and BEiT do.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vit_jax import trees
from vit_jax.errors import UserError
from vit_jax.models.family import Depths

def _group(path: str, shape: tuple[int, ...], depths: Depths) -> int | list[tuple[int, ...]]:
  """Returns the group of a leaf, or the number(s) of its layer in each entry of a stack."""
  pattern, group = next(row for row in depths if re.fullmatch(row[0], path))
  numbers = re.fullmatch(pattern, path).groups()
  if group is not None:
    return group(*map(int, numbers)) if callable(group) else group
  return [(i,) for i in range(shape[0])] if None in numbers else [tuple(map(int, numbers))]


def scales(params, decay: float, depths: Depths | None) -> dict[str, list[float]]:
  """Returns {path: factors of the learning rate}: one factor, or one for each layer of a stack.

  Args:
    params: tree of parameters or shapes.
    decay: factor from a group to the one before it, in (0, 1].
    depths: of the model's family; None: it has no order of layers.

  Raises:
    UserError: for a decay out of range, or a family without depth groups.
  """
  if not 0. < decay <= 1.:
    raise UserError(f'optimizer.layer_decay must lie in (0, 1], not {decay}')
  if depths is None:
    raise UserError('layer_decay needs depth groups, and the family of this model has none; leave '
                    'optimizer.layer_decay at 1')
  shapes = {trees.path_name(path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
  groups = {path: _group(path, shape, depths) for path, shape in shapes.items()}
  layers = sorted({layer for group in groups.values() if isinstance(group, list) for layer in group})
  number = {layer: i + 1 for i, layer in enumerate(layers)}
  last = max([len(layers), *(group for group in groups.values() if isinstance(group, int))])
  total = last + 2
  numbered = {path: [number[layer] for layer in group] if isinstance(group, list) else [group % total]
              for path, group in groups.items()}
  return {path: [decay ** (total - 1 - i) for i in group] for path, group in numbered.items()}


def scale_by_layer(params, decay: float, depths: Depths | None) -> optax.GradientTransformation:
  """Returns what scales updates by their layer; it keeps no slots. Arguments as `scales`."""
  factors = scales(params, decay, depths)

  def scale(path, update):
    factor = np.asarray(factors[trees.path_name(path)])
    return update * jnp.asarray(factor.reshape(-1, *[1] * (update.ndim - 1)) if len(factor) > 1 else
                                factor[0], update.dtype)

  return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))
