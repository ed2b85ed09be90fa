"""Metrics as (sum, count) pairs, so that uneven batches and many devices add up exactly."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

Pair = tuple[jax.Array, jax.Array]


def masked(values: jax.Array, mask: jax.Array) -> Pair:
  """Returns the (sum, count) of the values that are not padding.

  Args:
    values: `[batch]` one value per example.
    mask: `[batch]` 1 for an example, 0 for padding.
  """
  mask = mask.astype(jnp.float32)
  # where, not a product: padding may hold NaN.
  return jnp.sum(jnp.where(mask > 0, values.astype(jnp.float32) * mask, 0.)), jnp.sum(mask)


def add(total: Mapping[str, Pair] | None, new: Mapping[str, Pair]) -> dict[str, Pair]:
  """Adds two mappings of (sum, count) pairs on the host, in float64."""
  new = {k: (np.float64(s), np.float64(c)) for k, (s, c) in jax.device_get(dict(new)).items()}
  if total is None:
    return new
  return {k: (total[k][0] + s, total[k][1] + c) for k, (s, c) in new.items()}


def mean(total: Mapping[str, Pair]) -> dict[str, float]:
  """Returns sum / count of each pair; NaN where nothing was counted."""
  return {k: float(s / c) if c else float('nan') for k, (s, c) in total.items()}
