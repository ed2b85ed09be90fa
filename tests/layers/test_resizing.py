"""Bilinear resizing on a CPU is `jax.image.resize`, its gradient included."""

import jax
import numpy as np
import pytest

from vit_jax.layers import resizing


@pytest.mark.parametrize('old, new', [
    ((5, 7), (20, 28)), ((9, 12), (4, 31)), ((1, 1), (6, 5)), ((3, 2), (3, 7)), ((8, 8), (1, 3))])
def test_means_of_neighbours_are_the_matrix_products(old, new):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *old, 3)).astype(np.float32)
  want, pull = jax.vjp(lambda x: resizing._by_products(new, x), x)
  got, own = jax.vjp(lambda x: resizing.bilinear(x, new), x)
  np.testing.assert_allclose(got, want, atol=5e-6)
  cotangent = rng.normal(size=got.shape).astype(np.float32)
  np.testing.assert_allclose(own(cotangent)[0], pull(cotangent)[0], atol=1e-6)
  low = resizing.bilinear(x.astype('bfloat16'), new)
  assert low.dtype == 'bfloat16' and np.abs(np.float32(low) - want).max() < .05
