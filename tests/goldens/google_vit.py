"""ViT of vision_transformer and big_vision, hybrids too."""

import jax.numpy as jnp
import numpy as np

from tests.goldens.base import Fields, Golden, Unknown, load, pair, run
from vit_jax.layers import positions
from vit_jax.models.vit import ViT
from vit_jax.weights import POSITIONS

GOOGLE_POOLS = dict(token='token', gap='mean', unpooled='none', token_unpooled='none')
# big_vision's '0' takes the first patch; the reader does, of the answers for all.
BIG_VISION_POOLS = {'gap': 'mean', 'map': 'attention', 'tok': 'token', '0': 'none', 'none': 'none'}
PUBLISHED = {'MultiHeadDotProductAttention_0': 'MultiHeadDotProductAttention_1',
             'MlpBlock_0': 'MlpBlock_3', 'LayerNorm_1': 'LayerNorm_2'}


def vit_google(golden: Golden) -> dict[str, np.ndarray]:
  """vision_transformer's VisionTransformer, at the size of its weights or at another."""
  kwargs = golden.meta['kwargs']
  fields = kwargs['model'] if 'model' in kwargs else kwargs
  model, classes = _google(fields), fields.get('num_classes')
  image = golden.inputs['image']
  extra = {f'head/{leaf}': golden.inputs[f'head_{leaf}'] for leaf in ('kernel', 'bias')
           if f'head_{leaf}' in golden.inputs}
  if 'ckpt_differs' in kwargs:
    _compare(kwargs['ckpt_differs'], golden.weights)
  old_size = pair(kwargs['old_image']) if 'old_image' in kwargs else None
  variables, flat = load(golden, model, image, old_size=old_size, extra=extra, headless=not classes)
  logits, found = run(model, variables, image)
  representation = found.pop('representation')
  renamed = {'inter/pre_logits': found.pop('pre_logits', representation)}  # before its tanh
  for name, value in found.items():
    for ours, theirs in PUBLISHED.items():
      name = name.replace(ours, theirs)
    renamed[f'inter/{name}'] = value[0] if isinstance(value, tuple) else value  # scan's None
  answer = dict.fromkeys(('logits', 'features'), logits if classes else representation)
  return {**renamed, **answer, 'pos_embedding_resized': flat.get(POSITIONS)}


def _google(fields: Fields) -> ViT:
  """Returns the model of vision_transformer's arguments; one class where it has no head."""
  transformer, resnet = fields['transformer'], fields.get('resnet')
  fields.skip('model_name')
  classifier = fields.get('classifier', 'token')
  stem = {} if resnet is None else dict(
      stem_depths=tuple(resnet['num_layers']), stem_width=int(64 * resnet.get('width_factor', 1)))
  return ViT(
      num_classes=fields.get('num_classes') or 1, patch_size=tuple(fields['patches']['size']),
      width=fields['hidden_size'], depth=transformer['num_layers'], mlp_dim=transformer['mlp_dim'],
      num_heads=transformer['num_heads'], dropout_rate=transformer.get('dropout_rate', .1),
      attention_dropout_rate=transformer.get('attention_dropout_rate', .1),
      pool=fields.choose('classifier', GOOGLE_POOLS, 'token'),
      class_token=classifier.startswith('token'),
      position='learned' if transformer.get('add_position_embedding', True) else 'none',
      representation_size=fields.get('representation_size'),
      head_bias=fields.get('head_bias_init', 0.), **stem)


def _compare(wanted: Fields, weights) -> None:
  """Raises Unknown unless a checkpoint is as the file tells: its classes, its representation."""
  for key, name in (('num_classes', 'head/bias'), ('representation_size', 'pre_logits/bias')):
    size = len(weights[name]) if name in weights else None
    if key in wanted and wanted[key] != size:
      raise Unknown(f'ckpt_differs.{key}={wanted[key]}, and {name} has {size}')


