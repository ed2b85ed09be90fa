"""Stochastic depth: a residual branch is dropped for whole examples (arXiv:1603.09382)."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class DropPath(nn.Module):
  """Zeroes a branch `[batch, ...]` for a share of the examples, and scales the others up.

  The share comes with the call, since it grows from layer to layer (section 3, linear decay) and
  the layers may be scanned.
  """

  @nn.compact
  def __call__(self, branch: jax.Array, rate: jax.Array | None, train: bool) -> jax.Array:
    if not train or rate is None:
      return branch
    keep = 1. - rate
    shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
    kept = jax.random.bernoulli(self.make_rng('dropout'), keep, shape)
    return jnp.where(kept, branch / keep, 0.).astype(branch.dtype)
