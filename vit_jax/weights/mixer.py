"""Names of MLP-Mixer parameters: the files of gs://mixer_models have ours."""

from vit_jax.weights.table import Table
from vit_jax.weights.vit import same

MIXER = Table('mixer', same(
    'stem/{leaf}', 'MixerBlock_{i}/{norm}/{leaf}', 'MixerBlock_{i}/{mlp}/{dense}/{leaf}',
    'pre_head_layer_norm/{leaf}', 'head/{leaf}'), shown_by=r'MixerBlock_0/token_mixing/.*')
