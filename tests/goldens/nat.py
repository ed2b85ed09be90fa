"""NAT, DiNAT, and the layer of neighborhood attention of NATTEN alone."""

import numpy as np

from tests.goldens.base import Fields, Golden, Unknown, exactly, load, run
from vit_jax.layers.neighborhood import NeighborhoodAttention
from vit_jax.models.nat import NAT
from vit_jax.weights.families.nat import AUTHORS
from vit_jax.weights.table import to_ours

# Arguments that act in training alone.
TRAINING = ('drop_rate', 'attn_drop_rate', 'drop_path_rate', 'attn_drop', 'proj_drop')


def nat(golden: Golden) -> dict[str, np.ndarray]:
  """NAT and DiNAT, the same class."""
  kwargs, image = golden.meta['kwargs'], golden.inputs['image'].transpose(0, 2, 3, 1)
  model = build(kwargs)
  kwargs.check('in_chans', image.shape[3])
  variables, _ = load(golden, model, image, headless=not kwargs.get('num_classes', 1000))
  logits, found = run(model, variables, image)
  if not kwargs.get('num_classes', 1000):
    logits = found['representation']
  out = {'patch_embed': found['tokenizer'], 'norm': found['norm'], 'logits': logits}
  for i, depth in enumerate(model.depths):
    out[f'level_{i}'] = found.get(f'level{i + 1}/downsample', found[f'level{i}'][0])  # with what follows
    for j in range(depth):
      out[f'level_{i}_block_{j}'] = found[f'level{i}/layer{j}']
      out[f'level_{i}_block_{j}_attn'] = found[f'level{i}/layer{j}/attention']
  return out


def build(fields: Fields) -> NAT:
  """Returns the model of the arguments of `NAT`."""
  fields.skip(*TRAINING)
  scale, dilations = fields.get('layer_scale'), fields.get('dilations') or ()
  return NAT(
      num_classes=fields.get('num_classes', 1000) or 1, width=fields['embed_dim'],
      depths=tuple(fields['depths']), num_heads=tuple(fields['num_heads']),
      mlp_ratio=fields['mlp_ratio'], kernel_size=fields.get('kernel_size', 7),
      dilations=tuple(tuple(d or 1 for d in level or (1,) * depth)
                      for level, depth in zip(dilations, fields['depths'])),
      layer_scale=None if scale is None else float(scale), qkv_bias=fields.get('qkv_bias', True),
      qk_scale=fields.get('qk_scale') or None)


def attention(golden: Golden) -> dict[str, np.ndarray]:
  """NeighborhoodAttention2D of NATTEN 0.14."""
  kwargs, x = golden.meta['kwargs'], golden.inputs['x']
  kwargs.skip(*TRAINING)
  if kwargs['dim'] != x.shape[-1]:
    raise Unknown(f'meta.kwargs.dim={kwargs["dim"]}, and the input has {x.shape[-1]} channels')
  model = NeighborhoodAttention(
      kwargs['num_heads'], kwargs.get('kernel_size', 7), kwargs.get('dilation') or 1,
      kwargs.get('qkv_bias', True), kwargs.get('qk_scale') or None, kwargs.get('bias', True))
  prefix = 'level0/layer0/attention/'
  arrays = {name.removeprefix('attn.'): v for name, v in golden.weights.items()}
  flat = to_ours(AUTHORS, {f'levels.0.blocks.0.attn.{name}': v for name, v in arrays.items()})
  variables = exactly({k.removeprefix(prefix): v for k, v in flat.items()}, model, x)
  out, found = run(model, variables, x)
  return {'out': out, 'attn_logits': found['scores'], 'attn_probs': found['attention']}


SYSTEMS = dict(nat=nat, dinat=nat, na2d=attention)
