"""Names of ViT parameters in Google's published files."""

from vit_jax.weights.families.rows import same
from vit_jax.weights.table import Row, Table

_BLOCK = 'Transformer/encoderblock_{i}/'
_UNIT = 'block{s}/unit{u}/'


_SHARED = same('cls', 'embedding/{leaf}', 'Transformer/encoder_norm/{leaf}', 'pre_logits/{leaf}',
               'head/{leaf}', _BLOCK + 'LayerNorm_0/{leaf}')


def _block(attention: str, norm: str, mlp: str) -> tuple[Row, ...]:
  ours = 'MultiHeadDotProductAttention_0', 'LayerNorm_1', 'MlpBlock_0'
  return (
      Row(_BLOCK + attention + '/{part}/{leaf}', _BLOCK + ours[0] + '/{part}/{leaf}'),
      Row(_BLOCK + norm + '/{leaf}', _BLOCK + ours[1] + '/{leaf}'),
      Row(_BLOCK + mlp + '/{part}/{leaf}', _BLOCK + ours[2] + '/{part}/{leaf}'))


# vision_transformer, the files of gs://vit_models: its layers are numbered in one sequence, and the
# group norms of hybrids keep the axes that they are broadcast over.
GOOGLE = Table('google', (
    *_SHARED,
    *same('Transformer/posembed_input/pos_embedding'),
    *_block('MultiHeadDotProductAttention_1', 'LayerNorm_2', 'MlpBlock_3'),
    *same('conv_root/kernel', _UNIT + '{conv}/kernel'),
    *same('gn_root/{leaf}', _UNIT + '{norm}/{leaf}', axes='1 1 1 c -> c'),
), shown_by=r'Transformer/encoderblock_0/MlpBlock_3/.*', no_positions='sincos')

# big_vision: each kind of layer is numbered by itself; the position table stands at the root. Its older
# files have it in the encoder, and the parameters of the pooling head at the root.
BIG_VISION = Table('big_vision', (
    *_SHARED,
    *(Row(table, 'Transformer/posembed_input/pos_embedding')
      for table in ('pos_embedding', 'Transformer/pos_embedding')),
    *_block('MultiHeadDotProductAttention_0', 'LayerNorm_1', 'MlpBlock_0'),
    *same('MAPHead_0/probe', 'MAPHead_0/{module}/{leaf}', 'MAPHead_0/{module}/{part}/{leaf}'),
    Row('probe', 'MAPHead_0/probe'), Row('LayerNorm_0/{leaf}', 'MAPHead_0/LayerNorm_0/{leaf}'),
    *(Row(f'{module}/{{part}}/{{leaf}}', f'MAPHead_0/{module}/{{part}}/{{leaf}}')
      for module in ('MultiHeadDotProductAttention_0', 'MlpBlock_0')),
), shown_by=r'Transformer/encoderblock_0/MlpBlock_0/.*', class_position=False, no_positions='sincos')
