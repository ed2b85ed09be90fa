"""NAT and DiNAT beyond what every named model is tested for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from vit_jax import models, sharding, trees, weights
from vit_jax.errors import UserError
from vit_jax.optim import layer_decay

SMALL = dict(width=16, depths=(2, 1), num_heads=(2, 4), kernel_size=3, num_classes=5)


def test_every_other_layer_is_dilated():
  dilations = models.create_model('dinat_mini').dilations
  assert dilations == ((1, 8, 1), (1, 4, 1, 4), (1, 2) * 3, (1,) * 5)
  assert models.create_model('dinat_large_384').dilations[2] == (1, 3) * 9
  assert models.create_model('nat_mini').dilations == ()


def test_a_dilation_of_one_is_none():
  plain, ones = (models.create_model('nat_mini', **SMALL, dilations=d) for d in ((), ((1, 1), (1,))))
  state, image = tiny.params(plain, (24, 20)), tiny.images((24, 20))
  np.testing.assert_array_equal(tiny.apply(plain, state, image), tiny.apply(ones, state, image))


def test_layers_learn_at_rates_in_their_order():
  params = weights.init_shapes(models.create_model('nat_small', **SMALL), (32, 32), 3)
  found = layer_decay.scales(params, .5, models.family('nat_small').depth)
  order = ['tokenizer/conv_0/bias', 'level0/layer0/gamma_1', 'level0/layer1/mlp/Dense_0/bias',
           'level1/downsample/norm/scale', 'level1/layer0/attention/relative_bias', 'head/kernel']
  assert [found[path] for path in order] == [[.5 ** n] for n in (5, 4, 3, 2, 1, 0)]
  assert found['norm/scale'] == [1.]


def test_split_over_devices_it_computes_the_same():
  model = models.create_model('nat_mini', **SMALL)
  state, image = tiny.params(model, (16, 16)), tiny.images((16, 16), batch=4)
  loss = lambda params: jnp.square(model.apply({'params': params}, image)).mean()
  want = tiny.jit(jax.value_and_grad(loss))(state)
  mesh = sharding.make_mesh(2, 2, 2)
  where, told = sharding.shardings({'params': state}, models.family(model).rules, mesh)
  placed = jax.device_put(state, where['params'])
  spec = placed['level0']['layer0']['attention']['query']['kernel'].sharding.spec
  assert tuple(spec) == ('fsdp', 'model') and tuple(placed['head']['kernel'].sharding.spec)[0] == 'fsdp'
  with jax.set_mesh(mesh):
    got = tiny.jit(jax.value_and_grad(loss))(placed)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * max(np.abs(b).max(), 1.))


def test_branches_are_dropped_in_training_alone():
  model = models.create_model('nat_mini', **SMALL, drop_path_rate=.5, dropout_rate=.1)
  state, image = {'params': tiny.params(model, (16, 16))}, tiny.images((16, 16))
  run = lambda seed, train: model.apply(state, image, train, rngs=dict(dropout=jax.random.key(seed)))
  assert np.abs(run(0, True) - run(1, True)).max() > 1e-3
  np.testing.assert_array_equal(run(0, False), run(1, False))


def test_half_precision_is_near():
  model = models.create_model('dinat_mini', **SMALL, dilations=((1, 2), (1,)))
  state, image = tiny.params(model, (24, 20)), tiny.images((24, 20))
  state = jax.tree.map(lambda x: .3 * x if x.ndim > 1 else x, state)
  want, got = (tiny.apply(m, state, image) for m in (model, model.clone(dtype=jnp.bfloat16)))
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, atol=.05 * np.abs(want).max())


def test_intermediates_are_there_when_asked_for():
  model = models.create_model('dinat_mini', **SMALL, dilations=((1, 2), (1,)))
  state, image = {'params': tiny.params(model, (24, 20))}, tiny.images((24, 20))
  logits, kept = model.apply(state, image, mutable=['intermediates'])
  found = trees.flatten(kept['intermediates'])
  assert found['level0/layer1/attention/attention'][0].shape == (2, 2, 6, 5, 9)
  assert found['representation'][0].shape == (2, 32)
  np.testing.assert_allclose(logits, model.apply(state, image), atol=1e-4)


@pytest.mark.parametrize('fields, said', [
    (dict(num_heads=(2,)), 'one number for each level'),
    (dict(dilations=((1,), (1,))), r'one number for each layer: \(2, 1\) in the levels'),
    (dict(kernel_size=4), 'odd number'), (dict(num_heads=(3, 4)), '3 heads do not divide the 16'),
    (dict(dilations=((1, 0), (1,))), 'dilations 1 or more')])
def test_fields_that_do_not_fit_are_refused(fields, said):
  model = models.create_model('nat_mini', **{**SMALL, **fields})
  with pytest.raises(UserError, match=said):
    weights.init_shapes(model, (32, 32), 3)
