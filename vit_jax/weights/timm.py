"""Names of ViT and DeiT parameters in PyTorch files: timm's and the DeiT authors'."""

from vit_jax.weights.table import Row, Table

_BLOCK = 'Transformer/encoderblock_{i}/'
_ATTENTION = _BLOCK + 'MultiHeadDotProductAttention_0/'
_MLP = _BLOCK + 'MlpBlock_0/'


def norm(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a LayerNorm."""
  return Row(f'{theirs}.weight', f'{ours}/scale'), Row(f'{theirs}.bias', f'{ours}/bias')


def dense(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a linear layer, whose matrix PyTorch keeps transposed."""
  return Row(f'{theirs}.weight', f'{ours}/kernel', 'o i -> i o'), Row(f'{theirs}.bias', f'{ours}/bias')


_SHARED = (
    Row('cls_token', 'cls'), Row('dist_token', 'dist'),
    Row('pos_embed', 'Transformer/posembed_input/pos_embedding'),
    Row('patch_embed.proj.weight', 'embedding/kernel', 'o i h w -> h w i o'),
    Row('patch_embed.proj.bias', 'embedding/bias'),
    *norm('blocks.{i}.norm1', _BLOCK + 'LayerNorm_0'),
    Row('blocks.{i}.attn.qkv.weight', _ATTENTION + '{query|key|value}/kernel',
        '(n heads d) c -> n c heads d'),
    Row('blocks.{i}.attn.qkv.bias', _ATTENTION + '{query|key|value}/bias', '(n heads d) -> n heads d'),
    Row('blocks.{i}.attn.proj.weight', _ATTENTION + 'out/kernel', 'c (heads d) -> heads d c'),
    Row('blocks.{i}.attn.proj.bias', _ATTENTION + 'out/bias'),
    *norm('blocks.{i}.norm2', _BLOCK + 'LayerNorm_1'),
    *dense('blocks.{i}.mlp.fc1', _MLP + 'Dense_0'), *dense('blocks.{i}.mlp.fc2', _MLP + 'Dense_1'),
    *norm('norm', 'Transformer/encoder_norm'), *norm('fc_norm', 'fc_norm'),
    *dense('head', 'head'), *dense('head_dist', 'head_dist'))

TIMM = Table('timm', (
    *_SHARED, Row('blocks.{i}.ls{n}.gamma', _BLOCK + 'gamma_{n}'),
), shown_by=r'blocks\.0\.attn\.qkv\.weight', resampling='antialiased_bicubic', class_position=None,
    fields=dict(gelu='erf'))

# The authors' own files differ in LayerScale's names and in how they resample positions.
DEIT = Table('deit', (
    *_SHARED, Row('blocks.{i}.gamma_{n}', _BLOCK + 'gamma_{n}'),
), shown_by=r'blocks\.0\.gamma_1|dist_token', resampling='bicubic', class_position=None,
    fields=dict(gelu='erf'))
