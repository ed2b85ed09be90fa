"""Golden functions of DETR: its detectors, its positions, and the listing of its paper.

Each takes a `tests.golden.Golden` and returns {output: our value}.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np

from detr_jax import models
from detr_jax.models import positions
from detr_jax.models.minimal import MinimalDETR
from detr_jax.models.transformer import Options
from detr_jax.weights.detr import AUTHORS
from vit_jax import trees, weights
from vit_jax.weights.table import Row, Table, to_ours
from vit_jax.weights.timm import dense, norm


def batch(golden) -> tuple[np.ndarray, np.ndarray]:
  """Returns images in the upper left corner of one canvas, and their sizes."""
  images = [golden.inputs[f'image_{i}'].transpose(1, 2, 0) for i in range(2)]
  sizes = np.asarray([image.shape[:2] for image in images])
  canvas = np.zeros((2, *sizes.max(0), 3), np.float32)
  for out, image in zip(canvas, images, strict=True):
    out[:image.shape[0], :image.shape[1]] = image
  return canvas, sizes


def build(golden):
  """Returns the model of a golden file, with the authors' treatment of padding."""
  args, layers = golden.meta['args'], golden.meta['kwargs']['resnet_layers']
  backbone = dict(depths=layers, width=8, norm='frozen', output_stride=16 if args['dilation'] else 32)
  kind = f'{args["position_embedding"]}_attn'
  return models.create_model(
      'detr_r50', num_classes=20, backbone_fields=backbone, width=args['hidden_dim'],
      num_heads=args['nheads'], encoder_layers=args['enc_layers'], decoder_layers=args['dec_layers'],
      mlp_dim=args['dim_feedforward'], num_queries=args['num_queries'], pre_norm=args['pre_norm'],
      encoder_positions=kind, decoder_positions=kind, masks=args['masks'], mask_padding=False)


def channels_first(x) -> np.ndarray:
  """Returns `[batch, h, w, c]` as PyTorch has it."""
  return np.moveaxis(np.asarray(x), -1, 1)


def run(model, variables, *args):
  """Returns the model's outputs and every intermediate, by path, in exact float32."""
  with jax.default_matmul_precision('highest'):
    outputs, state = jax.jit(lambda v, *args: model.apply(
        v, *args, capture_intermediates=True, mutable=['intermediates']))(variables, *args)
  return outputs, {k.removesuffix('/__call__'): v[0]
                   for k, v in trees.flatten(state['intermediates']).items()}


def detr(golden) -> dict[str, np.ndarray]:
  """The whole detector, on a batch of two sizes."""
  model, (image, size) = build(golden), batch(golden)
  variables = weights.unflatten(to_ours(AUTHORS, golden.weights, model.num_heads))
  outputs, found = run(model, variables, image, size)
  grid = found['input_proj'].shape[1:3]
  valid, last = positions.valid(size, grid, image.shape[1:3]), len(found['backbone'].maps) - 1
  last = last if model.masks else 0
  if model.encoder_positions == 'sine_attn':
    placed = positions.sine(valid, model.width)
  else:
    params = variables['params']
    placed = positions.learned(params['row_embed'], params['col_embed'], grid).repeat(2, 0)
  memory = found['encoder'].reshape(2, *grid, -1)
  out = {'nested_mask': ~positions.valid(size, image.shape[1:3], image.shape[1:3]),
         f'mask_{last}': ~valid, f'pos_{last}': channels_first(placed),
         f'backbone_{last}': channels_first(found['backbone'].maps[-1]),
         'input_proj': channels_first(found['input_proj']), 'memory': channels_first(memory),
         'hs': found['decoder/norm']}
  for i in range(model.encoder_layers):
    out[f'enc_self_attn_{i}'] = found[f'encoder/layer_{i}/self_attn/attention'].mean(1)
    out[f'enc_layer_{i}'] = found[f'encoder/layer_{i}'].swapaxes(0, 1)
  for i in range(model.decoder_layers):
    for kind in ('self', 'cross'):
      out[f'dec_{kind}_attn_{i}'] = found[f'decoder/layer_{i}/{kind}_attn/attention'].mean(1)
    where = '' if i == model.decoder_layers - 1 else f'aux_outputs_{i}/'
    out |= {f'{where}pred_logits': outputs.logits[i], f'{where}pred_boxes': outputs.boxes[i]}
  if model.masks:
    attention = found['bbox_attention'].reshape(2, model.num_queries, *grid, -1)
    out |= {'bbox_attention': np.moveaxis(attention, -1, 2), 'pred_masks': outputs.masks}
  return out


def sine(golden) -> dict[str, np.ndarray]:
  """Sines of maps with padding anywhere, stretched over a turn and not."""
  inside = jnp.asarray(~golden.inputs['mask'])
  plain = jnp.concatenate([positions.waves(n, 16) for n in positions.counts(inside)], -1)
  return dict(normalized_32=channels_first(positions.sine(inside, 64)), plain_16=channels_first(plain))


LISTING = Table('listing', (
    *norm('transformer.encoder.norm', 'encoder_norm'), *AUTHORS.rows,
    Row('conv.weight', 'conv/kernel', 'o i h w -> h w i o'),
    *(Row(name.replace('/', '.'), name) for name in (
        'conv/bias', 'query_pos', 'row_embed', 'col_embed')),
    *dense('linear_class', 'linear_class'), *dense('linear_bbox', 'linear_bbox'),
), shown_by='linear_bbox.weight', ignored=AUTHORS.ignored)


def listing(golden) -> dict[str, np.ndarray]:
  """The model of Listing 1; its backbone is a sequence without names."""
  options = golden.meta['kwargs']
  model = MinimalDETR(
      options['num_classes'], options['hidden_dim'],
      Options(options['nheads'], options['dim_feedforward']), options['num_encoder_layers'],
      options['num_decoder_layers'], options['num_queries'], tuple(options['resnet_layers']), 8)
  body = 'backbone.0.body.'
  first = {'backbone.0.weight': f'{body}conv1.weight'}
  name = lambda key: first.get(key) or re.sub(r'^backbone\.1\.', f'{body}bn1.', re.sub(
      r'^backbone\.([4-7])\.', lambda found: f'{body}layer{int(found[1]) - 3}.', key))
  arrays = {name(key): array for key, array in golden.weights.items()}
  variables = weights.unflatten(to_ours(LISTING, arrays, options['nheads']))
  outputs, found = run(model, variables, golden.inputs['image'].transpose(0, 2, 3, 1))
  queries_first = dict(encoder=found['encoder_norm'], decoder=found['decoder/norm'][-1],
                       logits=outputs[0], boxes=outputs[1])
  return {'backbone': channels_first(found['backbone'].maps[-1]), 'conv': channels_first(found['conv']),
          **{k: v.swapaxes(0, 1) for k, v in queries_first.items()}}


SYSTEMS = dict(detr=detr, detr_posenc=sine, detr_listing1=listing)
