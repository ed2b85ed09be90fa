"""ViT of timm, DeiT and DeiT III, also read at another image size."""

import dataclasses
import re

import numpy as np

from tests.goldens.base import Fields, Golden, Unknown, load, pair, run
from vit_jax.models.vit import ViT
from vit_jax.weights import POSITIONS

POOLS = {'token': 'token', 'avg': 'mean', '': 'none'}
SCALE = re.compile(r'blocks\.0\.(ls1\.gamma|gamma_1)')  # timm's spelling, the DeiT authors'
# Arguments that act in training alone.
TRAINING = ('drop_rate', 'pos_drop_rate', 'patch_drop_rate', 'proj_drop_rate', 'attn_drop_rate',
            'drop_path_rate', 'weight_init', 'fix_init', 'init_scale')


def build(fields: Fields, *, distilled: bool = False, scaled: bool | None = None,
          class_position: bool | None = None) -> ViT:
  """Returns the model of the arguments of timm's `VisionTransformer`, or of DeiT's models.

  Args:
    fields: the arguments; what is left out is as timm has it.
    distilled: whether there is a distillation token.
    scaled: whether there is LayerScale; None: as the arguments tell.
    class_position: whether the table has an entry for the class token; None: as the arguments tell.
  """
  width, init_values = fields.get('embed_dim', 768), fields.get('init_values')
  pool = fields.choose('global_pool', POOLS, 'token')
  fc_norm = fields.get('fc_norm')
  if scaled is None:
    scaled = init_values is not None
  elif 'init_values' in fields and scaled != (init_values is not None):
    raise Unknown(f'init_values={init_values!r}, and the weights say otherwise')
  if class_position is None:
    class_position = not fields.get('no_embed_class', False)
  for name, value in dict(qkv_bias=True, proj_bias=True, qk_norm=False, pre_norm=False, final_norm=True,
                          reg_tokens=0, pool_include_prefix=False).items():
    fields.check(name, value)
  fields.skip(*TRAINING)
  return ViT(
      num_classes=fields.get('num_classes', 1000) or 1,  # without a head: see `vit_torch`
      patch_size=pair(fields.get('patch_size', 16)), width=width, depth=fields.get('depth', 12),
      num_heads=fields.get('num_heads', 12), mlp_dim=int(width * fields.get('mlp_ratio', 4.)), pool=pool,
      class_token=fields.get('class_token', True), class_position=class_position, gelu='erf',
      position=fields.choose('pos_embed', {'learn': 'learned', 'none': 'none', '': 'none'}, 'learn'),
      norm_pooled=pool == 'mean' if fc_norm is None else fc_norm, distillation_token=distilled,
      layer_scale=(init_values or 1e-4) if scaled else None)


def vit_torch(golden: Golden) -> dict[str, np.ndarray]:
  """VisionTransformer of timm, DistilledVisionTransformer and vit_models of DeiT."""
  kwargs, system = golden.meta['kwargs'], golden.meta['system']
  fields = kwargs['model'] if 'model' in kwargs else kwargs
  arrays = {k.removeprefix('ckpt.'): v for k, v in golden.weights.items()}
  image = golden.inputs['image'].transpose(0, 2, 3, 1)
  model = build(fields, distilled='dist_token' in arrays, scaled=any(map(SCALE.fullmatch, arrays)),
                class_position=False if system == 'deit3' else None)
  headless = not fields.get('num_classes', 1000)
  fields.check('in_chans', image.shape[3])
  fields.skip('dynamic_img_size')  # it allows other sizes
  if 'new_img_size' in kwargs and pair(kwargs['new_img_size']) != image.shape[1:3]:
    raise Unknown(f'new_img_size is {kwargs["new_img_size"]}, the images have {image.shape[1:3]}')
  kwargs.check('interpolation', 'bicubic')
  antialias = kwargs.get('antialias', system.startswith('timm'))
  variables, flat = load(
      dataclasses.replace(golden, weights=arrays), model, image,
      old_size=pair(fields.get('img_size', 224)), class_position=model.class_position,
      resampling='antialiased_bicubic' if antialias else 'bicubic', headless=headless)
  logits, found = run(model, variables, image)
  logits = found['representation'] if headless else logits
  embedded = found['embedding']
  out = {'patch_embed': embedded.reshape(embedded.shape[0], -1, model.width),
         'norm': found.get('Transformer/encoder_norm'), 'fc_norm': found.get('fc_norm'),
         'pos_embed_resized': flat.get(POSITIONS), 'pre_logits': found['representation'],
         'logits': logits, 'logits_mean_eval': logits, 'logits_cls': found['head'],
         'logits_dist': found.get('head_dist')}
  blocks = {f'block_{i}': found[f'Transformer/encoderblock_{i}'][0] for i in range(model.depth)}
  return {k: v for k, v in {**out, **blocks}.items() if v is not None}


SYSTEMS = dict(timm_vit=vit_torch, timm_vit_resample=vit_torch, deit_distilled=vit_torch,
               deit_interp=vit_torch, deit3=vit_torch)
