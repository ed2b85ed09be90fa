"""Names of ViT parameters in PyTorch files: timm's and the DeiT authors'."""

import dataclasses

from vit_jax.weights.families.rows import CONV, convs, dense, norm
from vit_jax.weights.table import Row, Table

_BLOCK = 'Transformer/encoderblock_{i}/'
_ATTENTION = _BLOCK + 'MultiHeadDotProductAttention_0/'
_MLP = _BLOCK + 'MlpBlock_0/'

_SHARED = (
    Row('cls_token', 'cls'), Row('dist_token', 'dist'),
    Row('pos_embed', 'Transformer/posembed_input/pos_embedding'),
    Row('patch_embed.proj.weight', 'embedding/kernel', CONV),
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


def _root(theirs: str) -> tuple[Row, ...]:
  return Row(theirs + 'conv.weight', 'conv_root/kernel', CONV), *norm(theirs + 'norm', 'gn_root')


_BACKBONE = 'patch_embed.backbone.'

TIMM = Table('timm', (
    *_SHARED, Row('blocks.{i}.ls{n}.gamma', _BLOCK + 'gamma_{n}'),
    *_root(_BACKBONE + 'stem.'), *convs(_BACKBONE), *_root(_BACKBONE),
), shown_by=r'blocks\.0\.attn\.qkv\.weight', resampling='antialiased_bicubic', class_position=None,
    fields=dict(gelu='erf'))

# A hybrid whose ResNet is its root alone has no stages, and no stem beside them.
TIMM_ROOT = dataclasses.replace(TIMM, rows=(*_root(_BACKBONE), *TIMM.rows))

# The authors' own files differ in LayerScale's names and in how they resample positions.
DEIT = Table('deit', (
    *_SHARED, Row('blocks.{i}.gamma_{n}', _BLOCK + 'gamma_{n}'),
), shown_by=r'blocks\.0\.gamma_1|dist_token', resampling='bicubic', class_position=None,
    fields=dict(gelu='erf'))
