"""Names of segmenters' parameters: those of Segmenter's authors, and mmsegmentation's of all others."""

from detr_jax.weights.families.detr_names import below, packed
from vit_jax.weights.families import hrnet, resnet, swin
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
_AUXILIARY = (*_block('auxiliary_head.convs.0', 'auxiliary'),
              *dense_of_conv('auxiliary_head.conv_seg', 'auxiliary_seg'))

UPERNET = (
    *_block(_HEAD + 'psp_modules.{i}.1', 'psp_{i}'), *_block(_HEAD + 'bottleneck', 'bottleneck'),
    *_block(_HEAD + 'lateral_convs.{i}', 'lateral_{i}'), *_block(_HEAD + 'fpn_convs.{i}', 'fpn_{i}'),
    *_block(_HEAD + 'fpn_bottleneck', 'fpn_bottleneck'), *dense_of_conv(_HEAD + 'conv_seg', 'conv_seg'),
    *_block('auxiliary_head.convs.0', 'auxiliary'),
    *dense_of_conv('auxiliary_head.conv_seg', 'auxiliary_seg'))



def _separable(theirs: str, ours: str) -> tuple[Row, ...]:
  return (Row(f'{theirs}.depthwise_conv.conv.weight', f'{ours}/depthwise/conv/kernel',
              'c 1 h w -> h w c'),
          *batch_norm(f'{theirs}.depthwise_conv.bn', f'{ours}/depthwise/bn'),
          *_block(f'{theirs}.pointwise_conv', f'{ours}/pointwise'))


DEEPLAB = (
    *_block(_HEAD + 'image_pool.1', 'image_pool'), *_block(_HEAD + 'aspp_modules.0', 'aspp_0'),
    *_separable(_HEAD + 'aspp_modules.{i}', 'aspp_{i}'), *_block(_HEAD + 'bottleneck', 'bottleneck'),
    *_block(_HEAD + 'c1_bottleneck', 'fine'), *_separable(_HEAD + 'sep_bottleneck.{i}', 'refine_{i}'),
    *dense_of_conv(_HEAD + 'conv_seg', 'conv_seg'), *_AUXILIARY)

_OCR = _HEAD + '1.'
_CONTEXT = _OCR + 'object_context_block.'
OCR = (
    *_block(_HEAD + '0.convs.0', 'coarse'), *dense_of_conv(_HEAD + '0.conv_seg', 'coarse_seg'),
    *_block(_OCR + 'bottleneck', 'pixels'), *_block(_CONTEXT + 'query_project.{i}', 'query_{i}'),
    *_block(_CONTEXT + 'key_project.{i}', 'key_{i}'), *_block(_CONTEXT + 'value_project', 'value'),
    *_block(_CONTEXT + 'out_project', 'out'), *_block(_CONTEXT + 'bottleneck', 'fuse'),
    *dense_of_conv(_OCR + 'conv_seg', 'context_seg'))


def _up_head(theirs: str, ours: str) -> tuple[Row, ...]:
  return (*norm(f'{theirs}.norm', f'{ours}/norm'),
          *_block(theirs + '.up_convs.{i}.0', ours + '/conv_{i}'),
          *dense_of_conv(f'{theirs}.conv_seg', f'{ours}/conv_seg'))


SETR_UP = (*_up_head('decode_head', 'decode'), *_up_head('auxiliary_head.{n}', 'auxiliary_{n}'))
SETR_MLA = (
    *norm('neck.norm.{i}', 'decode/norm_{i}'),
    *_block('neck.mla.channel_proj.{i}', 'decode/project_{i}'),
    *_block('neck.mla.feat_extract.{i}', 'decode/extract_{i}'),
    *_block(_HEAD + 'up_convs.{i}.{n}', 'decode/enlarge_{i}_{n}'),
    *dense_of_conv(_HEAD + 'conv_seg', 'decode/conv_seg'),
    *dense_of_conv('auxiliary_head.{i}.conv_seg', 'auxiliary_seg_{i}'))

_LAYER = 'backbone/' + _BLOCK
MMSEG_VIT = (
    Row('backbone.cls_token', 'backbone/cls'),
    Row('backbone.pos_embed', 'backbone/Transformer/posembed_input/pos_embedding'),
    Row('backbone.patch_embed.projection.weight', 'backbone/embedding/kernel', CONV),
    Row('backbone.patch_embed.projection.bias', 'backbone/embedding/bias'),
    *norm('backbone.layers.{i}.ln1', _LAYER + 'LayerNorm_0'),
    *packed('backbone.layers.{i}.attn.attn', _LAYER + 'MultiHeadDotProductAttention_0'),
    *norm('backbone.layers.{i}.ln2', _LAYER + 'LayerNorm_1'),
    *dense('backbone.layers.{i}.ffn.layers.0.0', _LAYER + 'MlpBlock_0/Dense_0'),
    *dense('backbone.layers.{i}.ffn.layers.1', _LAYER + 'MlpBlock_0/Dense_1'))

# ResNets have torchvision's names, but for a deep root.
_PLAIN = tuple(row for row in resnet.TORCHVISION.rows if not row.ours.startswith('head/'))


def _mmseg(name: str, rows: tuple[Row, ...], backbone: tuple[Row, ...], shown_by: str) -> Table:
  return Table(name, (*rows, *below(backbone, 'backbone.', 'backbone/')), shown_by,
               ignored=rf'{COUNTER}|{swin.AUTHORS.ignored}', resampling='bilinear')


_HEADS = (*UPERNET, *DEEPLAB, *OCR)
_SHOWN = (r'decode_head\.(psp_modules\.0\.1|c1_bottleneck|1\.object_context_block\.out_project)'
          r'\.conv\.weight')
# Written as by the first of the two; either is read.
MMSEG = _mmseg('mmseg', _HEADS, (*swin.AUTHORS.rows, *resnet.MMSEG_ROOT, *_PLAIN), _SHOWN)
MMSEG_PLAIN = _mmseg('mmseg', _HEADS, _PLAIN, _SHOWN)
MMSEG_HRNET = _mmseg('mmseg_hrnet', _HEADS, hrnet.BACKBONE, r'backbone\.transition1\.0\.0\.weight')
MMSEG_SETR_MLA = _mmseg('mmseg_setr_mla', (*SETR_MLA, *MMSEG_VIT), (),
                        r'neck\.mla\.channel_proj\.0\.conv\.weight')
MMSEG_SETR = _mmseg('mmseg_setr', (*SETR_UP, *MMSEG_VIT), (),
                    r'decode_head\.up_convs\.0\.0\.conv\.weight')
