"""Golden functions of DETR: its detectors, its positions, and the listing of its paper.

Each takes a `Golden` and returns {output: our value}.
"""

import re

import jax.numpy as jnp
import numpy as np

from detr_jax import models
from detr_jax.models import positions
from detr_jax.models.minimal import MinimalDETR
from detr_jax.models.transformer import Options
from detr_jax.weights.families.detr_names import AUTHORS
from tests.goldens.base import Fields, Golden, Unknown, exactly, run
from vit_jax.weights.table import Row, Table, to_ours
from vit_jax.weights.families.rows import dense, norm

POSITIONS = dict(sine='sine_attn', v2='sine_attn', learned='learned_attn', v3='learned_attn')
CLASSES = dict(other=20, coco=91, coco_panoptic=250)
# Arguments of training, of the matcher and of the losses; models.detr.build takes them all.
TRAINING = ('device', 'lr_backbone', 'frozen_weights', 'aux_loss', 'eos_coef', 'set_cost_class',
            'set_cost_bbox', 'set_cost_giou', 'mask_loss_coef', 'dice_loss_coef', 'bbox_loss_coef',
            'giou_loss_coef')


def batch(golden: Golden) -> tuple[np.ndarray, np.ndarray]:
  """Returns images in the upper left corner of one canvas, and their sizes."""
  number = golden.number_of('image_{}')
  images = [golden.inputs[f'image_{i}'].transpose(1, 2, 0) for i in range(number)]
  sizes = np.asarray([image.shape[:2] for image in images])
  canvas = np.zeros((number, *sizes.max(0), 3), np.float32)
  for out, image in zip(canvas, images, strict=True):
    out[:image.shape[0], :image.shape[1]] = image
  return canvas, sizes


def build(golden: Golden):
  """Returns the model of a golden file, with the authors' treatment of padding."""
  args, kwargs = golden.meta['args'], golden.meta['kwargs']
  depths = tuple(kwargs['resnet_layers'])
  kwargs.check_equal(args)
  args.skip(*TRAINING)
  backbone = dict(depths=depths, width=8, norm='frozen', output_stride=16 if args['dilation'] else 32)
  kind = args.choose('position_embedding', POSITIONS)
  return models.create_model(
      'detr_r50', num_classes=args.choose('dataset_file', CLASSES), backbone=args['backbone'],
      backbone_fields=backbone, width=args['hidden_dim'], num_heads=args['nheads'],
      encoder_layers=args['enc_layers'], decoder_layers=args['dec_layers'],
      mlp_dim=args['dim_feedforward'], dropout_rate=args['dropout'], num_queries=args['num_queries'],
      pre_norm=args['pre_norm'], encoder_positions=kind, decoder_positions=kind, masks=args['masks'],
      mask_padding=False)


def channels_first(x) -> np.ndarray:
  """Returns `[batch, h, w, c]` as PyTorch has it."""
  return np.moveaxis(np.asarray(x), -1, 1)


def detr(golden: Golden) -> dict[str, np.ndarray]:
  """The whole detector, on a batch of images of any sizes."""
  model, (image, size) = build(golden), batch(golden)
  variables = exactly(to_ours(AUTHORS, golden.weights, model.num_heads), model, image, size)
  outputs, found = run(model, variables, image, size)
  number, grid = len(image), found['input_proj'].shape[1:3]
  memory = found['encoder'].reshape(number, *grid, -1)
  maps = found['backbone'].maps
  out = {'nested_mask': ~positions.valid(size, image.shape[1:3], image.shape[1:3]),
         **_levels(golden, model, variables['params'], size, image.shape[1:3],
                   maps if model.masks else maps[-1:]),
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
    attention = found['bbox_attention'].reshape(number, model.num_queries, *grid, -1)
    out |= {'bbox_attention': np.moveaxis(attention, -1, 2), 'pred_masks': outputs.masks}
  return out


def _levels(golden, model, params, size, canvas, maps) -> dict[str, np.ndarray]:
  """Returns the backbone's maps, and the padding and positions of those that the file asks for."""
  out = {}
  for level, features in enumerate(maps):
    grid = features.shape[1:3]
    valid = positions.valid(size, grid, canvas)
    out |= {f'backbone_{level}': channels_first(features), f'mask_{level}': ~valid}
    if f'pos_{level}' in golden.outputs:
      placed = (positions.sine(valid, model.width) if model.encoder_positions == 'sine_attn' else
                positions.learned(params['row_embed'], params['col_embed'], grid).repeat(len(size), 0))
      out[f'pos_{level}'] = channels_first(placed)
  return out


def sine(golden: Golden) -> dict[str, np.ndarray]:
  """Sines of maps with padding anywhere, of every variant in the file."""
  inside = jnp.asarray(~golden.inputs['mask'])
  return {name: channels_first(_sine(inside, variant))
          for name, variant in golden.meta['config']['variants'].items()}


def _sine(inside, variant: Fields):
  """Returns PositionEmbeddingSine of its arguments, `[batch, h, w, 2 * num_pos_feats]`."""
  half, temperature = variant['num_pos_feats'], variant.get('temperature', 10_000.)
  scale, eps, offset = (variant.get(k, v) for k, v in (('scale', None), ('eps', 1e-6), ('offset', 0.)))
  normalize = variant.get('normalize', False)
  if scale is not None and not normalize:
    raise Unknown('the authors refuse a scale without normalize')
  scale = positions.TURN if normalize and scale is None else scale
  if (eps, offset) == (1e-6, 0.) or not normalize:
    return positions.sine(inside, 2 * half, temperature, scale)
  y, x = positions.counts(inside)  # other code bases than DETR's count otherwise
  y, x = (scale * (n + offset) / (last + eps) for n, last in ((y, y[:, -1:]), (x, x[:, :, -1:])))
  return jnp.concatenate([positions.waves(n, half, temperature) for n in (y, x)], -1)


LISTING = Table('listing', (
    *norm('transformer.encoder.norm', 'encoder_norm'), *AUTHORS.rows,
    Row('conv.weight', 'conv/kernel', 'o i h w -> h w i o'),
    *(Row(name.replace('/', '.'), name) for name in (
        'conv/bias', 'query_pos', 'row_embed', 'col_embed')),
    *dense('linear_class', 'linear_class'), *dense('linear_bbox', 'linear_bbox'),
), shown_by='linear_bbox.weight', ignored=AUTHORS.ignored)


def listing(golden: Golden) -> dict[str, np.ndarray]:
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
  image = golden.inputs['image'].transpose(0, 2, 3, 1)
  variables = exactly(to_ours(LISTING, arrays, options['nheads']), model, image)
  outputs, found = run(model, variables, image)
  queries_first = dict(encoder=found['encoder_norm'], decoder=found['decoder/norm'][-1],
                       logits=outputs[0], boxes=outputs[1])
  return {'backbone': channels_first(found['backbone'].maps[-1]), 'conv': channels_first(found['conv']),
          **{k: v.swapaxes(0, 1) for k, v in queries_first.items()}}


SYSTEMS = dict(detr=detr, detr_posenc=sine, detr_listing1=listing)
