"""Published formats of every family: what is exported is imported bit by bit."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import vit_jax
from tests.models import tiny
from vit_jax import models, weights
from vit_jax.errors import UserError
from vit_jax.weights import containers, families, formats
from vit_jax.weights.families import bit, timm
from vit_jax.weights.table import to_ours, to_theirs

VIT = dict(width=16, depth=2, num_heads=2, mlp_dim=24, patch_size=4)
MIXER = dict(width=16, depth=2, tokens_mlp_dim=8, channels_mlp_dim=24, patch_size=4)
RESNET = dict(width=32, depths=(1, 2))
CASES = [
    ('r50_b16', 'npz', dict(VIT, patch_size=1, stem_depths=(1, 2), stem_width=32)),
    ('r50_b16', 'timm', dict(VIT, patch_size=1, stem_depths=(1, 2), stem_width=32, gelu='erf')),
    ('r_ti16', 'timm', dict(VIT, patch_size=1, stem_width=32, gelu='erf')),
    ('mixer_b16', 'timm', dict(MIXER, gelu='erf')), ('bit_r50x1', 'timm', RESNET),
    ('mixer_b16', 'npz', MIXER), ('bit_r50x1', 'npz', RESNET), ('resnet50_gn', 'npz', RESNET),
    ('resnet18', 'torchvision', RESNET), ('resnet50', 'timm', RESNET),
    *((name, to, VIT) for name in ('deit_ti16', 'deit_ti16_distilled') for to in (
        'timm', 'deit', 'huggingface')),
    ('deit3_s16', 'timm', VIT), ('deit3_s16', 'deit', VIT),
    ('deit_ti16', 'timm', dict(VIT, pool='mean', norm_pooled=True))]


def saved(tmp_path, name, to, fields):
  """Returns (path, model, variables) of a small exported model."""
  model = models.create_model(name, num_classes=5, **fields)
  variables = tiny.variables(model, (16, 16))
  path = str(tmp_path / ('w.npz' if to == 'npz' else 'w.safetensors'))
  weights.export(path, model, variables, to)
  return path, model, variables


@pytest.mark.parametrize('name, to, fields', CASES)
def test_export_and_import_give_the_same_bits_and_the_same_model(name, to, fields, tmp_path):
  path, model, variables = saved(tmp_path, name, to, fields)
  got = vit_jax.load(name, path, image_size=16, verbose=False, **fields)
  jax.tree.map(np.testing.assert_array_equal, got.variables, variables)
  if to == 'huggingface':
    model = model.clone(layer_norm_eps=1e-12)
  assert got.model == model and got.info.num_classes == 5
  assert tiny.apply(got.model, got.variables, tiny.images((16, 16))).shape == (2, 5)


@pytest.mark.parametrize('name, to, fields', CASES)
def test_what_is_written_are_the_published_names(name, to, fields, tmp_path):
  arrays = containers.read(saved(tmp_path, name, to, fields)[0])
  known = {
      ('r50_b16', 'npz'): 'block1/unit1/gn3/scale',
      ('r50_b16', 'timm'): 'patch_embed.backbone.stages.1.blocks.0.downsample.conv.weight',
      ('r_ti16', 'timm'): 'patch_embed.backbone.conv.weight',
      ('mixer_b16', 'npz'): 'MixerBlock_1/token_mixing/Dense_0/kernel',
      ('mixer_b16', 'timm'): 'blocks.1.mlp_tokens.fc1.weight',
      ('bit_r50x1', 'npz'): 'resnet/block1/unit01/a/proj/standardized_conv2d/kernel',
      ('bit_r50x1', 'timm'): 'stages.1.blocks.0.downsample.conv.weight',
      ('resnet50_gn', 'npz'): 'block1/unit1/gn_proj/scale',
      ('resnet18', 'torchvision'): 'layer2.1.bn2.running_var',
      ('resnet50', 'timm'): 'layer2.0.downsample.1.running_mean'}
  if (name, to) == ('r50_b16', 'npz'):
    assert arrays[known[name, to]].shape == (1, 1, 1, 128)
  vit = {'timm': 'blocks.1.attn.qkv.weight', 'deit': 'blocks.1.attn.qkv.weight',
         'huggingface': 'encoder.layer.1.attention.attention.query.weight'}
  wanted = known.get((name, to)) or vit[to]
  assert any(key.endswith(wanted) for key in arrays)


def test_positions_of_a_file_are_resampled_by_the_rule_of_its_authors(tmp_path):
  path, _, _ = saved(tmp_path, 'deit_ti16_distilled', 'deit', VIT)
  source = weights.read(path, num_heads=2)
  assert source.table.resampling == 'bicubic'
  got = vit_jax.load('deit_ti16_distilled', path, image_size=(24, 16), verbose=False, **VIT)
  table = got.params['Transformer']['posembed_input']['pos_embedding']
  assert table.shape == (1, 2 + 6 * 4, 16)
  np.testing.assert_array_equal(table[:, :2], source.flat[weights.POSITIONS][:, :2])


def test_another_rule_may_be_asked_for(tmp_path):
  path, _, _ = saved(tmp_path, 'deit_ti16', 'timm', VIT)
  tables = [vit_jax.load('deit_ti16', path, image_size=24, verbose=False, resampling=rule, **VIT)
            .params['Transformer']['posembed_input']['pos_embedding']
            for rule in (None, 'antialiased_bicubic', 'bicubic')]
  np.testing.assert_array_equal(tables[0], tables[1])
  assert np.abs(tables[0] - tables[2]).max() > 1e-3
  with pytest.raises(UserError, match="unknown resampling method 'cubic'; did you mean 'bicubic'"):
    vit_jax.load('deit_ti16', path, image_size=24, verbose=False, resampling='cubic', **VIT)


PREFIXES = ('_orig_mod.', 'module.', 'model.', 'backbone.', 'encoder.', '_orig_mod.module.',
            'model.encoder.backbone.', 'state/')


@pytest.mark.parametrize('name, to, fields', CASES)
def test_a_prefix_that_all_names_share_is_taken_off(name, to, fields, tmp_path):
  arrays = containers.read(saved(tmp_path, name, to, fields)[0])
  plain = formats.parameters(arrays)
  assert plain.keys() == arrays.keys()  # nothing is taken off names of a format
  for prefix in PREFIXES:
    wrapped = {prefix + key: array for key, array in arrays.items()}
    assert formats.parameters(wrapped).keys() == plain.keys(), prefix
    assert formats.parameters({**wrapped, 'n_averaged': 1}).keys() == plain.keys()


@pytest.mark.parametrize('prefix', PREFIXES)
@pytest.mark.parametrize('names', [
    {'transformer.decoder.layers.0.multihead_attn.in_proj_weight', 'backbone.0.body.conv1.weight'},
    {'detr.transformer.decoder.layers.0.multihead_attn.in_proj_weight', 'mask_head.lay1.weight'},
    {'model.decoder.layers.0.encoder_attn.q_proj.weight', 'bbox_predictor.layers.0.weight'}])
def test_a_prefix_is_taken_off_a_detector_s_names(names, prefix):
  from detr_jax.weights.families import tables
  for wrapped in (names, {prefix + name for name in names}):
    assert formats.parameters(dict.fromkeys(wrapped, 0), (*tables(), *families.tables())).keys() == names


@pytest.mark.parametrize('beside', ['criterion.weight', 'model.head.extra.running', 'step'])
def test_names_beside_a_prefix_are_told_and_not_dropped(beside, tmp_path):
  arrays = containers.read(saved(tmp_path, 'deit_ti16', 'timm', VIT)[0])
  wrapped = {**{'model.net.' + key: array for key, array in arrays.items()}, beside: np.zeros(1)}
  with pytest.raises(UserError, match=f"those below the prefix 'model.net.' are, but 1 others stand "
                                      f'beside them .{beside}.: save what lies below the prefix alone'):
    formats.guess(formats.parameters(wrapped))


@pytest.mark.parametrize('names', [
    {'transformer.decoder.layers.0.multihead_attn.in_proj_weight', 'class_embed.weight'},
    {'module.query_embed.weight', 'module.bbox_embed.layers.0.weight'},
    {'model.query_position_embeddings.weight', 'class_labels_classifier.weight'}])
def test_a_detector_s_names_are_told(names):
  with pytest.raises(UserError, match='of a detector, and not of a classifier; give them to a detector'):
    formats.guess(formats.parameters(dict.fromkeys(names, 0)))


def test_layers_that_tensorflow_numbered_are_read():
  model = models.create_model('bit_r50x1', num_classes=5, **RESNET)
  theirs = to_theirs(bit.BIT, weights.flatten(tiny.variables(model, (16, 16))))
  numbered = {k.replace('standardized_conv2d/', 'standardized_conv2d_7/').replace(
      'group_norm/', 'group_norm_3/'): v for k, v in theirs.items()}
  assert numbered.keys() != theirs.keys() == formats.parameters(numbered).keys()


def test_a_shape_that_does_not_fit_is_named():
  with pytest.raises(UserError, match=r"blocks.0.attn.qkv.weight has the shape \(50, 16\), which does "
                                      "not fit .* with heads=2"):
    to_ours(timm.TIMM, {'blocks.0.attn.qkv.weight': np.zeros((50, 16))}, 2)


@pytest.mark.parametrize('change, said', [
    (lambda a: a.pop('blocks.1.norm2.bias'), '1 missing: Transformer/encoderblock_1/LayerNorm_1/bias'),
    (lambda a: a.update({'blocks.1.extra': a['norm.bias']}), "'timm' does not know: blocks.1.extra"),
    (lambda a: a.update({'norm.bias': np.zeros(16, np.int32)}),
     'of numbers without a fraction: Transformer/encoder_norm/bias of int32'),
    (lambda a: a.update({'norm.bias': np.full(16, np.nan, np.float32)}), 'norm.bias holds NaN or inf'),
    (lambda a: a.update({'blocks.0.mlp.fc1.weight': a['blocks.0.mlp.fc1.weight'].T}),
     r'1 misshapen: Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel \(24, 16\) instead of')])
def test_keys_that_are_missing_unknown_or_transposed_are_named(change, said, tmp_path):
  from vit_jax.weights import safetensors
  path, _, _ = saved(tmp_path, 'deit_ti16', 'timm', VIT)
  arrays = dict(containers.read(path))
  change(arrays)
  changed = str(tmp_path / 'changed.safetensors')
  safetensors.write(changed, arrays)
  with pytest.raises(UserError, match=said):
    vit_jax.load('deit_ti16', changed, verbose=False, **VIT)


@pytest.mark.parametrize('name, to, said', [
    ('mixer_b16', 'deit', "Mixer has no names in the format 'deit'"),
    ('resnet50', 'npz', "ResNet has no names in the format 'npz'"),
    ('vit_b16', 'tim', "unknown format 'tim'; did you mean 'timm'")])
def test_formats_that_a_family_has_not(name, to, said, tmp_path):
  suffix = '.npz' if to == 'npz' else '.safetensors'
  with pytest.raises(UserError, match=said):
    weights.export(str(tmp_path / f'w{suffix}'), models.create_model(name), {'params': {}}, to)


def test_a_family_without_names_is_told(tmp_path):
  for to in ('npz', 'timm'):
    with pytest.raises(UserError, match=f"Dense has no names in the format '{to}'"):
      weights.export(str(tmp_path / ('w.npz' if to == 'npz' else 'w.safetensors')), nn.Dense(3),
                     {'params': {}}, to)


@pytest.mark.parametrize('to, fields, said', [
    ('timm', dict(pool='mean', class_token=True), "theirs with global_pool='avg', fc_norm=False"),
    ('timm', dict(pool='mean', norm_pooled=True), "theirs with global_pool='avg', class_token=False"),
    ('timm', dict(norm_pooled=True), 'theirs with fc_norm=True'),
    ('timm', dict(position='none'), "theirs with pos_embed='none'"),
    ('npz', dict(position='none'), "load it with position='none'"),
    ('npz', dict(pool='mean', class_token=True), "load it with pool='mean'")])
def test_what_a_file_cannot_say_of_pooling_and_positions_is_said(to, fields, said, tmp_path):
  path = str(tmp_path / ('w.npz' if to == 'npz' else 'w.safetensors'))
  model = tiny.vit(gelu='erf', **fields)
  notes = weights.export(path, model, tiny.variables(model), to)
  assert len(notes) == 1 and notes[0].endswith(said)


def test_a_mean_is_not_written_for_a_reader_of_the_class_token(tmp_path):
  model = tiny.vit(pool='mean', class_token=True)
  with pytest.raises(UserError, match="ViT has no names in the format 'huggingface'"):
    weights.export(str(tmp_path / 'w.safetensors'), model, tiny.variables(model), 'huggingface')


def test_what_a_file_cannot_say_is_said(tmp_path):
  model = tiny.vit()
  notes = weights.export(str(tmp_path / 'w.safetensors'), model, tiny.variables(model), 'timm')
  assert len(notes) == 1 and "act_layer='gelu_tanh'" in notes[0]
