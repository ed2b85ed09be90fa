"""ViT of timm, DeiT and DeiT III, also read at another image size."""

import dataclasses

import numpy as np

from tests.goldens.base import Golden, load, run
from vit_jax.models.vit import ViT
from vit_jax.weights.fit import POSITIONS


def vit_torch(golden: Golden) -> dict[str, np.ndarray]:
  """VisionTransformer of timm, DistilledVisionTransformer and vit_models of DeiT."""
  kwargs = golden.meta['kwargs'].get('model', golden.meta['kwargs'])
  arrays = {k.removeprefix('ckpt.'): v for k, v in golden.weights.items()}
  golden = dataclasses.replace(golden, weights=arrays)
  has_class, width = kwargs.get('class_token', True), kwargs['embed_dim']
  model = ViT(
      num_classes=kwargs['num_classes'], patch_size=kwargs['patch_size'], width=width,
      depth=kwargs['depth'], num_heads=kwargs['num_heads'],
      mlp_dim=int(width * kwargs.get('mlp_ratio', 4)),
      pool='token' if has_class else 'mean', gelu='erf', norm_pooled='fc_norm.weight' in arrays,
      distillation_token='dist_token' in arrays,
      layer_scale=1e-4 if 'blocks.0.gamma_1' in arrays else None,
      class_position='blocks.0.gamma_1' not in arrays)
  image = golden.inputs['image'].transpose(0, 2, 3, 1)
  variables, flat = load(golden, model, image.shape[1:3])
  logits, found = run(model, variables, image)
  embedded = found['embedding']
  out = {'patch_embed': embedded.reshape(embedded.shape[0], -1, width),
         'norm': found.get('Transformer/encoder_norm'), 'fc_norm': found.get('fc_norm'),
         'pos_embed_resized': flat[POSITIONS], 'pre_logits': found['representation'],
         'logits': logits, 'logits_mean_eval': logits, 'logits_cls': found['head'],
         'logits_dist': found.get('head_dist')}
  blocks = {f'block_{i}': found[f'Transformer/encoderblock_{i}'][0] for i in range(model.depth)}
  return {k: v for k, v in {**out, **blocks}.items() if v is not None}


SYSTEMS = dict(timm_vit=vit_torch, timm_vit_resample=vit_torch, deit_distilled=vit_torch,
               deit_interp=vit_torch, deit3=vit_torch)
