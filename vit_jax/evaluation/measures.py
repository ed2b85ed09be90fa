"""The evaluator of classification: all measures of a split from one pass over it, as sums."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from vit_jax import metrics, sharding
from vit_jax.evaluation import calibration
from vit_jax.evaluation.accuracy import multi_hot, top_k

# In the order of the log line.
MEANS = ('accuracy', 'precision_at_1', 'top5_accuracy', 'real_accuracy', 'loss', 'brier_score')


class Measures:
  """An evaluator that keeps (sum, count) pairs.

  Of data with one label per image: loss, accuracy, top-5 accuracy, Brier score, calibration error.
  Of data with several: loss and precision at 1, over the images that have a label. Of batches with
  `real`: ReaL accuracy, over the images that have one. Of all: accuracy of each class.
  """

  def __init__(self, predict: Callable, loss: Callable, output: Callable, classes: Sequence[str],
               multi_label: bool):
    """Takes how a task predicts.

    Args:
      predict: (params, model_state, batch) -> logits `[batch, classes]`.
      loss: (logits, targets `[batch, classes]`) -> `[batch]`.
      output: makes logits probabilities.
      classes: names, for the table.
      multi_label: whether an image may have several labels.
    """
    self._predict, self._loss, self._output = predict, loss, output
    self._classes = classes
    self._main = 'precision_at_1' if multi_label else 'accuracy'

  def step(self, params, model_state, batch):
    """Returns {name: (sum, count)} over the examples that are not padding."""
    return self.sums(self._predict(params, model_state, batch), batch)

  def sums(self, logits, batch):
    """Returns the same of logits `[batch, classes]`."""
    logits = logits.astype(jnp.float32)
    labels = multi_hot(batch['label'], logits.shape[1])
    mask = batch['mask'] * labels.any(axis=1)
    right = top_k(logits, labels, 1)
    of_class = labels & (mask[:, None] > 0)
    sums = {'loss': metrics.masked(self._loss(logits, labels.astype(jnp.float32)), mask),
            self._main: metrics.masked(right, mask),
            'per_class': (jnp.sum(right[:, None] * of_class, axis=0), jnp.sum(of_class, axis=0))}
    if self._main == 'accuracy':
      probabilities = self._output(logits)
      if logits.shape[1] > 5:
        sums['top5_accuracy'] = metrics.masked(top_k(logits, labels, 5), mask)
      sums['brier_score'] = metrics.masked(calibration.brier_score(probabilities, labels), mask)
      sums |= calibration.bin_sums(probabilities.max(axis=1), right, mask)
    if 'real' in batch:
      real = multi_hot(batch['real'], logits.shape[1])
      sums['real_accuracy'] = metrics.masked(top_k(logits, real, 1),
                                             batch['mask'] * real.any(axis=1))
    return sharding.gather(sums)  # those of each class lie as the head does

  def update(self, total, outputs):
    """Adds the sums of a batch."""
    return metrics.add(total, outputs)

  def finish(self, total) -> dict[str, float]:
    """Returns the means, the calibration error, and the number of examples."""
    out = metrics.mean({name: total[name] for name in MEANS if name in total})
    if 'bin_accuracy' in total:
      out['calibration_error'] = calibration.expected_calibration_error(total)
    return {**out, 'examples': int(total[self._main][1])}

  def tables(self, total) -> dict[str, list[dict]]:
    """Returns {'per_class': a row for each class}: its examples, and the share that is right."""
    right, counts = total['per_class']
    return {'per_class': [
        {'class': name, 'examples': int(n), 'accuracy': float(r / n) if n else float('nan')}
        for name, r, n in zip(self._classes, right, counts, strict=True)]}
