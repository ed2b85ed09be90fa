"""Whether probabilities mean what they say: calibration error and Brier score.

The negative log-likelihood needs no place here: it is the loss of the softmax.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.metrics import Pair

BINS = 15  # of equal width, as in the tables of arXiv:1706.04599


def bin_sums(confidence: jax.Array, right: jax.Array, mask: jax.Array) -> dict[str, Pair]:
  """Returns what the calibration error is computed from; it adds up over batches and devices.

  Args:
    confidence: `[batch]` probability of the predicted class.
    right: `[batch]` 1 where the prediction is right, else 0.
    mask: `[batch]` 1 for an example, 0 for padding.

  Returns:
    {'bin_confidence', 'bin_accuracy'}: (sums `[BINS]`, counts `[BINS]`). Bin m holds the confidences
    in (m / BINS, (m + 1) / BINS].
  """
  index = jnp.clip(jnp.ceil(confidence * BINS) - 1., 0., BINS - 1.)
  member = (index[:, None] == jnp.arange(BINS)) & (mask[:, None] > 0)
  sums = lambda values: jnp.sum(jnp.where(member, values[:, None], 0.), axis=0)
  counts = sums(jnp.ones_like(confidence))
  return dict(bin_confidence=(sums(confidence), counts), bin_accuracy=(sums(right), counts))


def expected_calibration_error(total: Mapping[str, Pair]) -> float:
  """Returns the mean gap of accuracy and confidence, weighted by the bins' shares of the examples
  (Guo et al., arXiv:1706.04599, eq. 3); NaN without examples.

  Args:
    total: of `bin_sums`, added up.
  """
  (confidence, counts), (right, _) = total['bin_confidence'], total['bin_accuracy']
  count = np.sum(counts)
  return float(np.abs(right - confidence).sum() / count) if count else float('nan')


def brier_score(probabilities: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the squared distance of probabilities and truth, `[batch]`, from 0 to 2 (Brier 1950).

  Args:
    probabilities: `[batch, classes]`.
    labels: bool `[batch, classes]`.
  """
  return jnp.sum((probabilities - labels) ** 2, axis=-1)
