"""ViT of vision_transformer and big_vision, hybrids too."""

import jax.numpy as jnp
import numpy as np

from tests.goldens.base import Golden, load, run
from vit_jax.layers import positions
from vit_jax.models.vit import ViT
from vit_jax.weights.fit import POSITIONS


def vit_google(golden: Golden) -> dict[str, np.ndarray]:
  """vision_transformer's VisionTransformer, at the size of its weights or at another."""
  kwargs = golden.meta['kwargs'].get('model', golden.meta['kwargs'])
  transformer = kwargs['transformer']
  classifier = kwargs.get('classifier', 'token')
  model = ViT(
      num_classes=kwargs['num_classes'], patch_size=tuple(kwargs['patches']['size']),
      width=kwargs['hidden_size'], depth=transformer['num_layers'],
      mlp_dim=transformer['mlp_dim'], num_heads=transformer['num_heads'],
      pool={'token': 'token', 'gap': 'mean', 'unpooled': 'none', 'token_unpooled': 'none'}[
          classifier], class_token=classifier.startswith('token'),
      position='learned' if transformer.get('add_position_embedding', True) else 'none',
      representation_size=kwargs.get('representation_size'), **_stem(kwargs.get('resnet')))
  image = golden.inputs['image']
  extra = {f'head/{leaf}': golden.inputs[f'head_{leaf}'] for leaf in ('kernel', 'bias')
           if f'head_{leaf}' in golden.inputs}
  variables, flat = load(golden, model, image.shape[1:3], extra)
  logits, found = run(model, variables, image)
  representation = found.pop('representation')
  renamed = {'inter/pre_logits': found.pop('pre_logits', representation)}  # before its tanh

  for name, value in found.items():
    name = name.replace('MultiHeadDotProductAttention_0', 'MultiHeadDotProductAttention_1')
    name = name.replace('MlpBlock_0', 'MlpBlock_3').replace('LayerNorm_1', 'LayerNorm_2')
    renamed[f'inter/{name}'] = value[0] if isinstance(value, tuple) else value  # scan's None
  return {**renamed, 'logits': logits, 'pos_embedding_resized': flat.get(POSITIONS)}


def _stem(resnet):
  """Fields of a hybrid's ResNet."""
  return {} if resnet is None else dict(stem_depths=tuple(resnet['num_layers']),
                                        stem_width=int(64 * resnet.get('width_factor', 1)))


def vit_big_vision(golden: Golden) -> dict[str, np.ndarray]:
  """big_vision's vit.Model, also reading an older file at another resolution."""
  kwargs = golden.meta['kwargs'].get('model', golden.meta['kwargs'])
  pool, rep_size = kwargs.get('pool_type', 'gap'), kwargs.get('rep_size', False)
  model = ViT(
      num_classes=kwargs['num_classes'], patch_size=tuple(kwargs['patch_size']),
      width=kwargs['width'], depth=kwargs['depth'],
      mlp_dim=kwargs.get('mlp_dim') or 4 * kwargs['width'], num_heads=kwargs['num_heads'],
      pool={'gap': 'mean', 'map': 'attention', 'tok': 'token', '0': 'mean'}.get(pool, pool),
      class_position=False,
      position={'learn': 'learned', 'sincos2d': 'sincos'}[kwargs.get('posemb', 'learn')],
      representation_size=kwargs['width'] if rep_size is True else rep_size or None)
  image = golden.inputs['image']
  variables, flat = load(golden, model, image.shape[1:3])
  logits, found = run(model, variables, image)
  out = {'result': logits, 'inter/stem': found['embedding'], 'inter/pre_logits': found['representation'],
         'loaded/pos_embedding': flat.get(POSITIONS), 'loaded/cls': flat.get('cls')}
  out.update(_big_vision_intermediates(model, variables['params'], found, golden))
  return {k: v for k, v in out.items() if v is not None}


def _big_vision_intermediates(model, params, found, golden):
  """big_vision's names for what our capture found, and its per-patch logits."""
  tokens = found['Transformer/encoder_norm']
  patches = tokens[:, model.num_prefix:].reshape(found['embedding'].shape)
  head = params['head']
  dense = lambda x: x @ head['kernel'] + head['bias']
  represent = lambda x: x
  if 'pre_logits' in params:
    represent = lambda x: jnp.tanh(
        x @ params['pre_logits']['kernel'] + params['pre_logits']['bias'])
  pooled = {'token': lambda: tokens[:, 0], 'mean': lambda: tokens.mean(axis=1),
            'attention': lambda: found['MAPHead_0']}[model.pool]()
  out = {'inter/encoded': tokens if model.pool != 'token' else tokens[:, 1:],
         'inter/head_input': pooled, 'inter/pre_logits_2d': represent(patches),
         'inter/logits_2d': dense(represent(patches))}
  if 'inter/encoded' in golden.outputs and golden.outputs['inter/encoded'].shape != out[
      'inter/encoded'].shape:
    out['inter/encoded'] = tokens
  if 'Transformer/posembed_input' in found:
    out['inter/with_posemb'] = found['Transformer/posembed_input']
  else:
    stem = found['embedding']
    out['inter/with_posemb'] = stem.reshape(stem.shape[0], -1, stem.shape[-1]) + (
        positions.sincos_2d(stem.shape[1:3], stem.shape[-1]))
  for i in range(model.depth):
    block = f'Transformer/encoderblock_{i}'
    names = {'sa': found[f'{block}/MultiHeadDotProductAttention_0'], 'mlp': found[f'{block}/MlpBlock_0'],
             '+mlp': found[block][0]}
    names['+sa'] = names['+mlp'] - names['mlp']
    for name, value in names.items():
      out[f'inter/encoder/block{i:02d}/{name}'] = value
  return out


SYSTEMS = dict(vit_jax=vit_google, vit_jax_resize=vit_google, vit_jax_hybrid=vit_google,
               bv_vit=vit_big_vision, bv_vit_load=vit_big_vision)
