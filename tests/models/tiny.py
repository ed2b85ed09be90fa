"""Tiny models with parameters that are all alive (fresh ones have a head of zeros)."""

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import models, trees, weights

IMAGE = (8, 12)  # pixels: two by three patches


def vit(**overrides):
  """Returns a ViT of two layers with patches of 4 pixels."""
  return models.create_model('vit_ti16', **{**dict(
      width=16, depth=2, num_heads=2, mlp_dim=24, patch_size=4, num_classes=5), **overrides})


def variables(model, image_size=IMAGE, channels=3, seed=0):
  """Returns variables around the usual scales, the same for stacked and single layers."""
  shapes = weights.flatten(weights.variable_shapes(model, image_size, channels))
  rng = np.random.default_rng(seed)
  draw = lambda path, s: np.float32(
      path.endswith(('scale', 'var')) + .3 * rng.normal(size=s.shape))
  single = {path: draw(path, s) for path, s in sorted(trees.unstack(shapes).items())}
  single = {path: np.abs(v) if path.endswith('/var') else v for path, v in single.items()}
  flat = trees.stack(single) if trees.is_stacked(shapes) else single
  return jax.tree.map(jnp.asarray, weights.unflatten(flat))


def params(model, image_size=IMAGE, channels=3, seed=0):
  """Returns the parameters among `variables`."""
  return variables(model, image_size, channels, seed)['params']


def images(size=IMAGE, batch=2, channels=3, seed=0):
  """Returns float32 `[batch, *size, channels]`."""
  return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, *size, channels)), jnp.float32)


def jit(function):
  """`jax.jit` that compiles three times as fast; the programs are too small to be worth more."""
  return jax.jit(function, compiler_options={'xla_backend_optimization_level': 0})


def apply(model, variables, image, **kwargs):
  """Returns what the compiled model gives in exact float32."""
  with jax.default_matmul_precision('highest'):
    whole = variables if 'params' in variables else {'params': variables}
    return jit(lambda v, x: model.apply(v, x, **kwargs))(whole, image)
