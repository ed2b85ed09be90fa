"""What the position embedding has learnt about distance (ViT paper, Fig. 7 centre)."""

import numpy as np

from vit_jax.errors import UserError


def position_similarity(table: np.ndarray) -> np.ndarray:
  """Cosine similarity of every position embedding to every other (ViT paper, Fig. 7 centre).

  Args:
    table: `[h, w, D]`, the position table of the patches as a grid, without extra tokens.

  Returns:
    float `[h, w, h, w]` in [-1, 1]: `[r, c]` is the map of position (r, c) against all others.
    A position whose embedding is zero (an untrained table) is similar to none, itself included.

  Raises:
    UserError: the table has not three axes.
  """
  table = np.asarray(table, np.float64)
  if table.ndim != 3:
    raise UserError(f'a position table has shape [rows, columns, width], not {list(table.shape)}; '
                    f'drop its extra tokens and arrange it as a grid.')
  height, width, _ = table.shape
  norm = np.linalg.norm(table, axis=-1, keepdims=True)
  unit = (table / np.where(norm > 0, norm, 1.)).reshape(height * width, -1)
  similarity = np.clip(unit @ unit.T, -1., 1.)
  return similarity.reshape(height, width, height, width)
