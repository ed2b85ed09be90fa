"""Names of ViT parameters in Google's published files, and which file is which."""

from collections.abc import Mapping

import numpy as np

from vit_jax import trees
from vit_jax.errors import UserError
from vit_jax.weights.table import Row, Table

_BLOCK = 'Transformer/encoderblock_{i}/'
_SHARED = (
    Row('cls', 'cls'),
    Row('embedding/{leaf}', 'embedding/{leaf}'),
    Row('Transformer/encoder_norm/{leaf}', 'Transformer/encoder_norm/{leaf}'),
    Row('pre_logits/{leaf}', 'pre_logits/{leaf}'),
    Row('head/{leaf}', 'head/{leaf}'),
    Row(_BLOCK + 'LayerNorm_0/{leaf}', _BLOCK + 'LayerNorm_0/{leaf}'),
)


def _block(attention: str, norm: str, mlp: str) -> tuple[Row, ...]:
  ours = 'MultiHeadDotProductAttention_0', 'LayerNorm_1', 'MlpBlock_0'
  return (
      Row(_BLOCK + attention + '/{part}/{leaf}', _BLOCK + ours[0] + '/{part}/{leaf}'),
      Row(_BLOCK + norm + '/{leaf}', _BLOCK + ours[1] + '/{leaf}'),
      Row(_BLOCK + mlp + '/{part}/{leaf}', _BLOCK + ours[2] + '/{part}/{leaf}'))


# vision_transformer, the files of gs://vit_models: its layers are numbered in one sequence.
GOOGLE = Table('google', (
    *_SHARED,
    Row('Transformer/posembed_input/pos_embedding', 'Transformer/posembed_input/pos_embedding'),
    *_block('MultiHeadDotProductAttention_1', 'LayerNorm_2', 'MlpBlock_3'),
))

# big_vision: each kind of layer is numbered by itself; the position table stands at the root.
BIG_VISION = Table('big_vision', (
    *_SHARED,
    Row('pos_embedding', 'Transformer/posembed_input/pos_embedding'),
    *_block('MultiHeadDotProductAttention_0', 'LayerNorm_1', 'MlpBlock_0'),
    Row('MAPHead_0/probe', 'MAPHead_0/probe'),
    Row('MAPHead_0/{module}/{leaf}', 'MAPHead_0/{module}/{leaf}'),
    Row('MAPHead_0/{module}/{part}/{leaf}', 'MAPHead_0/{module}/{part}/{leaf}'),
), class_position=False)

# Files that hold a whole training state name the parameters below one of these.
_PREFIXES = ('params/', 'opt/target/', 'optimizer/target/')


def parameters(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the parameters alone, layers one by one, of what an archive holds."""
  for prefix in _PREFIXES:
    inner = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    if inner:
      return trees.unstack(inner)
  return trees.unstack(arrays)


def guess_table(arrays: Mapping[str, np.ndarray]) -> Table:
  """Returns the format that the names show.

  Raises:
    UserError: for names of no ViT.
  """
  if not any(name.startswith('Transformer/encoderblock') for name in arrays):
    shown = ', '.join(sorted(arrays)[:4])
    raise UserError(f'these are not the parameters of a ViT: {shown}, ...')
  old = any('/MlpBlock_3/' in name for name in arrays)
  return GOOGLE if old else BIG_VISION
