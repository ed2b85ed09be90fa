"""What golden files of models share: reading them, loading their weights, running the model."""

import dataclasses
import json
from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np

from vit_jax import trees, weights
from vit_jax.weights import formats
from vit_jax.weights.fit import fit
from vit_jax.weights.table import to_ours


@dataclasses.dataclass(frozen=True)
class Golden:
  """A golden file: see its README for the format."""
  meta: Mapping
  weights: Mapping[str, np.ndarray]
  inputs: Mapping[str, np.ndarray]
  outputs: Mapping[str, np.ndarray]


def read(path: str) -> Golden:
  """Reads a golden file."""
  with np.load(path, allow_pickle=False) as archive:
    part = lambda prefix: {k[len(prefix):]: archive[k]
                           for k in archive.files if k.startswith(prefix)}
    return Golden(json.loads(str(archive['meta'])), part('weights/'), part('in/'), part('out/'))


def run(model: nn.Module, variables, image: np.ndarray):
  """Returns the model's output and every intermediate, by path, in exact float32."""
  with jax.default_matmul_precision('highest'):
    logits, state = jax.jit(lambda v, x: model.apply(
        v, x, capture_intermediates=True, mutable=['intermediates']))(variables, image)
  found = {k.removesuffix('/__call__'): v[0] for k, v in
           trees.flatten(state['intermediates']).items()}
  return np.asarray(logits), found


def load(golden: Golden, model: nn.Module, image_size: tuple[int, int], extra=None):
  """Returns the file's weights fitted to the model, and them as flat paths."""
  arrays = formats.parameters(golden.weights)
  table = formats.guess(arrays)
  flat = to_ours(table, arrays, getattr(model, 'num_heads', None))
  shapes = weights.variable_shapes(model, image_size, 3)
  fitted, _ = fit(flat, trees.unstack(weights.flatten(shapes)),
                  new=weights.model_grid(model, image_size), class_position=table.class_position,
                  resampling=table.resampling)
  fitted.update(extra or {})
  return weights.complete(dict(fitted), model, shapes, image_size, 3, seed=0), fitted
