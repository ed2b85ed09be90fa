"""Parameter trees: flat paths, layers as a stack or one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import trees


@pytest.fixture
def flat():
  rng = np.random.default_rng(0)
  out = {'cls': rng.normal(size=(1, 1, 4)), 'head/kernel': rng.normal(size=(4, 2))}
  for i in range(12):  # two digits: 10 must not come before 2
    out[f'Transformer/encoderblock_{i}/LayerNorm_0/scale'] = np.full(4, float(i))
    out[f'Transformer/encoderblock_{i}/MlpBlock_0/Dense_0/kernel'] = rng.normal(size=(4, 8))
  return out


def test_stack_and_unstack_are_inverse(flat):
  stacked = trees.stack(flat)
  assert set(stacked) == {'cls', 'head/kernel', 'Transformer/encoderblock/LayerNorm_0/scale',
                          'Transformer/encoderblock/MlpBlock_0/Dense_0/kernel'}
  assert stacked['Transformer/encoderblock/MlpBlock_0/Dense_0/kernel'].shape == (12, 4, 8)
  again = trees.unstack(stacked)
  assert set(again) == set(flat)
  for path, leaf in flat.items():
    np.testing.assert_array_equal(again[path], leaf)


def test_layers_stack_in_the_order_of_their_numbers(flat):
  shuffled = dict(sorted(flat.items()))
  scale = trees.stack(shuffled)['Transformer/encoderblock/LayerNorm_0/scale']
  np.testing.assert_array_equal(scale[:, 0], np.arange(12.))


def test_shapes_stack_as_arrays_do(flat):
  shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in flat.items()}
  stacked = trees.stack(shapes)
  assert {k: (v.shape, v.dtype) for k, v in stacked.items()} == {
      k: (v.shape, v.dtype) for k, v in trees.stack(flat).items()}
  assert trees.unstack(stacked) == shapes


def test_device_arrays_stack_too(flat):
  device = {k: jnp.asarray(v, jnp.float32) for k, v in flat.items()}
  again = trees.unstack(trees.stack(device))
  for path, leaf in device.items():
    np.testing.assert_array_equal(again[path], leaf)


def test_is_stacked_tells_the_two_forms_apart(flat):
  assert not trees.is_stacked(flat)
  assert trees.is_stacked(trees.stack(flat))


def test_stacking_what_is_stacked_changes_nothing(flat):
  stacked = trees.stack(flat)
  assert trees.stack(stacked).keys() == stacked.keys()
  assert trees.unstack(flat).keys() == flat.keys()


def test_flatten_and_unflatten_are_inverse():
  tree = {'a': {'b': {'kernel': 1}, 'c': 2}, 'd': 3}
  assert trees.flatten(tree) == {'a/b/kernel': 1, 'a/c': 2, 'd': 3}
  assert trees.unflatten(trees.flatten(tree)) == tree


def test_path_names_of_dicts_are_those_of_flatten():
  tree = {'a': {'b': {'kernel': 1}, 'c': 2}, 'd': 3}
  names = [trees.path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)]
  assert names == list(trees.flatten(tree))


def test_path_names_pass_through_tuples_and_dataclasses():
  tree = ({'x': 1}, [2])
  names = [trees.path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)]
  assert names == ['0/x', '1/0']


def test_count_is_the_number_of_elements(flat):
  assert trees.count(flat) == sum(v.size for v in flat.values())
  assert trees.count({'scalar': jax.ShapeDtypeStruct((), jnp.float32)}) == 1
