"""Confusion matrices count every example once; mistakes come worst first."""

import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.visual.confusion import confusion_matrix, worst_mistakes


def test_rows_are_the_truth():
  matrix = confusion_matrix([0, 0, 2], [0, 1, 1], 3)
  np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 0, 0], [0, 1, 0]])


def test_every_example_counts_once():
  rng = np.random.default_rng(0)
  labels, predictions = rng.integers(0, 7, (2, 500))
  matrix = confusion_matrix(labels, predictions, 7)
  assert matrix.sum() == 500 and np.trace(matrix) == (labels == predictions).sum()
  np.testing.assert_array_equal(matrix.sum(1), np.bincount(labels, minlength=7))
  np.testing.assert_array_equal(matrix.T, confusion_matrix(predictions, labels, 7))


def test_small_integer_types_do_not_overflow():
  labels = np.array([255], np.uint8)
  assert confusion_matrix(labels, labels, 1000)[255, 255] == 1


def test_no_example_gives_zeros():
  assert confusion_matrix(np.array([], int), np.array([], int), 2).sum() == 0


@pytest.mark.parametrize('labels, predictions', [([0, 3], [0, 0]), ([-1], [0]), ([0], [0, 1])])
def test_what_cannot_be_counted_is_told(labels, predictions):
  with pytest.raises(UserError):
    confusion_matrix(labels, predictions, 3)


def test_worst_mistakes_are_ordered():
  probabilities = np.array([[.9, .1, 0.],   # right
                            [.6, .4, 0.],   # wrong, .6
                            [.0, .1, .9],   # wrong, .9
                            [.6, .1, .3]])  # wrong, .6 too, but less on the truth
  np.testing.assert_array_equal(worst_mistakes([0, 1, 0, 1], probabilities, 10), [2, 3, 1])
  np.testing.assert_array_equal(worst_mistakes([0, 1, 0, 1], probabilities, 1), [2])


def test_worst_mistakes_are_all_wrong_and_less_and_less_sure():
  rng = np.random.default_rng(0)
  labels, probabilities = rng.integers(0, 5, 200), rng.dirichlet(np.ones(5), 200)
  worst = worst_mistakes(labels, probabilities, 200)
  assert (probabilities[worst].argmax(1) != labels[worst]).all()
  assert len(worst) == (probabilities.argmax(1) != labels).sum()
  assert (np.diff(probabilities[worst].max(1)) <= 0).all()


def test_a_perfect_model_has_no_mistakes():
  assert worst_mistakes([0, 1], np.eye(2), 5).size == 0
