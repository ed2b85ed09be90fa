"""Segmenter and UperNet."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from detr_jax.models.pixels.segmenter import Segmenter
from detr_jax.models.pixels.upernet import UperNet
from detr_jax.ops.windows import Inference
from detr_jax.weights.families.pixel_names import MMSEG, SEGMENTER
from tests.goldens.base import Golden, exactly, run
from vit_jax.layers import positions
from vit_jax.models.vit import ViT
from vit_jax.weights.table import to_ours

TABLE = 'backbone/Transformer/posembed_input/pos_embedding'


def first(x) -> np.ndarray:
  """Returns `[batch, h, w, c]` as PyTorch has it."""
  return np.moveaxis(np.asarray(x), -1, 1)


def resampled(flat, size, patch: int):
  """Returns the parameters with the position table for images of a size, by the authors' rule."""
  table, grid = flat[TABLE], [-(-n // patch) for n in size]
  side = int((table.shape[1] - 1) ** .5)
  return {**flat, TABLE: np.asarray(positions.resample(table, (side, side), grid, 1, 'bilinear'))}


def segmenter(golden: Golden) -> dict[str, np.ndarray]:
  """segm/model: the network, its attention, and inference by windows, scales and mirror images."""
  kwargs = golden.meta['kwargs']
  encoder, decoder, image = kwargs['encoder'], kwargs['decoder'], golden.inputs['image']
  image, kind = image.transpose(0, 2, 3, 1), decoder['name']
  patch, width, depth = encoder['patch_size'], encoder['d_model'], encoder['n_layers']
  encoder.skip('image_size', 'dropout', 'drop_path_rate', 'distilled')
  fields = dict(patch_size=patch, width=width, depth=depth, num_heads=encoder['n_heads'],
                mlp_dim=encoder['d_ff'], gelu='erf', layer_norm_eps=1e-5,
                distillation_token=bool(encoder.get('distilled', False)))
  if kind == 'mask':
    if (decoder['d_model'], decoder['d_ff']) != (width, 4 * width):
      raise ValueError('the decoder is not of the width of the encoder')
    decoder.skip('dropout', 'drop_path_rate')
  model = Segmenter(
      kwargs['n_cls'], 'vit_s16', FrozenDict(fields), decoder=kind,
      decoder_depth=decoder.get('n_layers', 2),
      decoder_heads=decoder.get('n_heads'))
  flat = to_ours(SEGMENTER, golden.weights, fields['num_heads'])
  variables = exactly(resampled(flat, image.shape[1:3], patch), model, image)
  outputs, found = run(model, variables, image)
  out = {**inside(model, found), 'logits': first(outputs.logits),
         'encoder_cls_logits': classified(golden, encoder, fields, variables, image)}
  if 'inference' in kwargs:
    out |= inference(golden, kwargs['inference'], model, flat, patch)
  return out


def inside(model: Segmenter, found) -> dict[str, np.ndarray]:
  """Returns what is seen between image and logits."""
  block, attention = 'Transformer/encoderblock_{}', '/MultiHeadDotProductAttention_0/attention'
  tokens = found['backbone/embedding']
  out = dict(patch_embed=tokens.reshape(len(tokens), -1, tokens.shape[-1]),
             encoder_norm=found['backbone/Transformer/encoder_norm'],
             patch_masks=first(found['decoder']),
             attn_enc_0=found['backbone/' + block.format(0) + attention])
  depth = model.trunk().depth
  out |= {f'enc_block_{i}': found['backbone/' + block.format(i)][0] for i in range(depth)}
  if model.decoder == 'mask':
    last, names = model.decoder_depth - 1, 'decoder/encoderblock_{}'
    out |= {f'dec_block_{i}': found[names.format(i)][0] for i in range(model.decoder_depth)}
    out |= dict(mask_norm=found['decoder/mask_norm'],
                attn_dec_last=found[names.format(last) + attention])
  return out


def classified(golden, encoder, fields, variables, image) -> np.ndarray:
  """Returns the logits of the encoder as the classifier that it was."""
  model = ViT(num_classes=encoder['n_cls'], **fields)
  head = {'kernel': golden.weights['encoder.head.weight'].T, 'bias': golden.weights['encoder.head.bias']}
  whole = {'params': {**variables['params']['backbone'], 'head': head}}
  padded = np.pad(image, ((0, 0), *((0, -n % fields['patch_size']) for n in image.shape[1:3]), (0, 0)))
  with jax.default_matmul_precision('highest'):
    return model.apply(whole, padded)


def inference(golden: Golden, asked, model: Segmenter, flat, patch: int) -> dict[str, np.ndarray]:
  """segm/model/utils.py:inference, of images that were resized and mirrored already."""
  window, flips, original = asked['window_size'], asked['flips'], tuple(asked['ori_shape'])
  how = Inference(window=window, stride=asked['window_stride'])
  asked.skip('batch_size')
  variables = exactly(resampled(flat, (window, window), patch), model, np.zeros((1, window, window, 3)))
  found = []
  for i, mirrored in enumerate(flips):
    image = golden.inputs[f'ms_{i}'].transpose(0, 2, 3, 1)
    with jax.default_matmul_precision('highest'):
      found.append(first(jax.jit(lambda x, m: how.of_resized(
          lambda part: model.apply(variables, part).logits, x, jnp.asarray([x.shape[1:3]]),
          jnp.asarray([original]), original, m), static_argnums=1)(image, mirrored))[0])
  return dict(inference_probs=np.mean(found, 0), inference_probs_first_scale=found[0])


def upernet(golden: Golden) -> dict[str, np.ndarray]:
  """mmseg: Swin, UPerHead and FCNHead."""
  kwargs, image = golden.meta['kwargs'], golden.inputs['image'].transpose(0, 2, 3, 1)
  own = kwargs['backbone']
  fields = dict(width=own['embed_dim'], depths=tuple(own['depths']), num_heads=tuple(own['num_heads']),
                window_size=own['window_size'], windows='pad', map_norms=True)
  model = UperNet(kwargs['num_classes'], 'swin_t', FrozenDict(fields), width=kwargs['channels'],
                  auxiliary_width=kwargs['aux_channels'])
  variables = exactly(to_ours(MMSEG, golden.weights, fields['num_heads']), model, image)
  outputs, found = run(model, variables, image)
  return {**{f'feature_{i}': first(x) for i, x in enumerate(found['backbone'].maps)},
          'psp_bottleneck': first(found['bottleneck']), 'fpn_bottleneck': first(found['fpn_bottleneck']),
          'decode_head': first(found['conv_seg']), 'aux_head': first(found['auxiliary_seg']),
          'logits': first(outputs.logits)}


SYSTEMS = dict(segmenter=segmenter, swin_upernet=upernet)
