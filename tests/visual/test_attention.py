"""Attention distance and rollout against their closed forms."""

import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.visual.attention import attention_distance, attention_rollout, rollout_matrix

GRID = (3, 4)


def random_attention(tokens: int, layers: int = 2, batch: int = 3, heads: int = 2) -> np.ndarray:
  logits = np.random.default_rng(0).normal(size=(layers, batch, heads, tokens, tokens)) * 3
  weights = np.exp(logits)
  return weights / weights.sum(-1, keepdims=True)


def uniform_attention(tokens: int) -> np.ndarray:
  return np.full((2, 1, 3, tokens, tokens), 1 / tokens)


@pytest.mark.parametrize('renormalize', [False, True])
@pytest.mark.parametrize('num_prefix', [0, 1, 2])
def test_uniform_attention_in_a_row_of_patches(num_prefix, renormalize):
  # The mean of |i - j| over n x n pairs is (n^2 - 1) / 3n.
  n, width = 9, 16
  tokens = n + num_prefix
  expected = width * (n**2 - 1) / (3 * n) * (1 if renormalize else n / tokens)
  distance = attention_distance(uniform_attention(tokens), (1, n), (8, width), num_prefix,
                                renormalize)
  assert distance.shape == (2, 3)
  np.testing.assert_allclose(distance, expected, rtol=1e-6)


def test_uniform_attention_on_a_square():
  # Of the 16 pairs of 2 x 2 patches 8 are sides and 4 are diagonals.
  distance = attention_distance(uniform_attention(4), (2, 2), (6, 6), num_prefix=0)
  np.testing.assert_allclose(distance, 6 * (8 + 4 * np.sqrt(2)) / 16, rtol=1e-6)


def test_height_and_width_of_a_patch_are_told_apart():
  swap = np.eye(2)[::-1][None, None, None]  # each of two patches looks at the other
  assert attention_distance(swap, (2, 1), (5, 7), num_prefix=0).item() == 5
  assert attention_distance(swap, (1, 2), (5, 7), num_prefix=0).item() == 7


@pytest.mark.parametrize('renormalize', [False, True])
def test_distance_lies_between_zero_and_the_diagonal(renormalize):
  distance = attention_distance(random_attention(13), GRID, (4, 4), renormalize=renormalize)
  assert (distance >= 0).all() and (distance <= np.hypot(2 * 4, 3 * 4)).all()
  corner = np.zeros((1, 1, 1, 12, 12))
  corner[..., 0, 11] = 1  # one query of twelve looks at the opposite corner, the others nowhere
  assert attention_distance(corner, GRID, (4, 4), 0).item() == pytest.approx(np.hypot(8, 12) / 12)


def test_looking_at_itself_is_distance_zero():
  assert not attention_distance(np.eye(13)[None, None, None], GRID, (16, 16)).any()


def test_distance_averages_images():
  attention = random_attention(13)
  singles = [attention_distance(attention[:, i:i + 1], GRID, (16, 16)) for i in range(3)]
  np.testing.assert_allclose(attention_distance(attention, GRID, (16, 16)), np.mean(singles, 0))


def test_rollout_rows_sum_to_one():
  rolled = rollout_matrix(random_attention(13))
  assert rolled.shape == (3, 13, 13)
  np.testing.assert_allclose(rolled.sum(-1), 1)


def test_identity_attention_rolls_out_to_the_identity():
  identity = np.broadcast_to(np.eye(13), (5, 2, 3, 13, 13))
  np.testing.assert_allclose(rollout_matrix(identity), np.broadcast_to(np.eye(13), (2, 13, 13)))
  assert not attention_rollout(identity, GRID).any()  # the class token has seen no patch
  every = np.broadcast_to(np.eye(12), (5, 2, 3, 12, 12))
  np.testing.assert_allclose(attention_rollout(every, GRID, num_prefix=0), 1)


def test_rollout_multiplies_from_the_last_layer_down():
  first, last = np.eye(3), np.eye(3)
  first[1] = [0, 0, 1]  # layer 1: patch 0 reads patch 1
  last[0] = [0, 1, 0]   # layer 2: the class token reads patch 0
  rolled = rollout_matrix(np.stack([first, last])[:, None, None])
  np.testing.assert_allclose(rolled[0, 0], [.5, .25, .25])
  other_way = rollout_matrix(np.stack([last, first])[:, None, None])
  np.testing.assert_allclose(other_way[0, 0], [.5, .5, 0])


@pytest.mark.parametrize('num_prefix', [0, 1, 2])
def test_rollout_maps_are_scaled_to_one(num_prefix):
  maps = attention_rollout(random_attention(12 + num_prefix), GRID, num_prefix)
  assert maps.shape == (3, *GRID)
  assert (maps >= 0).all()
  np.testing.assert_allclose(maps.max((1, 2)), 1)


def test_tokens_that_do_not_fit_the_grid_are_told():
  for function in (attention_rollout, lambda a, g: attention_distance(a, g, (16, 16))):
    with pytest.raises(UserError, match='do not fit a 4x4 grid with 1 extra'):
      function(random_attention(13), (4, 4))
