"""Names of ViT and DeiT parameters in Hugging Face's transformers."""

import re

from vit_jax.models.vit import ViT
from vit_jax.weights.families.rows import dense, norm
from vit_jax.weights.table import Row, Table

_BLOCK = 'Transformer/encoderblock_{i}/'
_ATTENTION = _BLOCK + 'MultiHeadDotProductAttention_0/'


def _layer(layer: str, attention: str, out: str, first: str, second: str) -> tuple[Row, ...]:
  """Returns the rows of a layer; `attention` names a {part} such as query, or its first {letter}."""
  return (
      *norm(layer + 'layernorm_before', _BLOCK + 'LayerNorm_0'),
      *(row for part in ('query', 'key', 'value')
        for theirs in [layer + attention.format(part=part, letter=part[0])] for row in (
            Row(f'{theirs}.weight', f'{_ATTENTION}{part}/kernel', '(heads d) c -> c heads d'),
            Row(f'{theirs}.bias', f'{_ATTENTION}{part}/bias', '(heads d) -> heads d'))),
      Row(f'{layer}{out}.weight', _ATTENTION + 'out/kernel', 'c (heads d) -> heads d c'),
      Row(f'{layer}{out}.bias', _ATTENTION + 'out/bias'),
      *norm(layer + 'layernorm_after', _BLOCK + 'LayerNorm_1'),
      *dense(layer + first, _BLOCK + 'MlpBlock_0/Dense_0'),
      *dense(layer + second, _BLOCK + 'MlpBlock_0/Dense_1'))


def _rows(root: str, *heads: Row) -> tuple[Row, ...]:
  embeddings = f'{root}embeddings.'
  return (
      Row(embeddings + 'cls_token', 'cls'), Row(embeddings + 'distillation_token', 'dist'),
      Row(embeddings + 'position_embeddings', 'Transformer/posembed_input/pos_embedding'),
      Row(embeddings + 'patch_embeddings.projection.weight', 'embedding/kernel', 'o i h w -> h w i o'),
      Row(embeddings + 'patch_embeddings.projection.bias', 'embedding/bias'),
      # Written as the first, read as either: what `save_pretrained` writes, and since version 5 what
      # `state_dict` gives.
      *_layer(f'{root}encoder.layer.{{i}}.', 'attention.attention.{part}', 'attention.output.dense',
              'intermediate.dense', 'output.dense'),
      *_layer(f'{root}layers.{{i}}.', 'attention.{letter}_proj', 'attention.o_proj', 'mlp.fc1',
              'mlp.fc2'),
      *norm(f'{root}layernorm', 'Transformer/encoder_norm'), *heads)


def _table(name: str, root: str, *heads: Row) -> Table:
  return Table(name, _rows(root, *heads), shown_by=re.escape(root) + r'embeddings\.cls_token',
               resampling='bicubic', ignored=re.escape(root) + r'pooler\..*',  # no classifier reads it
               fields=dict(gelu='erf', layer_norm_eps=1e-12))  # defaults of ViTConfig and DeiTConfig


HUGGINGFACE = _table('huggingface', 'vit.', *dense('classifier', 'head'))
_TWO_HEADS = (*dense('cls_classifier', 'head'), *dense('distillation_classifier', 'head_dist'))
HUGGINGFACE_DEIT = _table('huggingface_deit', 'deit.', *_TWO_HEADS, *dense('classifier', 'head'))
_HUGGINGFACE_DEIT_CLASS = _table('huggingface_deit', 'deit.', *dense('classifier', 'head'))
# Models without a head, `ViTModel` and `DeiTModel`.
HUGGINGFACE_BACKBONE = _table('huggingface_backbone', '')


def table(model: ViT) -> Table:
  """Returns the table to write a model: of theirs, the one that gives its logits."""
  if not model.distillation_token:
    return HUGGINGFACE
  return _HUGGINGFACE_DEIT_CLASS if model.fusion == 'class' else HUGGINGFACE_DEIT
