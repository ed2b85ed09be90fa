"""Swin: the classifier, the same loaded with another window, and dense features."""

import numpy as np

from tests.goldens.base import Fields, Golden, load, pair, run
from vit_jax import weights
from vit_jax.models.swin import Swin
from vit_jax.weights.families.swin import AUTHORS
from vit_jax.weights.table import to_theirs

__all__ = ['AUTHORS', 'SYSTEMS', 'build']
# Arguments that act in training alone, or change the program and no number.
TRAINING = ('drop_rate', 'attn_drop_rate', 'drop_path_rate', 'use_checkpoint', 'fused_window_process',
            'frozen_stages')


def build(fields: Fields, **own) -> Swin:
  """Returns the model of the arguments of `SwinTransformer`."""
  fields.skip(*TRAINING)
  fields.check('qk_scale', None)
  own = own or dict(num_classes=fields.get('num_classes', 1000) or 1)
  return Swin(width=fields.get('embed_dim', 96), depths=tuple(fields.get('depths', (2, 2, 6, 2))),
              num_heads=tuple(fields.get('num_heads', (3, 6, 12, 24))),
              window_size=fields.get('window_size', 7), patch_size=fields.get('patch_size', 4),
              mlp_ratio=fields.get('mlp_ratio', 4.), qkv_bias=fields.get('qkv_bias', True),
              patch_norm=fields.get('patch_norm', True), absolute_positions=fields.get('ape', False),
              **own)


def tokens(x) -> np.ndarray:
  """Returns a map as `[batch, tokens, channels]`."""
  return np.asarray(x).reshape(x.shape[0], -1, x.shape[-1])


def blocks(model: Swin, found) -> dict[str, np.ndarray]:
  """Returns the map behind each block."""
  return {f'layer_{i}_block_{j}': tokens(found[f'stage{i}/block{j}'])
          for i, depth in enumerate(model.depths) for j in range(depth)}


def answers(model: Swin, variables, image) -> dict[str, np.ndarray]:
  """Returns what the classifier gives."""
  logits, found = run(model, variables, image)
  last = len(model.depths) - 1
  layers = {f'layer_{i}': tokens(found[f'stage{i + 1}/downsample']) for i in range(last)}
  layers[f'layer_{last}'] = tokens(found[f'stage{last}'][0])
  return {**blocks(model, found), **layers, 'patch_embed': tokens(found['patch_embed']),
          'norm': tokens(found['norm']), 'pooled': found['representation'], 'logits': logits}


def classifier(golden: Golden) -> dict[str, np.ndarray]:
  """models/swin_transformer.py."""
  fields, image = golden.meta['kwargs'], golden.inputs['image'].transpose(0, 2, 3, 1)
  fields.check('in_chans', image.shape[3])
  if pair(fields.get('img_size', 224)) != image.shape[1:3]:
    raise ValueError('the image is not of img_size')
  model = build(fields)
  variables, _ = load(golden, model, image, headless=not fields.get('num_classes', 1000))
  return answers(model, variables, image)


def other_window(golden: Golden) -> dict[str, np.ndarray]:
  """utils.py:load_pretrained: a checkpoint loaded into a model with other windows and classes."""
  old, new = golden.meta['kwargs']['old'], golden.meta['kwargs']['new']
  image = golden.inputs['image'].transpose(0, 2, 3, 1)
  build(old)
  for fields in (old, new):
    fields.check('in_chans', image.shape[3])
    pair(fields.get('img_size', 224))
  model = build(new)
  variables, fitted = load(golden, model, image)
  loaded = to_theirs(AUTHORS, {k: np.asarray(v) for k, v in weights.flatten(variables).items()})
  tables = {f'loaded/{k}': v for k, v in loaded.items() if k.endswith('bias_table')}
  return {**answers(model, variables, image), **tables}


def dense(golden: Golden) -> dict[str, np.ndarray]:
  """The backbone of the detectors and segmenters."""
  fields, image = golden.meta['kwargs'], golden.inputs['image'].transpose(0, 2, 3, 1)
  fields.check('in_chans', image.shape[3])
  wanted = tuple(fields.get('out_indices', (0, 1, 2, 3)))
  fields.skip('pretrain_img_size')  # of the absolute positions alone
  model = build(fields, num_classes=None, map_norms=True)
  variables, _ = load(golden, model, image)
  features, found = run(model, variables, image)
  first = lambda x: np.asarray(x).transpose(0, 3, 1, 2)
  return {**blocks(model, found), 'patch_embed': first(found['patch_embed']),
          **{f'feature_{i}': first(features.maps[i]) for i in wanted}}


SYSTEMS = dict(swin_cls=classifier, swin_window_change=other_window, swin_dense=dense)