def vit_big_vision(golden: Golden) -> dict[str, np.ndarray]:
  """big_vision's vit.Model, also reading an older file at another resolution."""
  kwargs = golden.meta['kwargs']
  fields = kwargs['model'] if 'model' in kwargs else kwargs
  model, classes = _big_vision(fields), fields.get('num_classes')
  image = golden.inputs['image']
  old_size = pair(kwargs['old_image']) if 'old_image' in kwargs else None
  variables, flat = load(golden, model, image, old_size=old_size, headless=not classes)
  logits, found = run(model, variables, image)
  result, represented = logits if classes else found['representation'], found['representation']
  if fields.get('pool_type') == '0':
    result, represented = result[:, 0], represented[:, 0]
  out = {'result': result, 'inter/logits': result, 'inter/stem': found['embedding'],
         'inter/pre_logits': represented, 'loaded/pos_embedding': flat.get(POSITIONS),
         'loaded/cls': flat.get('cls')}
  out.update(_big_vision_intermediates(model, variables['params'], found))
  return {k: v for k, v in out.items() if v is not None}


def _big_vision(fields: Fields) -> ViT:
  """Returns the model of big_vision's arguments; one class where it has no head."""
  width, rep_size = fields.get('width', 768), fields.get('rep_size', False)
  fields.skip('head_zeroinit', 'scan', 'remat_policy')  # how it starts, is stored and is trained
  fields.check('dtype_mm', 'float32')
  return ViT(
      num_classes=fields.get('num_classes') or 1, patch_size=tuple(fields.get('patch_size', (16, 16))),
      width=width, depth=fields.get('depth', 12), num_heads=fields.get('num_heads', 12),
      mlp_dim=fields.get('mlp_dim') or 4 * width, dropout_rate=fields.get('dropout', 0.),
      pool=fields.choose('pool_type', BIG_VISION_POOLS, 'gap'), class_position=False,
      position=fields.choose('posemb', dict(learn='learned', sincos2d='sincos'), 'learn'),
      representation_size=width if rep_size is True else rep_size or None)


def _big_vision_intermediates(model, params, found):
  """big_vision's names for what our capture found, and its per-patch logits."""
  tokens, stem = found['Transformer/encoder_norm'], found['embedding']
  patches = tokens[:, model.num_prefix:].reshape(stem.shape)
  dense = lambda x, layer: x @ params[layer]['kernel'] + params[layer]['bias']
  per_patch = jnp.tanh(dense(patches, 'pre_logits')) if 'pre_logits' in params else patches
  placed = found.get('Transformer/posembed_input')
  if placed is None:
    placed = stem.reshape(stem.shape[0], -1, stem.shape[-1]) + (
        positions.sincos_2d(stem.shape[1:3], stem.shape[-1]))
  pooled = {'mean': lambda: tokens.mean(axis=1), 'attention': lambda: found['MAPHead_0']}
  out = {'inter/encoded': tokens, 'inter/with_posemb': placed, 'inter/pre_logits_2d': per_patch,
         'inter/logits_2d': dense(per_patch, 'head'),
         'inter/head_input': pooled.get(model.pool, lambda: tokens[:, 0])()}
  for i in range(model.depth):
    block = f'Transformer/encoderblock_{i}'
    names = {'sa': found[f'{block}/MultiHeadDotProductAttention_0'], 'mlp': found[f'{block}/MlpBlock_0'],
             '+mlp': found[block][0]}
    names['+sa'] = names['+mlp'] - names['mlp']
    for name, value in names.items():
      out[f'inter/encoder/block{i:02d}/{name}'] = value
    out['inter/encoder/pre_ln'] = found[block][0]
  return out


SYSTEMS = dict(vit_jax=vit_google, vit_jax_resize=vit_google, vit_jax_hybrid=vit_google,
               bv_vit=vit_big_vision, bv_vit_load=vit_big_vision)
