"""Tables of learned positions in weights: which grid one is of, and how it fits another one."""

import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import numpy as np

from vit_jax import models, trees
from vit_jax.errors import UserError
from vit_jax.layers import positions
from vit_jax.models.family import Grid, Size
from vit_jax.models.vit import FAMILY
from vit_jax.weights.families.base import Source
from vit_jax.weights.fit import Report

POSITIONS = FAMILY.positions


def grid_of(model: nn.Module, image_size: Size) -> Grid | None:
  """Returns the grid of a model; None where the size cannot be cut into its patches."""
  try:
    return models.family(model).grid(model, image_size)
  except UserError:
    return None


def guess_grid(flat: Mapping[str, np.ndarray], class_position: bool | None, hint: Grid | None = None
               ) -> Grid | None:
  """Returns the grid of the weights' position table; None without a table.

  Args:
    flat: our paths.
    class_position: whether the format keeps entries for the extra tokens in the table; None: if what
      is left without them is what `hint` has, or a square.
    hint: taken where the table has just its number of patches; otherwise the grid is square.

  Raises:
    UserError: when it is neither.
  """
  if POSITIONS not in flat:
    return None
  tokens, entries = _tokens(flat), flat[POSITIONS].shape[1]
  if hint and has_grid(flat, class_position, hint):
    return Grid(hint.size, tokens, entries - hint.size[0] * hint.size[1])
  if class_position is None:
    square = lambda n: math.isqrt(n) ** 2 == n
    class_position = square(entries - tokens) or not square(entries)
  own = tokens * class_position
  return Grid(positions.square_grid(entries - own), tokens, own)


def _tokens(flat: Mapping[str, np.ndarray]) -> int:
  """Returns the number of extra tokens of the weights."""
  return sum(name in flat for name in ('cls', 'dist'))


def has_grid(flat: Mapping[str, np.ndarray], class_position: bool | None, grid: Grid) -> bool:
  """Tells whether the weights' position table has as many patches as a grid; `flat` has a table.

  Args:
    flat, class_position: as of `guess_grid`.
    grid: of which the size counts.
  """
  own = flat[POSITIONS].shape[1] - grid.size[0] * grid.size[1]
  options = (0, 1) if class_position is None else (class_position,)
  return own in [_tokens(flat) * option for option in options]


def source_grid(source: Source, model: nn.Module, trained_size: Size,
                sizes: Sequence[Size | None] = ()) -> tuple[Grid, Size] | None:
  """Returns the grid of a position table, and the size of its images; None without a table.

  Args:
    source: with the table.
    model: with the file's patches.
    trained_size: of the images; (0, 0): not known.
    sizes: that they may have: the first whose grid has as many patches counts; without one the grid
      is square.

  Raises:
    UserError: when the table does not fit `trained_size`, or is not square and fits no size.
  """
  if POSITIONS not in source.flat:
    return None
  asked = any(trained_size)
  hints = [(models.family(model).grid(model, trained_size), trained_size)] if asked else [
      (grid, size) for size in sizes if size and (grid := grid_of(model, size))]
  for hint, size in hints:
    if has_grid(source.flat, source.table.class_position, hint):
      return guess_grid(source.flat, source.table.class_position, hint), size
  if asked:
    raise UserError('the position table has {} entries, and images of {}x{} pixels give {}x{} patches; '
                    'give the size that the weights were trained at'.format(
                        source.flat[POSITIONS].shape[1], *trained_size, *hints[0][0].size))
  grid = guess_grid(source.flat, source.table.class_position)
  return grid, tuple(n * p for n, p in zip(grid.size, model.patch, strict=True))


def fit_positions(flat: trees.Flat, shape: tuple[int, ...], old: Grid, new: Grid, resampling: str,
                  report: Report) -> trees.Flat:
  """Returns the parameters with the table resampled to a model's grid, and the extra tokens' entries
  where the model has them.

  Args:
    flat: our paths.
    shape: of the model's table `[1, entries, width]`.
    old, new: grids of the table and of the model.
    resampling: one of `layers.positions.RESAMPLING`.
    report: says what was done.
  """
  flat, table = dict(flat), np.asarray(flat[POSITIONS])
  if shape[2] != table.shape[2]:
    return flat  # the comparison of shapes will say so
  own, patches = table[:, :old.positions], table[:, old.positions:]
  if old.size != new.size:
    patches = positions.resample(patches, old.size, new.size, 0, resampling)
    report.resampled.append('{} {}x{} -> {}x{} by {}'.format(
        POSITIONS, *old.size, *new.size, resampling))
  if old.positions and not new.positions:
    for i, name in enumerate(('cls', 'dist')[:old.positions]):
      if i < new.tokens and name in flat:  # the sum of both is what the encoder saw
        flat[name] = flat[name] + own[:, i:i + 1]
        report.resampled.append(f'{name} + its entry of {POSITIONS}')
      else:
        said = dict(cls='class', dist='distillation')[name]
        report.ignored.append(f"the {said} token's entry of {POSITIONS}")
  own = own[:, :new.positions]
  # A token that never had an entry stands as it is.
  absent = np.zeros((1, new.positions - own.shape[1], table.shape[2]), table.dtype)
  flat[POSITIONS] = np.concatenate([own, absent, patches], axis=1)
  return flat


def resize_kernel(kernel: np.ndarray, size: Size) -> np.ndarray:
  """Returns a patch kernel `[h, w, c, d]` for patches of another size, as FlexiViT (arXiv:2212.08013).

  Section 3.4: with B the matrix that resizes a patch bilinearly, the new kernel is pinv(B^T) times the
  old one. A larger patch that was resized then gives just what the patch gave; for a smaller one the
  error is the least for patches of white noise. Each axis has its own B. Computed in float64.
  """
  out = np.asarray(kernel, np.float64)
  for axis in (0, 1):
    # Column i of B is the i-th unit vector, resized.
    old = out.shape[axis]
    matrix = positions.bilinear(np.eye(old)[:, None], (size[axis], 1))[:, 0]
    out = np.moveaxis(np.tensordot(np.linalg.pinv(matrix.T), out, (1, axis)), 0, axis)
  return out.astype(kernel.dtype)
