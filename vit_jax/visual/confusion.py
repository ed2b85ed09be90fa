"""Which classes a model mixes up, and the mistakes it is most sure of."""

import numpy as np

from vit_jax.errors import UserError


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
  """Counts examples by true and predicted class.

  Args:
    labels: int `[n]`, the true classes.
    predictions: int `[n]`, the predicted classes.
    num_classes: K.

  Returns:
    int `[K, K]`: rows are the truth, columns the prediction; the entries sum to n.

  Raises:
    UserError: the two have different lengths, or a class is outside 0 to K - 1.
  """
  labels, predictions = np.asarray(labels), np.asarray(predictions)
  if labels.shape != predictions.shape or labels.ndim != 1:
    raise UserError(f'labels {list(labels.shape)} and predictions {list(predictions.shape)} must '
                    f'be two lists of the same length.')
  both = np.concatenate([labels, predictions])
  if both.size and not 0 <= both.min() <= both.max() < num_classes:
    raise UserError(f'classes run from 0 to {num_classes - 1}, but labels and predictions run from '
                    f'{both.min()} to {both.max()}.')
  cells = labels.astype(np.int64) * num_classes + predictions
  return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def worst_mistakes(labels: np.ndarray, probabilities: np.ndarray, count: int) -> np.ndarray:
  """The wrong predictions that the model was surest of, worst first.

  Args:
    labels: int `[n]`, the true classes.
    probabilities: float `[n, K]`.
    count: how many to return at most.

  Returns:
    int `[m]`, `m <= count`, indices of wrongly classified examples, ordered by falling probability
    of the predicted class, then by rising probability of the true class, then by index.

  Raises:
    UserError: a label is outside the K classes, or the lengths differ.
  """
  labels, probabilities = np.asarray(labels), np.asarray(probabilities)
  predictions = probabilities.argmax(-1)
  confusion_matrix(labels, predictions, probabilities.shape[-1])  # for its checks
  wrong = np.flatnonzero(predictions != labels)
  confidence = probabilities[wrong, predictions[wrong]]
  truth = probabilities[wrong, labels[wrong]]
  return wrong[np.lexsort((truth, -confidence))][:count]
