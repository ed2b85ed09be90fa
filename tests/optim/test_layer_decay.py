"""Layer-wise decay: groups by name, stacks as single layers, rates of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from vit_jax.optim import layer_decay, optimizers
from vit_jax import models, trees, weights
from vit_jax.errors import UserError


def test_the_groups_of_a_vit_run_from_the_patches_to_the_head():
  shapes = weights.init_shapes(tiny.vit(depth=3, representation_size=8), tiny.IMAGE, 3)
  found = layer_decay.scales(shapes, .5, models.family('vit_b16').depth)
  layer = 'Transformer/encoderblock_{}/MlpBlock_0/Dense_0/kernel'
  assert {path: found[path] for path in (
      'cls', 'embedding/kernel', 'Transformer/posembed_input/pos_embedding', layer.format(0),
      layer.format(1), layer.format(2), 'Transformer/encoder_norm/scale', 'pre_logits/kernel',
      'head/bias')} == {
          'cls': [.5**4], 'embedding/kernel': [.5**4],
          'Transformer/posembed_input/pos_embedding': [.5**4], layer.format(0): [.5**3],
          layer.format(1): [.5**2], layer.format(2): [.5], 'Transformer/encoder_norm/scale': [.5],
          'pre_logits/kernel': [1.], 'head/bias': [1.]}


@pytest.mark.parametrize('name, paths, want', [
    ('mixer_b16', (
        'stem/kernel', 'MixerBlock_0/LayerNorm_0/bias', 'MixerBlock_1/token_mixing/Dense_0/kernel',
      'pre_head_layer_norm/scale', 'head/kernel'), (0, 1, 2, 2, 3)),
    ('bit_r50x1', (
        'conv_root/kernel', 'gn_root/scale', 'block1/unit1/conv1/kernel', 'block1/unit2/gn1/bias',
      'block2/unit1/conv_proj/kernel', 'norm/scale', 'head/bias'), (0, 0, 1, 2, 3, 3, 4)),
    ('r50_b16', ('conv_root/kernel', 'block1/unit1/conv1/kernel', 'embedding/bias', 'dist',
      'Transformer/encoderblock_0/gamma_1', 'Transformer/encoder_norm/bias', 'head_dist/bias'),
     (0, 0, 0, 0, 1, 1, 2))])
def test_the_groups_of_other_families(name, paths, want):
  params = trees.unflatten({path: np.zeros(3) for path in paths})
  found = layer_decay.scales(params, .5, models.family(name).depth)
  assert [found[path] for path in paths] == [[.5 ** (max(want) - group)] for group in want]


def test_ten_layers_are_ordered_by_number_and_not_by_name():
  params = trees.unflatten({f'Transformer/encoderblock_{i}/LayerNorm_0/bias': np.zeros(3)
                            for i in range(12)})
  found = layer_decay.scales(params, .5, models.family('vit_b16').depth)
  assert found['Transformer/encoderblock_10/LayerNorm_0/bias'] == [.25]


def one_step(model, params, **options):
  """Returns the change of each parameter, layers one by one, after one step with fixed gradients."""
  grads = tiny.params(model, seed=1)
  optimizer = optimizers.make(params, lambda step: .1, models.family(model).depth, **options)
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  return {k: np.asarray(v) for k, v in trees.unstack(trees.flatten(updates)).items()}


OPTIONS = dict(sgd=dict(weight_decay=.1), adamw=dict(decay='timm'),
               lion=dict(weight_decay=.1, decay='deit'), lamb=dict(weight_decay=.1),
               adafactor=dict(weight_decay=.1, min_size_to_factor=16))


@pytest.mark.parametrize('name', OPTIONS)
def test_a_stack_takes_the_step_of_single_layers(name):
  options = dict(name=name, layer_decay=.65, **OPTIONS[name])
  single, stacked = tiny.vit(depth=3), tiny.vit(depth=3, scan=True)
  want = one_step(single, tiny.params(single), **options)
  got = one_step(stacked, tiny.params(stacked), **options)
  assert set(got) == set(want)
  for path in want:
    np.testing.assert_allclose(got[path], want[path], rtol=2e-5, atol=1e-7, err_msg=path)


@pytest.mark.parametrize('name', ['sgd', 'adamw', 'lamb'])
def test_rate_and_decay_of_each_group_are_scaled(name):
  model = tiny.vit(depth=3)
  params = tiny.params(model)
  plain = one_step(model, params, name=name, weight_decay=.1)
  scaled = one_step(model, params, name=name, weight_decay=.1, layer_decay=.65)
  for path, (factor,) in layer_decay.scales(params, .65, models.family(model).depth).items():
    np.testing.assert_allclose(scaled[path], factor * plain[path], rtol=1e-6, err_msg=path)


def test_frozen_layers_stay_frozen_and_there_are_no_slots():
  model = tiny.vit()
  params = tiny.params(model)
  found = one_step(model, params, name='adam', layer_decay=.65, freeze=('.*encoderblock_0/.*',))
  for path, change in found.items():
    assert change.any() != ('encoderblock_0/' in path), path
  assert not jax.tree.leaves(layer_decay.scale_by_layer(
      params, .65, models.family(model).depth).init(params))


@pytest.mark.parametrize('decay', [0., -.1, 1.5])
def test_a_decay_out_of_range(decay):
  with pytest.raises(UserError, match='layer_decay=.* must be a number, above 0 and at most 1'):
    optimizers.make(tiny.params(tiny.vit()), lambda step: .1, name='sgd', layer_decay=decay)


def test_a_family_without_depth_groups():
  params = {'dense': {'kernel': jnp.zeros((2, 2))}}
  with pytest.raises(UserError, match='has none; leave optimizer.layer_decay at 1'):
    optimizers.make(params, lambda step: .1, name='sgd', layer_decay=.5)


ONE_OF_EACH = {models.create_model(name).__class__: name for name in models.list_models()}


@pytest.mark.parametrize('name', ONE_OF_EACH.values())
def test_every_architecture_has_a_group_for_each_layer(name):
  model = models.create_model(name)
  if hasattr(model, 'depth'):
    model = model.clone(depth=3)
  else:
    stages = min(len(model.depths), 2)
    own = [name for name in ('widths', 'num_heads', 'group_widths', 'expansions', 'kernel_sizes',
                             'strides') if name in type(model).__dataclass_fields__]
    cut = {name: getattr(model, name)[:stages] for name in own}
    cut |= dict(dilations=()) if hasattr(model, 'dilations') else {}
    model = model.clone(depths=(1, 2)[:stages], **cut)
  params = weights.init_shapes(model, (64, 64), 3)
  groups = {factor for factors in layer_decay.scales(
      params, .5, models.family(name).depth).values() for factor in factors}
  assert groups == {.5 ** i for i in range(len(groups))}
  # A stage of ConvNeXt is one group; NAT's downsampler is one by itself.
  assert len(groups) >= 2 + (getattr(model, 'depth', None) or len(model.depths))
