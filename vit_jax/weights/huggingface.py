"""Names of ViT and DeiT parameters in Hugging Face's transformers."""

from vit_jax.weights.table import Row, Table
from vit_jax.weights.timm import dense, norm

_BLOCK = 'Transformer/encoderblock_{i}/'
_ATTENTION = _BLOCK + 'MultiHeadDotProductAttention_0/'


def _rows(root: str, heads: tuple[Row, ...]) -> tuple[Row, ...]:
  layer, embeddings = f'{root}.encoder.layer.{{i}}.', f'{root}.embeddings.'
  return (
      Row(embeddings + 'cls_token', 'cls'), Row(embeddings + 'distillation_token', 'dist'),
      Row(embeddings + 'position_embeddings', 'Transformer/posembed_input/pos_embedding'),
      Row(embeddings + 'patch_embeddings.projection.weight', 'embedding/kernel', 'o i h w -> h w i o'),
      Row(embeddings + 'patch_embeddings.projection.bias', 'embedding/bias'),
      *norm(layer + 'layernorm_before', _BLOCK + 'LayerNorm_0'),
      *(row for part in ('query', 'key', 'value') for row in (
          Row(f'{layer}attention.attention.{part}.weight', f'{_ATTENTION}{part}/kernel',
              '(heads d) c -> c heads d'),
          Row(f'{layer}attention.attention.{part}.bias', f'{_ATTENTION}{part}/bias',
              '(heads d) -> heads d'))),
      Row(layer + 'attention.output.dense.weight', _ATTENTION + 'out/kernel',
          'c (heads d) -> heads d c'),
      Row(layer + 'attention.output.dense.bias', _ATTENTION + 'out/bias'),
      *norm(layer + 'layernorm_after', _BLOCK + 'LayerNorm_1'),
      *dense(layer + 'intermediate.dense', _BLOCK + 'MlpBlock_0/Dense_0'),
      *dense(layer + 'output.dense', _BLOCK + 'MlpBlock_0/Dense_1'),
      *norm(f'{root}.layernorm', 'Transformer/encoder_norm'), *heads)


_FIELDS = dict(gelu='erf', layer_norm_eps=1e-12)  # defaults of ViTConfig and DeiTConfig

HUGGINGFACE = Table('huggingface', _rows('vit', dense('classifier', 'head')),
                    shown_by=r'vit\.embeddings\.cls_token', resampling='bicubic', fields=_FIELDS,
                    ignored=r'vit\.pooler\..*')  # no classifier reads it

HUGGINGFACE_DEIT = Table('huggingface_deit', _rows('deit', (
    *dense('cls_classifier', 'head'), *dense('distillation_classifier', 'head_dist'))),
    shown_by=r'deit\.embeddings\.cls_token', resampling='bicubic', fields=_FIELDS)
