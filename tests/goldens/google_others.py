"""MLP-Mixer of vision_transformer, residual networks of big_vision and Big Transfer."""

import flax.linen as nn
import numpy as np

from tests.goldens.base import Golden, load, run
from vit_jax.models.bit import BiT
from vit_jax.models.mixer import Mixer
from vit_jax.models.resnet import ResNet


def mixer(golden: Golden) -> dict[str, np.ndarray]:
  """vision_transformer's MlpMixer."""
  kwargs = golden.meta['kwargs']
  model = Mixer(num_classes=kwargs['num_classes'], patch_size=tuple(kwargs['patches']['size']),
                width=kwargs['hidden_dim'], depth=kwargs['num_blocks'],
                tokens_mlp_dim=kwargs['tokens_mlp_dim'], channels_mlp_dim=kwargs['channels_mlp_dim'])
  image = golden.inputs['image']
  logits, found = run(model, load(golden, model, image.shape[1:3])[0], image)
  return {**{f'inter/{k}': v for k, v in found.items()}, 'logits': logits}


def group_norm_resnet(golden: Golden) -> dict[str, np.ndarray]:
  """big_vision's bit.Model, a ResNet v1 with group norm."""
  kwargs = golden.meta['kwargs']
  model = ResNet(num_classes=kwargs['num_classes'], depths=tuple(kwargs['depth']),
                 width=int(64 * kwargs['width']), norm='group')
  image = golden.inputs['image']
  variables, _ = load(golden, model, image.shape[1:3])
  logits, found = run(model, variables, image)
  stages = [found[f'block{i + 1}'] for i in range(len(model.depths))]
  stem = nn.max_pool(nn.relu(found['gn_root']), (3, 3), (2, 2), 'SAME')
  return {'result': logits, **_per_position(stages[-1], variables), 'inter/stem': stem,
          'inter/pre_logits': found['representation'],
          **{f'inter/stage{i + 1}': stage for i, stage in enumerate(stages)}}


def big_transfer(golden: Golden) -> dict[str, np.ndarray]:
  """big_vision's bit_paper.Model, whose root pads with the lowest number."""
  kwargs = golden.meta['kwargs']
  model = BiT(num_classes=kwargs['num_classes'], depths=tuple(kwargs['depth']),
              width=int(64 * kwargs['width']), root_padding='lowest')
  image = golden.inputs['image']
  variables, _ = load(golden, model, image.shape[1:3])
  logits, found = run(model, variables, image)
  last = nn.relu(found['norm'])
  root = nn.max_pool(found['conv_root'], (3, 3), (2, 2), ((1, 1), (1, 1)))
  units = {}
  for i, depth in enumerate(model.depths, 1):
    units |= {f'inter/stage{i}/unit{u:02}': found[f'block{i}/unit{u}'] for u in range(1, depth + 1)}
  return {'logits': logits, 'inter/stem': root, 'inter/norm_pre_head': found['norm'],
          'inter/pre_logits': found['representation'], **_per_position(last, variables), **units}


def _per_position(last, variables):
  head = variables['params']['head']
  return {'inter/pre_logits_2d': last, 'inter/logits_2d': last @ head['kernel'] + head['bias']}


SYSTEMS = dict(mixer_jax=mixer, bv_bit=group_norm_resnet, bit_paper=big_transfer)
