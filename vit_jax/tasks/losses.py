"""Losses of classification: logits and targets `[batch, classes]` in, float32 `[batch]` out.

Targets are soft everywhere: one-hot or multi-hot, smoothed, mixed by mixup or cutmix, or another
model's probabilities.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from vit_jax.errors import UserError, unknown

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def softmax(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Cross-entropy of the softmax, for targets that sum to 1."""
  return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def sigmoid(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Binary cross-entropies, summed over the classes (AugReg, arXiv:2106.10270, section 3.4)."""
  return optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets).sum(axis=-1)


def binary(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Binary cross-entropies, averaged over the classes (ResNet strikes back, arXiv:2110.00476,
  section 2; DeiT III, arXiv:2204.07118, section 3)."""
  return optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets).mean(axis=-1)


LOSSES: Mapping[str, Loss] = dict(softmax=softmax, sigmoid=sigmoid, binary=binary)
# What makes the logits of a loss probabilities.
OUTPUTS = dict(softmax=jax.nn.softmax, sigmoid=jax.nn.sigmoid, binary=jax.nn.sigmoid)


def check(name: str, smoothing: float, threshold: float | None, num_classes: int, multi_label: bool
          ) -> None:
  """Raises UserError for an unknown loss, one that the labels do not fit, or wrong options."""
  if name not in LOSSES:
    raise unknown('loss', name, LOSSES)
  if multi_label and name == 'softmax':
    raise UserError("task.loss='softmax' needs one label per image, but the data has several; set "
                    "task.loss='sigmoid'")
  if not 0. <= smoothing < 1.:
    raise UserError(f'task.label_smoothing={smoothing} is not between 0 and 1')
  low = smoothing / num_classes  # what smoothing gives to a class that is not there
  if threshold is not None and (name != 'binary' or not low <= threshold < 1.):
    raise UserError(f"task.target_threshold={threshold} needs task.loss='binary' and a value from "
                    f'{low:g} (label_smoothing / classes) to 1; leave it out otherwise')


def smooth(targets: jax.Array, smoothing: float) -> jax.Array:
  """Spreads a share of the targets over all classes (Inception v3, arXiv:1512.00567, section 7).

  With K classes a one-hot target becomes s/K and 1 - s + s/K. That is also what timm's mixup writes
  as its off-value and on-value, and what its cross-entropy with smoothing does. Mixing examples
  before or after gives the same targets.
  """
  return optax.smooth_labels(targets, smoothing)


def binarize(targets: jax.Array, threshold: float | None) -> jax.Array:
  """Returns 1 where a target exceeds the threshold, else 0; the targets as they are for None.

  So every class of a mixed image is wholly there (ResNet strikes back, section 2).
  """
  return targets if threshold is None else (targets > threshold).astype(jnp.float32)
