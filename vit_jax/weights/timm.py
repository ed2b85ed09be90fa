"""Names of parameters in PyTorch files: timm's, of a ViT also the DeiT authors'."""

import dataclasses

from vit_jax.weights.table import Row, Table

_BLOCK = 'Transformer/encoderblock_{i}/'
_ATTENTION = _BLOCK + 'MultiHeadDotProductAttention_0/'
_MLP = _BLOCK + 'MlpBlock_0/'
_CONV = 'o i h w -> h w i o'


def norm(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a LayerNorm."""
  return Row(f'{theirs}.weight', f'{ours}/scale'), Row(f'{theirs}.bias', f'{ours}/bias')


def dense(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a linear layer, whose matrix PyTorch keeps transposed."""
  return Row(f'{theirs}.weight', f'{ours}/kernel', 'o i -> i o'), Row(f'{theirs}.bias', f'{ours}/bias')


_SHARED = (
    Row('cls_token', 'cls'), Row('dist_token', 'dist'),
    Row('pos_embed', 'Transformer/posembed_input/pos_embedding'),
    Row('patch_embed.proj.weight', 'embedding/kernel', _CONV),
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

def _convs(theirs: str) -> tuple[Row, ...]:
  """Returns the rows of the stages of a ResNet with group norm."""
  theirs, ours = theirs + 'stages.{s}.blocks.{u}.', 'block{s+1}/unit{u+1}/'
  return (
      Row(theirs + 'downsample.conv.weight', ours + 'conv_proj/kernel', _CONV),
      *norm(theirs + 'downsample.norm', ours + 'gn_proj'),
      Row(theirs + 'conv{n}.weight', ours + 'conv{n}/kernel', _CONV),
      *norm(theirs + 'norm{n}', ours + 'gn{n}'))


def _root(theirs: str) -> tuple[Row, ...]:
  return Row(theirs + 'conv.weight', 'conv_root/kernel', _CONV), *norm(theirs + 'norm', 'gn_root')


_BACKBONE = 'patch_embed.backbone.'

TIMM = Table('timm', (
    *_SHARED, Row('blocks.{i}.ls{n}.gamma', _BLOCK + 'gamma_{n}'),
    *_root(_BACKBONE + 'stem.'), *_convs(_BACKBONE), *_root(_BACKBONE),
), shown_by=r'blocks\.0\.attn\.qkv\.weight', resampling='antialiased_bicubic', class_position=None,
    fields=dict(gelu='erf'))

# A hybrid whose ResNet is its root alone has no stages, and no stem beside them.
TIMM_ROOT = dataclasses.replace(TIMM, rows=(*_root(_BACKBONE), *TIMM.rows))

# The authors' own files differ in LayerScale's names and in how they resample positions.
DEIT = Table('deit', (
    *_SHARED, Row('blocks.{i}.gamma_{n}', _BLOCK + 'gamma_{n}'),
), shown_by=r'blocks\.0\.gamma_1|dist_token', resampling='bicubic', class_position=None,
    fields=dict(gelu='erf'))

_MIXER_BLOCK = 'MixerBlock_{i}/'

TIMM_MIXER = Table('timm_mixer', (
    Row('stem.proj.weight', 'stem/kernel', _CONV), Row('stem.proj.bias', 'stem/bias'),
    *norm('blocks.{i}.norm1', _MIXER_BLOCK + 'LayerNorm_0'),
    *norm('blocks.{i}.norm2', _MIXER_BLOCK + 'LayerNorm_1'),
    *(row for axis in ('token', 'channel') for n in (0, 1) for row in dense(
        f'blocks.{{i}}.mlp_{axis}s.fc{n + 1}', f'{_MIXER_BLOCK}{axis}_mixing/Dense_{n}')),
    *norm('norm', 'pre_head_layer_norm'), *dense('head', 'head'),
), shown_by=r'blocks\.0\.mlp_tokens\.fc1\.weight', fields=dict(gelu='erf'))

TIMM_BIT = Table('timm_bit', (
    Row('stem.conv.weight', 'conv_root/kernel', _CONV), *_convs(''), *norm('norm', 'norm'),
    Row('head.fc.weight', 'head/kernel', 'k c 1 1 -> c k'), Row('head.fc.bias', 'head/bias'),
), shown_by=r'stages\.0\.blocks\.0\.norm3\.weight')
