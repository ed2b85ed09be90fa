"""Names of segmenters' parameters: those of Segmenter's authors, and of mmsegmentation's UperNet."""

from detr_jax.weights.families.detr_names import below
from vit_jax.weights.families import swin
from vit_jax.weights.families.rows import CONV, COUNTER, batch_norm, dense, dense_of_conv, norm
from vit_jax.weights.families.timm import TIMM
from vit_jax.weights.table import Row, Table

_BLOCK = 'Transformer/encoderblock_{i}/'  # what a ViT calls its layers
_BLOCKS = tuple(row for row in TIMM.rows
                if row.theirs.startswith('blocks.{i}.') and '.ls' not in row.theirs)


def _decoder() -> tuple[Row, ...]:
  layers = (Row(f'decoder.{row.theirs}', 'decoder/' + row.ours.replace(_BLOCK, 'encoderblock_{i}/'),
                row.axes) for row in _BLOCKS)
  return (
      Row('decoder.cls_emb', 'decoder/cls_emb', '1 k d -> k d'),
      *dense('decoder.proj_dec', 'decoder/proj_dec'),
      Row('decoder.proj_patch', 'decoder/proj_patch'),
      Row('decoder.proj_classes', 'decoder/proj_classes'),
      *layers, *norm('decoder.decoder_norm', 'decoder/decoder_norm'),
      *norm('decoder.mask_norm', 'decoder/mask_norm'), *dense('decoder.head', 'decoder/head'))


_ENCODER = tuple(row for row in TIMM.rows if not row.ours.startswith('head'))

# Of the code of Segmenter's authors; the encoder's own head is of no use.
SEGMENTER = Table('segmenter', (*_decoder(), *below(_ENCODER, 'encoder.', 'backbone/')),
                  shown_by=r'decoder\.(head|cls_emb)(\.weight)?', resampling='bilinear',
                  fields=dict(gelu='erf'), ignored=r'encoder\.head(_dist)?\..*')


def _block(theirs: str, ours: str) -> tuple[Row, ...]:
  return (Row(f'{theirs}.conv.weight', f'{ours}/conv/kernel', CONV),
          *batch_norm(f'{theirs}.bn', f'{ours}/bn'))


_HEAD = 'decode_head.'
UPERNET = (
    *_block(_HEAD + 'psp_modules.{i}.1', 'psp_{i}'), *_block(_HEAD + 'bottleneck', 'bottleneck'),
    *_block(_HEAD + 'lateral_convs.{i}', 'lateral_{i}'), *_block(_HEAD + 'fpn_convs.{i}', 'fpn_{i}'),
    *_block(_HEAD + 'fpn_bottleneck', 'fpn_bottleneck'), *dense_of_conv(_HEAD + 'conv_seg', 'conv_seg'),
    *_block('auxiliary_head.convs.0', 'auxiliary'),
    *dense_of_conv('auxiliary_head.conv_seg', 'auxiliary_seg'))

# mmsegmentation's, over Swin.
UPERNET_SWIN = Table('upernet_swin', (*UPERNET, *below(swin.AUTHORS.rows, 'backbone.', 'backbone/')),
                     shown_by=r'decode_head\.psp_modules\.0\.1\.conv\.weight',
                     ignored=rf'{COUNTER}|{swin.AUTHORS.ignored}')
