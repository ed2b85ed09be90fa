"""Where a transformer looks: attention distance and attention rollout.

`attention` is always `[layers, batch, heads, tokens, tokens]` after the softmax, queries before
keys, extra tokens (class, distillation) first. A list with one array per layer does as well.
"""

from collections.abc import Sequence

import numpy as np

from vit_jax.errors import UserError

Attention = np.ndarray | Sequence[np.ndarray]


def attention_distance(attention: Attention, grid: tuple[int, int], patch_size: tuple[int, int],
                       num_prefix: int = 1, renormalize: bool = False) -> np.ndarray:
  """Mean distance over which each head gathers information (ViT paper, Fig. 7 right, app. D.7).

  Distances between patch centres are averaged with the attention as weight, over queries and
  images. Rows and columns of extra tokens are dropped. The paper doesn't say whether what is left
  of a row is brought back to sum 1: `renormalize` chooses.

  Args:
    attention: see the module; `tokens = num_prefix + rows * columns`.
    grid: (rows, columns) of patches.
    patch_size: (height, width) of a patch in pixels.
    num_prefix: number of extra tokens in front of the patches.
    renormalize: divide each query's row over the patches by its sum.

  Returns:
    float `[layers, heads]` in pixels, between 0 and the distance of opposite corners.

  Raises:
    UserError: the number of tokens doesn't fit the grid.
  """
  distance = _patch_distances(grid, patch_size)
  result = []
  for layer in attention:  # one at a time: all layers at once would double the memory
    layer = _checked(layer, grid, num_prefix)[:, :, num_prefix:, num_prefix:]
    rows = np.einsum('bhij,ij->bhi', layer, distance)  # float64: distance is
    if renormalize:
      total = layer.sum(-1, dtype=np.float64)
      rows = rows / np.where(total > 0, total, 1.)
    result.append(rows.mean((0, 2)))
  return np.stack(result)


def attention_rollout(attention: Attention, grid: tuple[int, int],
                      num_prefix: int = 1) -> np.ndarray:
  """How much each patch contributes to the output (Abnar & Zuidema 2020; ViT paper, Fig. 6).

  With a class token (the first one) it is that token's row over the patches; without extra tokens
  it is the mean over all queries, as for a model that averages its patches.

  Args:
    attention: see the module; `tokens = num_prefix + rows * columns`.
    grid: (rows, columns) of patches.
    num_prefix: number of extra tokens in front of the patches.

  Returns:
    float `[batch, rows, columns]`, each map divided by its maximum (all zero stays all zero).

  Raises:
    UserError: the number of tokens doesn't fit the grid.
  """
  rolled = rollout_matrix([_checked(layer, grid, num_prefix) for layer in attention])
  maps = rolled[:, 0, num_prefix:] if num_prefix else rolled.mean(1)
  largest = maps.max(1, keepdims=True)
  return (maps / np.where(largest > 0, largest, 1.)).reshape(-1, *grid)


def rollout_matrix(attention: Attention) -> np.ndarray:
  """Product of the layers' attention with the residual path (Abnar & Zuidema 2020, section 3).

  Heads are averaged, the identity is added for the residual connection, rows are brought back to
  sum 1, and layers are multiplied from the last down to the first.

  Args:
    attention: see the module.

  Returns:
    float `[batch, tokens, tokens]`: row = output token, column = input token, rows sum to 1.
  """
  rolled = None
  for layer in attention:
    mixed = np.asarray(layer).mean(1, dtype=np.float64)
    mixed = mixed + np.eye(mixed.shape[-1])
    mixed /= mixed.sum(-1, keepdims=True)
    rolled = mixed if rolled is None else mixed @ rolled
  return rolled


def _patch_distances(grid: tuple[int, int], patch_size: tuple[int, int]) -> np.ndarray:
  """Distance between patch centres in pixels, `[rows * columns, rows * columns]`."""
  centres = np.indices(grid).reshape(2, -1).T * np.asarray(patch_size, np.float64)
  return np.linalg.norm(centres[:, None] - centres[None], axis=-1)


def _checked(layer: np.ndarray, grid: tuple[int, int], num_prefix: int) -> np.ndarray:
  layer = np.asarray(layer, np.float32)
  expected = num_prefix + grid[0] * grid[1]
  if layer.ndim != 4 or layer.shape[-2:] != (expected, expected):
    raise UserError(f'attention maps of shape {list(layer.shape)} do not fit a {grid[0]}x{grid[1]} '
                    f'grid with {num_prefix} extra tokens: each layer has to be '
                    f'[batch, heads, {expected}, {expected}].')
  return layer
