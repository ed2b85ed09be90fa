"""Packing, and resizing as PyTorch does."""

import numpy as np
import pytest

from detr_jax.ops import masks


@pytest.mark.parametrize('width', [1, 8, 13])
def test_unpack_inverts_pack(width):
  given = np.random.default_rng(0).random((2, 3, width)) > .5
  packed = masks.pack(given)
  assert packed.shape == (2, 3, -(-width // 8)) and packed.dtype == np.uint8
  np.testing.assert_array_equal(masks.unpack(packed, width), given)


def test_nearest_shows_the_pixels_that_torch_shows():
  assert masks.nearest(100, 3).tolist() == [0, 33, 66]
  assert masks.nearest(3, 7).tolist() == [0, 0, 0, 1, 1, 2, 2]
  assert masks.nearest(5, 5).tolist() == [0, 1, 2, 3, 4]


def test_bilinear_goes_between_centres_and_holds_the_edge():
  found = masks.bilinear(np.array([[0., 1.]], np.float32), (1, 4))
  np.testing.assert_allclose(found, [[0., .25, .75, 1.]], atol=1e-6)
  np.testing.assert_allclose(masks.bilinear(np.arange(4.)[None], (1, 2)), [[.5, 2.5]], atol=1e-6)
