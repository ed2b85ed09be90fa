"""Principal components recover the subspace of a kernel of known rank."""

import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.visual.filters import principal_filters


def kernel_of_rank(rank: int, scale: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """A kernel `[4, 5, 3, 32]` whose filters vary along `rank` orthonormal patterns `[rank, 60]`."""
  rng = np.random.default_rng(seed)
  patterns = np.linalg.qr(rng.normal(size=(60, rank)))[0].T
  weights = np.concatenate([np.ones((32, 1)), rng.normal(size=(32, rank))], 1)
  weights = np.linalg.qr(weights)[0][:, 1:]  # orthonormal, and each of mean zero
  mean = rng.normal(size=60)  # a common filter, which centring has to take away
  points = mean + (weights * scale) @ patterns
  return points.T.reshape(4, 5, 3, 32), patterns


def test_known_rank_gives_its_patterns_and_variances():
  scale = np.array([3., 2., 1.])
  kernel, patterns = kernel_of_rank(3, scale)
  filters, shares = principal_filters(kernel, 3)
  np.testing.assert_allclose(shares, scale**2 / (scale**2).sum(), rtol=1e-10)
  for shown, pattern in zip(filters.reshape(3, -1), patterns):
    pattern = pattern * np.sign(pattern[np.abs(pattern).argmax()])
    expected = (pattern - pattern.min()) / np.ptp(pattern)
    np.testing.assert_allclose(shown, expected, atol=1e-9)


def test_each_filter_spans_zero_to_one():
  filters, shares = principal_filters(np.random.default_rng(1).normal(size=(8, 8, 3, 100)))
  assert filters.shape == (28, 8, 8, 3)
  np.testing.assert_allclose(filters.min((1, 2, 3)), 0, atol=1e-12)
  np.testing.assert_allclose(filters.max((1, 2, 3)), 1, atol=1e-12)
  assert (np.diff(shares) <= 0).all() and shares.sum() < 1


def test_sign_and_common_offset_change_nothing():
  kernel, _ = kernel_of_rank(3, np.array([3., 2., 1.]))
  filters, _ = principal_filters(kernel, 3)
  np.testing.assert_allclose(principal_filters(5. - kernel, 3)[0], filters, atol=1e-9)


def test_a_small_kernel_gives_what_it_has():
  filters, shares = principal_filters(np.random.default_rng(0).normal(size=(2, 2, 1, 9)))
  assert filters.shape == (4, 2, 2, 1)
  assert shares.sum() == pytest.approx(1)


def test_a_constant_kernel_is_no_division_by_zero():
  filters, shares = principal_filters(np.ones((2, 2, 3, 8)))
  assert np.isfinite(filters).all() and not shares.any()


@pytest.mark.parametrize('shape', [(4, 4, 3), (4, 4, 3, 1)])
def test_another_shape_is_told(shape):
  with pytest.raises(UserError, match='patch-embedding kernel'):
    principal_filters(np.ones(shape))
