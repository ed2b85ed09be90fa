"""The mesh, and where the rules place parameters, slots and batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec as P

from vit_jax import models, sharding, trees, weights
from vit_jax.optim import optimizers
from vit_jax.errors import UserError


@pytest.mark.parametrize('asked, shape', [
    ((-1, 1, 1), (8, 1, 1)), ((-1, 2, 2), (2, 2, 2)), ((2, -1, 1), (2, 4, 1)),
    ((1, 1, -1), (1, 1, 8)), ((8, 1, 1), (8, 1, 1)), ((2, 2, 2), (2, 2, 2))])
def test_mesh_sizes(asked, shape):
  mesh = sharding.make_mesh(*asked)
  assert mesh.devices.shape == shape and mesh.axis_names == ('data', 'fsdp', 'model')
  assert len(set(mesh.devices.flat)) == 8
  assert set(mesh.axis_types) == {AxisType.Auto}  # explicit ones would reject our modules


def test_a_mesh_of_some_devices():
  assert sharding.make_mesh(fsdp=2, devices=jax.devices()[:6]).devices.shape == (3, 2, 1)
  assert list(sharding.make_mesh(3, 1, 2).devices.flat) == jax.devices()[:6]


@pytest.mark.parametrize('asked, said', [
    ((3, 3, 1), 'data=3 x fsdp=3 x model=1 does not fit the 8 devices .*mesh.data=-1'),
    ((-1, 3, 1), 'data=-1 x fsdp=3 x model=1 does not fit the 8 devices'),
    ((16, 1, 1), 'does not fit the 8 devices'),
    ((-1, 16, 1), 'does not fit the 8 devices'),
    ((-1, -1, 1), 'at most one may be -1; got data=-1, fsdp=-1'),
    ((0, 1, 1), 'must be positive.* got data=0'),
    ((-2, 1, 1), 'must be positive.* got data=-2')])
def test_a_mesh_that_does_not_fit_says_what_was_asked_and_what_is_there(asked, said):
  with pytest.raises(UserError, match=said):
    sharding.make_mesh(*asked)


def test_the_first_rule_that_matches_counts():
  mesh = sharding.make_mesh(2, 2, 2)
  rules = (('.*/a/.*', P('fsdp')), ('.*/kernel', P('model')), ('.*', P()))
  assert sharding.spec('a/kernel', (4,), rules, mesh) == (P('fsdp'), [])
  assert sharding.spec('b/kernel', (4,), rules, mesh) == (P('model'), [])
  assert tuple(sharding.spec('b/bias', (4,), rules, mesh)[0]) == ()


def test_the_leading_axis_of_a_stack_stays_whole():
  mesh = sharding.make_mesh(2, 2, 2)
  layer = 'params/Transformer/encoderblock{}/MlpBlock_0/Dense_0/kernel'
  alone, _ = sharding.spec(layer.format('_3'), (16, 32), models.family('vit_b16').rules, mesh)
  stacked, _ = sharding.spec(layer.format(''), (4, 16, 32), models.family('vit_b16').rules, mesh)
  assert tuple(alone) == ('fsdp', 'model') and tuple(stacked) == (None, *alone)


def test_dimensions_that_the_axis_does_not_divide_stay_whole_and_are_told():
  mesh = sharding.make_mesh(1, 4, 2)
  path = 'params/Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel'
  where, told = sharding.spec(path, (18, 32), models.family('vit_b16').rules, mesh)
  assert tuple(where) == (None, 'model')
  assert told == [f'{path} axis 0 of 18 by fsdp=4']


def test_slots_with_fewer_axes_than_their_parameter_are_whole():
  mesh = sharding.make_mesh(2, 2, 2)
  path = 'opt_state/0/v_row/Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel'
  where, told = sharding.spec(path, (4,), models.family('vit_b16').rules, mesh)
  assert tuple(where) == () and told == []


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('name', ['adamw', 'sgd'])
def test_optimizer_slots_follow_their_parameters(name, scan):
  mesh = sharding.make_mesh(2, 2, 2)
  model = models.create_model('vit_ti16', width=16, depth=2, num_heads=2, mlp_dim=32, patch_size=4,
                              scan=scan)
  shapes = weights.init_shapes(model, (8, 8), 3)
  optimizer = optimizers.make(shapes, optax.constant_schedule(.1), name=name)
  slots = jax.eval_shape(optimizer.init, shapes)
  placed, _ = sharding.shardings({'params': shapes, 'opt_state': slots},
                                 models.family('vit_b16').rules, mesh)
  named = {trees.path_name(p): s.spec for p, s in jax.tree_util.tree_leaves_with_path(placed)}
  moments = {'adamw': ('mu', 'nu'), 'sgd': ('trace',)}[name]
  checked = 0
  for path, spec in named.items():
    for moment in moments:
      if f'/{moment}/' in path:
        assert spec == named['params/' + path.split(f'/{moment}/')[1]], path
        checked += 1
  assert checked == len(moments) * len(jax.tree.leaves(shapes))


@pytest.mark.parametrize('scan', [False, True])
def test_factored_slots_lie_somewhere_and_nothing_is_said_of_them(scan):
  mesh = sharding.make_mesh(2, 2, 2)
  model = models.create_model('vit_ti16', width=64, depth=2, num_heads=2, mlp_dim=128, patch_size=4,
                              num_classes=10, scan=scan)
  shapes = weights.init_shapes(model, (8, 8), 3)
  optimizer = optimizers.make(shapes, optax.constant_schedule(.1), name='adafactor')
  slots = jax.eval_shape(optimizer.init, shapes)
  placed, told = sharding.shardings({'opt_state': slots}, models.family('vit_b16').rules, mesh)
  assert not told
  params, _ = sharding.shardings({'params': shapes}, models.family('vit_b16').rules, mesh)
  spec = {trees.path_name(p): s.spec for p, s in jax.tree_util.tree_leaves_with_path((placed, params))}
  for (path, slot), where in zip(jax.tree_util.tree_leaves_with_path(slots), jax.tree.leaves(placed),
                                 strict=True):
    where.shard_shape(slot.shape)  # raises where an axis is not divided
    _, _, parameter = trees.path_name(path).partition('/v/')
    if parameter and slot.size > 1:  # not factored: as its parameter
      assert where.spec == spec[f'1/params/{parameter}'], path


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('name', models.list_models('vit_*'))
def test_every_big_kernel_of_every_vit_is_split(name, scan):
  mesh = sharding.make_mesh(2, 2, 2)
  model = models.create_model(name, depth=2, pool='attention', representation_size=64, scan=scan)
  shapes = {'params': weights.init_shapes(model, (model.patch_size * 2,) * 2, 3)}
  placed, _ = sharding.shardings(shapes, models.family('vit_b16').rules, mesh)
  for (path, leaf), where in zip(jax.tree_util.tree_leaves_with_path(shapes),
                                 jax.tree.leaves(placed), strict=True):
    name = trees.path_name(path)
    if name.endswith('kernel'):
      assert 'fsdp' in where.spec, name
      # Attention heads that `model` does not divide (Ti has 3) stay whole on that axis.
      whole = 'embedding' in name or ('MultiHead' in name and model.num_heads % 2)
      assert ('model' in where.spec) != bool(whole), name
    where.shard_shape(leaf.shape)  # raises where an axis is not divided


@pytest.mark.parametrize('shape', [(8, 1, 1), (2, 4, 1), (2, 2, 2), (1, 1, 8)])
def test_a_batch_is_split_over_data_and_fsdp(shape):
  mesh = sharding.make_mesh(*shape)
  assert sharding.batch_shards(mesh) == shape[0] * shape[1]
  x = jax.device_put(jnp.arange(16.), jax.sharding.NamedSharding(mesh, sharding.BATCH))
  assert x.addressable_shards[0].data.shape == (16 // (shape[0] * shape[1]),)


@pytest.mark.parametrize('size, low, high', [(12, 8, 16), (3, 8, 8), (17, 16, 24)])
def test_a_batch_that_the_mesh_does_not_divide_names_the_nearest_sizes(size, low, high):
  with pytest.raises(UserError, match=f'data.batch_size {size} is not divisible by the 8 shards .*'
                                      f'nearest sizes are {low} and {high}'):
    sharding.check_batch(size, sharding.make_mesh())


def test_a_batch_that_the_mesh_divides_is_fine():
  sharding.check_batch(4, sharding.make_mesh(2, 2, 2))
  with pytest.raises(UserError):
    sharding.check_batch(6, sharding.make_mesh(2, 2, 2))


def test_activations_are_split_inside_a_mesh_and_left_alone_outside():
  x = jnp.arange(16.).reshape(8, 2)
  assert sharding.constrain(x) is x
  mesh = sharding.make_mesh(2, 2, 2)
  with jax.set_mesh(mesh):
    y = jax.jit(lambda x: sharding.constrain(x) + 0.)(x)
    odd = jax.jit(lambda x: sharding.constrain(x) + 0.)(x[:3])
  assert y.sharding.shard_shape(y.shape) == (2, 2)
  np.testing.assert_array_equal(y, x)
  np.testing.assert_array_equal(odd, x[:3])


def test_a_module_without_a_family_is_told():
  assert models.family(models.create_model('bit_r50x1')).rules == models.family('resnet50').rules
  with pytest.raises(UserError, match='Dense belongs to no family of models; list its FAMILY in'):
    models.family(nn.Dense(3))
