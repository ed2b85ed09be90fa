"""ResNets: torchvision's numbers, dilation, and what batch norm keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.datasets

from tests.conftest import golden_files
from tests.goldens import base, detr_models
from tests.models import tiny
from vit_jax import models, sharding, trees, weights
from vit_jax.optim import optimizers
from vit_jax.training import step
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.tasks.classification import Classification
from vit_jax.weights.families.resnet import TORCHVISION
from vit_jax.weights.table import to_ours


def resnet(name='resnet50', **overrides):
  return models.create_model(name, **{**dict(depths=(1, 2), width=8, num_classes=5), **overrides})


@pytest.mark.parametrize('path', golden_files('F1_detr_*'))
def test_the_backbones_of_detr_are_frozen_resnets(path):
  golden, prefix = base.read(path), 'backbone.0.body.'
  arrays = {k.partition(prefix)[2]: v for k, v in golden.weights.items() if prefix in k}
  options = golden.meta['kwargs']
  model = resnet(golden.meta['args']['backbone'], depths=tuple(options['resnet_layers']), norm='frozen',
                 num_classes=None,
                 output_stride=16 if options.get('dilation') else 32)
  variables = weights.unflatten(to_ours(TORCHVISION, arrays))
  features = tiny.apply(model, variables, detr_models.batch(golden)[0])
  wanted = max(k for k in golden.outputs if k.startswith('backbone_'))
  np.testing.assert_allclose(features.maps[-1].transpose(0, 3, 1, 2), golden.outputs[wanted],
                             atol=golden.tolerances[wanted]['suggested_atol'])


@pytest.mark.parametrize('name', ['resnet18', 'resnet50'])
def test_dilation_computes_the_strided_map_and_what_lies_between(name):
  options = dict(depths=(1, 1, 2, 2), num_classes=None, bottleneck=name == 'resnet50')
  strided, dilated = (resnet(name, output_stride=s, **options) for s in (32, 8))
  variables, image = tiny.variables(strided, (64, 96)), tiny.images((64, 96))
  want, got = (tiny.apply(m, variables, image) for m in (strided, dilated))
  assert [s for s, _ in got.strides] == [4, 8, 8, 8]
  for fine, coarse, every in zip(got.maps, want.maps, (1, 1, 2, 4), strict=True):
    np.testing.assert_allclose(fine[:, ::every, ::every], coarse, atol=1e-5 * coarse.max())


def test_batch_norm_keeps_a_running_average_of_the_batch():
  model = resnet(depths=(1,))
  variables, image = tiny.variables(model, (16, 16)), tiny.images((16, 16))
  _, found = model.apply(variables, image, train=True, mutable=['batch_stats', 'intermediates'],
                         capture_intermediates=True)
  root = np.asarray(found['intermediates']['conv_root']['__call__'][0], np.float64).reshape(-1, 8)
  old, new = variables['batch_stats']['bn_root'], found['batch_stats']['bn_root']
  np.testing.assert_allclose(new['mean'], .9 * old['mean'] + .1 * root.mean(0), atol=1e-5)
  np.testing.assert_allclose(new['var'], .9 * old['var'] + .1 * root.var(0, ddof=1), atol=1e-5)


def test_frozen_batch_norm_changes_nothing_and_has_no_gradient():
  model = resnet(norm='frozen')
  variables, image = tiny.variables(model, (16, 16)), tiny.images((16, 16))
  state = {'batch_stats': variables['batch_stats']}
  def loss(params):
    logits, changed = model.apply({'params': params, **state}, image, train=True,
                                  mutable=['batch_stats'])
    return jnp.square(logits).sum(), changed
  grads, changed = jax.grad(loss, has_aux=True)(variables['params'])
  jax.tree.map(np.testing.assert_array_equal, dict(changed), state)
  for path, grad in trees.flatten(grads).items():
    assert bool(jnp.any(grad)) != ('bn' in path), path


@pytest.mark.parametrize('fields, said', [
    (dict(norm='layer'), "unknown norm 'layer'; choose one of: batch, frozen, group"),
    (dict(output_stride=4), 'output_stride must be 8, 16 or 32, not 4'),
    (dict(norm='group', width=12), '32 groups do not divide the 12 channels')])
def test_what_does_not_fit_is_told(fields, said):
  with pytest.raises(UserError, match=said):
    jax.eval_shape(resnet(**fields).init, jax.random.key(0), tiny.images((16, 16)))


@pytest.fixture(scope='module')
def digits():
  """Returns a batch of 16 digits."""
  found = sklearn.datasets.load_digits()
  image = np.repeat(np.uint8(found.images[:16] * 15.9), 2, 1).repeat(2, 2)[..., None]
  return dict(image=image, label=np.int32(found.target[:16]), mask=np.ones(16, np.float32))


def two_steps(batch, model, mesh):
  """Returns the state after two steps on a mesh, and the loss of each."""
  task = Classification(model, Info('digits', tuple('0123456789'), 1, (16, 16)))
  with jax.set_mesh(mesh):
    optimizer = lambda shapes: optimizers.make(shapes, optax.constant_schedule(.01), name='sgd')
    state, optimizer, _ = step.create_state(
        task, optimizer, batch, mesh, task.family.rules, 0, ema=False)
    train_step = step.make(task, optimizer, optax.constant_schedule(.01), state, seed=0)
    where = jax.sharding.NamedSharding(mesh, sharding.BATCH)
    losses = []
    for _ in range(2):
      placed = {k: jax.device_put(v, where) for k, v in batch.items()}
      state, sums = train_step(state, placed)
      losses.append(float(sums['loss'][0] / sums['loss'][1]))
  return jax.device_get(state), losses


def test_batch_statistics_train_and_are_those_of_the_global_batch(digits):
  model = resnet(num_classes=10)
  one, losses = two_steps(digits, model, sharding.make_mesh(1))
  many, same = two_steps(digits, model, sharding.make_mesh(4, 2, 1))
  assert np.isfinite(losses).all() and losses[1] < losses[0]
  np.testing.assert_allclose(same, losses, atol=1e-5)
  for a, b in zip(jax.tree.leaves((one.params, one.model_state)),
                  jax.tree.leaves((many.params, many.model_state)), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-4)
  assert all(np.any(v != (1. if k.endswith('var') else 0.))
             for k, v in trees.flatten(one.model_state).items())
