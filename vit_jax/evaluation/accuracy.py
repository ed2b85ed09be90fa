"""Loss, top-1 and top-5 accuracy over a split."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vit_jax import metrics


def top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
  """Tells whether the label is among the k largest logits; ties count against it.

  Args:
    logits: `[batch, classes]`.
    labels: int `[batch]`.
    k: at most the number of classes.

  Returns:
    float `[batch]`, 0 or 1.
  """
  own = jnp.take_along_axis(logits, labels[:, None], axis=1)
  rivals = jnp.arange(logits.shape[1]) != labels[:, None]
  above = jnp.sum((logits >= own) & rivals, axis=1)
  finite = jnp.isfinite(logits).all(axis=1)  # NaN compares false with everything
  return ((above < k) & finite).astype(jnp.float32)


class Accuracy:
  """An evaluator that keeps sums."""

  def __init__(self, predict: Callable, loss: Callable):
    """Takes how a task predicts.

    Args:
      predict: (params, model_state, batch) -> logits `[batch, classes]`.
      loss: (logits, labels) -> `[batch]`.
    """
    self._predict, self._loss = predict, loss

  def step(self, params, model_state, batch):
    """Returns {name: (sum, count)} over the examples that are not padding."""
    logits = self._predict(params, model_state, batch)
    labels, mask = batch['label'], batch['mask']
    sums = {'loss': metrics.masked(self._loss(logits, labels), mask),
            'accuracy': metrics.masked(top_k(logits, labels, 1), mask)}
    if logits.shape[1] > 5:
      sums['top5_accuracy'] = metrics.masked(top_k(logits, labels, 5), mask)
    return sums

  def update(self, total, outputs):
    """Adds the sums of a batch."""
    return metrics.add(total, outputs)

  def finish(self, total) -> dict[str, float]:
    """Returns the means, and the number of examples."""
    return {**metrics.mean(total), 'examples': int(total['accuracy'][1])}
