"""Cosine similarities of position embeddings."""

import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.visual.positions import position_similarity


@pytest.fixture
def table():
  return np.random.default_rng(0).normal(size=(3, 5, 8))


def test_each_position_is_like_itself_and_similarity_is_symmetric(table):
  similarity = position_similarity(table)
  assert similarity.shape == (3, 5, 3, 5)
  flat = similarity.reshape(15, 15)
  np.testing.assert_allclose(np.diag(flat), 1)
  np.testing.assert_allclose(flat, flat.T)
  assert (np.abs(flat) <= 1).all()


def test_length_of_an_embedding_does_not_matter(table):
  scaled = table * np.arange(1, 16).reshape(3, 5, 1)
  np.testing.assert_allclose(position_similarity(scaled), position_similarity(table))


def test_angles_on_a_circle():
  angle = np.linspace(0, np.pi, 7)
  similarity = position_similarity(np.stack([np.cos(angle), np.sin(angle)], -1)[None])
  np.testing.assert_allclose(similarity[0, :, 0], np.cos(angle[:, None] - angle), atol=1e-12)


def test_an_untrained_table_is_similar_to_nothing():
  assert not position_similarity(np.zeros((2, 2, 4))).any()


def test_a_flat_table_is_told():
  with pytest.raises(UserError, match='arrange it as a grid'):
    position_similarity(np.ones((196, 768)))
