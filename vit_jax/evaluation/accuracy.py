"""Whether an image is classified right: one label, several, or several acceptable ones."""

import jax
import jax.numpy as jnp


def multi_hot(labels: jax.Array, num_classes: int) -> jax.Array:
  """Returns bool `[batch, classes]` of int labels `[batch]` or `[batch, most]` padded with -1."""
  labels = labels.reshape(labels.shape[0], -1)
  return (labels[:, :, None] == jnp.arange(num_classes)).any(axis=1)


def top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
  """Tells whether a label is among the k largest logits; ties and NaN count against it.

  For k = 1 and several labels this is precision at 1; with the acceptable labels of ImageNet-ReaL
  (arXiv:2006.07159, section 3.2) it is ReaL accuracy.

  Args:
    logits: `[batch, classes]`.
    labels: bool `[batch, classes]`; of an image without labels nothing is right.
    k: at most the number of classes.

  Returns:
    float32 `[batch]`, 0 or 1.
  """
  best = jnp.where(labels, logits, -jnp.inf).max(axis=1, keepdims=True)
  above = jnp.sum((logits >= best) & ~labels, axis=1)
  finite = jnp.isfinite(logits).all(axis=1)  # NaN compares false with everything
  return ((above < k) & finite & labels.any(axis=1)).astype(jnp.float32)
