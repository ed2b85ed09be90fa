"""Files of MLP-Mixers: those of gs://mixer_models, whose names are ours, and timm's."""

import numpy as np

from vit_jax import trees
from vit_jax.models import mixer
from vit_jax.weights.families.base import Published
from vit_jax.weights.families.rows import CONV, dense, norm, same
from vit_jax.weights.table import Row, Table

_BLOCK = 'MixerBlock_{i}/'

MIXER = Table('mixer', same(
    'stem/{leaf}', 'MixerBlock_{i}/{norm}/{leaf}', 'MixerBlock_{i}/{mlp}/{dense}/{leaf}',
    'pre_head_layer_norm/{leaf}', 'head/{leaf}'), shown_by=r'MixerBlock_0/token_mixing/.*')

TIMM_MIXER = Table('timm_mixer', (
    Row('stem.proj.weight', 'stem/kernel', CONV), Row('stem.proj.bias', 'stem/bias'),
    *norm('blocks.{i}.norm1', _BLOCK + 'LayerNorm_0'), *norm('blocks.{i}.norm2', _BLOCK + 'LayerNorm_1'),
    *(row for axis in ('token', 'channel') for n in (0, 1) for row in dense(
        f'blocks.{{i}}.mlp_{axis}s.fc{n + 1}', f'{_BLOCK}{axis}_mixing/Dense_{n}')),
    *norm('norm', 'pre_head_layer_norm'), *dense('head', 'head'),
), shown_by=r'blocks\.0\.mlp_tokens\.fc1\.weight', fields=dict(gelu='erf'))


def shown(flat: trees.Flat) -> dict | None:
  """Returns the fields of a Mixer that its parameters show."""
  if 'stem/kernel' not in flat:
    return None
  hidden = [flat.get(f'MixerBlock_0/{axis}_mixing/Dense_0/bias', np.zeros(0)).size
            for axis in ('token', 'channel')]
  return dict(patch=flat['stem/kernel'].shape[:2], width=flat['stem/kernel'].shape[3],
              depth=trees.numbers(flat, r'MixerBlock_(\d+)/'), tokens_mlp_dim=hidden[0],
              channels_mlp_dim=hidden[1])


def notes(model: mixer.Mixer, to: str) -> list[str]:
  """Returns which form of GELU the other code base's model needs."""
  if to == 'npz' or model.gelu != 'tanh':
    return []
  return ['the model was trained with the tanh form of GELU: create theirs with '
          "act_layer=timm.layers.get_act_layer('gelu_tanh')"]


PUBLISHED = Published(
    mixer.FAMILY, (MIXER, TIMM_MIXER), shown,
    formats=lambda model, to: dict(npz=MIXER, timm=TIMM_MIXER).get(to), notes=notes)
