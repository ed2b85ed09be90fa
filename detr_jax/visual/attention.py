"""Where a set predictor looks: maps of its attention over the image (DETR, figures 3 and 6)."""

from collections.abc import Sequence

import numpy as np

from detr_jax.ops.postprocess import enlarge
from detr_jax.visual import boxes
from vit_jax.visual import galleries


def over_image(rows: np.ndarray, grid: Sequence[int], canvas: Sequence[int], size: Sequence[int]
               ) -> np.ndarray:
  """Returns attention over the tokens of a padded image as maps over the image.

  Args:
    rows: `[n, tokens]`, the attention of n queries.
    grid: (rows, columns) of the tokens, which cover the canvas.
    canvas: (height, width) of the padded image.
    size: (height, width) of the image on it.

  Returns:
    float32 `[n, *size]`, each map divided by its maximum.
  """
  maps = np.asarray(rows, np.float32).reshape(-1, *grid)
  maps = np.stack(list(enlarge(maps, canvas, size)))
  return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-20)


def light(image: np.ndarray, attention_map: np.ndarray, side: int) -> np.ndarray:
  """Returns the image lit where a map `[height, width]` in [0, 1] is high, its longer side `side`."""
  image, _ = boxes.enlarged(image, np.zeros((0, 4)), side)
  return galleries.overlay_rollout(image, attention_map)


def token_at(point: Sequence[float], grid: Sequence[int], canvas: Sequence[int]) -> int:
  """Returns the number of the token that a point (x, y) in pixels of the canvas lies in."""
  column = min(int(point[0] * grid[1] / canvas[1]), grid[1] - 1)
  row = min(int(point[1] * grid[0] / canvas[0]), grid[0] - 1)
  return row * grid[1] + column


def reference_points(corners: np.ndarray, size: Sequence[int], count: int = 4) -> np.ndarray:
  """Returns the points (x, y) whose attention is worth a look: within objects, else on a grid.

  Args:
    corners: `[n, 4]` of boxes, in pixels, best first. A centre within half a box of one that is
      taken, by each side, is passed over.
    size: (height, width) of the image.
    count: of points.

  Returns:
    float `[count, 2]` within the image.
  """
  height, width = size
  chosen = []
  for left, top, right, bottom in np.asarray(corners, np.float64).reshape(-1, 4):
    centre = np.array([np.clip((left + right) / 2, 0, width - 1),
                       np.clip((top + bottom) / 2, 0, height - 1)])
    far = np.array([right - left, bottom - top]) / 2
    if all((np.abs(centre - other) > far).any() for other in chosen):
      chosen.append(centre)
  spare = [np.array([width * x, height * y]) for y in (.25, .75) for x in (.25, .75)]
  return np.array((chosen + spare * count)[:count])
