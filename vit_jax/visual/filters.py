"""What the patch embedding looks at: its principal filters (ViT paper, Fig. 7 left)."""

import numpy as np

from vit_jax.errors import UserError


def principal_filters(kernel: np.ndarray, num_filters: int = 28) -> tuple[np.ndarray, np.ndarray]:
  """Principal components of the patch-embedding filters (ViT paper, section 4.5, Fig. 7 left).

  The D filters are D points in pixel space; they are centred and decomposed by SVD.

  Args:
    kernel: `[P, Q, C, D]`, patch height, patch width, input channels, embedding width.
    num_filters: how many components to return; the paper shows 28. Fewer come back where the
      kernel has fewer (at most `min(D, P * Q * C)`).

  Returns:
    `filters` float `[n, P, Q, C]`, each scaled on its own to [0, 1], strongest first, and `shares`
    float `[n]`, the part of the filters' variance that each explains (0 to 1, sum at most 1).

  Raises:
    UserError: the kernel has not four axes, or fewer than two filters.
  """
  kernel = np.asarray(kernel, np.float64)
  if kernel.ndim != 4 or kernel.shape[-1] < 2:
    raise UserError(f'a patch-embedding kernel has shape [height, width, channels, filters] with '
                    f'two filters or more, not {list(kernel.shape)}.')
  points = kernel.reshape(-1, kernel.shape[-1]).T
  _, singular, components = np.linalg.svd(points - points.mean(0), full_matrices=False)
  variance = singular**2
  shares = variance / max(variance.sum(), np.finfo(float).tiny)
  components = _fix_signs(components[:num_filters])
  low, high = components.min(1, keepdims=True), components.max(1, keepdims=True)
  scaled = (components - low) / np.maximum(high - low, np.finfo(float).tiny)
  return scaled.reshape(-1, *kernel.shape[:3]), shares[:num_filters]


def _fix_signs(components: np.ndarray) -> np.ndarray:
  """SVD leaves each sign free: make the largest entry positive, so that pictures are repeatable."""
  largest = np.abs(components).argmax(1)
  signs = np.where(components[np.arange(len(components)), largest] < 0, -1., 1.)
  return components * signs[:, None]
