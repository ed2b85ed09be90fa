"""MLP-Mixer of vision_transformer and big_vision, residual networks of big_vision and Big Transfer."""

import flax.linen as nn
import numpy as np

from tests.goldens.base import Fields, Golden, load, run
from vit_jax.models.bit import BiT
from vit_jax.models.mixer import Mixer
from vit_jax.models.resnet import ResNet

# Units per stage of big_vision's named depths.
DEPTHS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3),
          200: (3, 24, 36, 3)}


def mixer(golden: Golden) -> dict[str, np.ndarray]:
  """vision_transformer's MlpMixer, and big_vision's, which says otherwise what it computed."""
  fields = golden.meta['kwargs']
  fields.choose('arch', dict.fromkeys(('mixer', 'mlp_mixer')), 'mixer')
  fields.skip('model_name', 'dropout_rate', 'stoch_depth')  # a name, and what acts in training alone
  patch = fields['patches']['size'] if 'patches' in fields else fields['patch_size']
  model = Mixer(num_classes=fields.get('num_classes') or 1, patch_size=tuple(patch),
                width=fields['hidden_dim'], depth=fields['num_blocks'],
                tokens_mlp_dim=fields['tokens_mlp_dim'], channels_mlp_dim=fields['channels_mlp_dim'])
  image = golden.inputs['image']
  variables, _ = load(golden, model, image, headless=not fields.get('num_classes'))
  logits, found = run(model, variables, image)
  represented, stem = found.pop('representation'), found['stem']
  logits = logits if fields.get('num_classes') else represented
  blocks = {f'inter/block_{i}': found[f'MixerBlock_{i}'] for i in range(model.depth)}
  return {**{f'inter/{k}': v for k, v in found.items()}, **blocks, **_answers(logits),
          'inter/input_tokens': stem.reshape(len(stem), -1, model.width),
          'inter/pre_logits': represented}


def _resnet(fields: Fields) -> dict:
  """Returns the fields of a residual network of big_vision; one class where it has no head."""
  depth = fields.get('depth', 50)
  return dict(num_classes=fields.get('num_classes') or 1, width=int(64 * fields.get('width', 1)),
              depths=fields.choose('depth', DEPTHS, 50) if isinstance(depth, int) else tuple(depth))


def group_norm_resnet(golden: Golden) -> dict[str, np.ndarray]:
  """big_vision's bit.Model, a ResNet v1 with group norm."""
  fields, image = golden.meta['kwargs'], golden.inputs['image']
  fields.check('arch', 'bit')
  model, classes = ResNet(**_resnet(fields), norm='group'), fields.get('num_classes')
  variables, _ = load(golden, model, image, headless=not classes)
  logits, found = run(model, variables, image)
  stages = [found[f'block{i + 1}'] for i in range(len(model.depths))]
  stem = nn.max_pool(nn.relu(found['gn_root']), (3, 3), (2, 2), 'SAME')
  return {**_answers(logits if classes else found['representation']),
          **_per_position(stages[-1], variables), 'inter/stem': stem,
          'inter/pre_logits': found['representation'],
          **{f'inter/stage{i + 1}': stage for i, stage in enumerate(stages)}}


def big_transfer(golden: Golden) -> dict[str, np.ndarray]:
  """big_vision's bit_paper.Model, whose root pads with the lowest number."""
  fields, image = golden.meta['kwargs'], golden.inputs['image']
  fields.check('arch', 'bit_paper')
  model, classes = BiT(**_resnet(fields), root_padding='lowest'), fields.get('num_classes')
  variables, _ = load(golden, model, image, headless=not classes)
  logits, found = run(model, variables, image)
  last = nn.relu(found['norm'])
  root = nn.max_pool(found['conv_root'], (3, 3), (2, 2), ((1, 1), (1, 1)))
  units = {}
  for i, depth in enumerate(model.depths, 1):
    units |= {f'inter/stage{i}/unit{u:02}': found[f'block{i}/unit{u}'] for u in range(1, depth + 1)}
  return {**_answers(logits if classes else found['representation']), 'inter/stem': root,
          'inter/norm_pre_head': found['norm'], 'inter/pre_logits': found['representation'],
          **_per_position(last, variables), **units}


def _answers(value):
  """big_vision's names of the answer."""
  return dict.fromkeys(('result', 'logits', 'inter/logits'), value)


def _per_position(last, variables):
  head = variables['params']['head']
  return {'inter/pre_logits_2d': last, 'inter/logits_2d': last @ head['kernel'] + head['bias']}


SYSTEMS = dict(mixer_jax=mixer, bv_mixer=mixer, bv_mlp_mixer=mixer, bv_bit=group_norm_resnet,
               bv_bit_paper=big_transfer, bit_paper=big_transfer)
