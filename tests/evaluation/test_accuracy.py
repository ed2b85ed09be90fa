"""What counts as right: one label, several, none."""

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.evaluation.accuracy import multi_hot, top_k

RNG = np.random.default_rng(0)


def test_multi_hot_takes_one_label_or_a_padded_list():
  np.testing.assert_array_equal(multi_hot(jnp.array([1, 0]), 3), [[0, 1, 0], [1, 0, 0]])
  np.testing.assert_array_equal(multi_hot(jnp.array([[2, 0, -1], [-1, -1, -1], [1, 1, 1]]), 3),
                                [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize('k', [1, 2, 5])
def test_top_k_of_one_label_equals_sorting(k):
  logits, labels = RNG.normal(size=(50, 7)), RNG.integers(7, size=50)
  want = [label in np.argsort(-row)[:k] for row, label in zip(logits, labels, strict=True)]
  np.testing.assert_array_equal(top_k(jnp.asarray(logits), multi_hot(jnp.asarray(labels), 7), k), want)


@pytest.mark.parametrize('k', [1, 3])
def test_top_k_of_several_labels_asks_whether_any_is_there(k):
  logits, labels = RNG.normal(size=(50, 9)), RNG.random((50, 9)) < .3
  want = [labels[i, np.argsort(-row)[:k]].any() for i, row in enumerate(logits)]
  np.testing.assert_array_equal(top_k(jnp.asarray(logits), jnp.asarray(labels), k), want)


def test_a_tie_among_labels_is_right_and_one_with_another_class_is_wrong():
  logits = jnp.array([[1., 1., 0.], [1., 1., 0.], [0., 0., 0.]])
  labels = jnp.array([[True, True, False], [True, False, False], [True, False, True]])
  np.testing.assert_array_equal(top_k(logits, labels, 1), [1., 0., 0.])


def test_nan_counts_as_wrong():
  logits = jnp.array([[jnp.nan, 1., 0.], [jnp.nan] * 3, [2., 1., 0.]])
  np.testing.assert_array_equal(top_k(logits, multi_hot(jnp.array([1, 0, 0]), 3), 1), [0., 0., 1.])


def test_without_labels_nothing_is_right():
  np.testing.assert_array_equal(top_k(jnp.array([[1., 0.]]), jnp.zeros((1, 2), bool), 2), [0.])
