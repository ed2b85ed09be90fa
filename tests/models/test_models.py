"""Every named model keeps the contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from vit_jax import models, trees, weights
from vit_jax.errors import UserError
from vit_jax.models.features import Features

# Of the authors' code at 224 pixels with 1000 classes; the last four follow from the closed form.
PARAMETERS = dict(
    vit_ti16=5_717_416, vit_s16=22_050_664, vit_s32=22_878_952, vit_b16=86_567_656,
    vit_b32=88_224_232, vit_b8=86_576_872, vit_l16=304_326_632, vit_l32=306_535_400,
    vit_h14=632_045_800, vit_m32=39_942_120, vit_m16=38_837_736, vit_g14=1_012_611_432,
    vit_G14=1_844_440_680)

# What a small model of the same family has; nothing of the family's own shape is lost.
SHRUNKEN = dict(width=16, depth=1, num_heads=2, mlp_dim=24, num_classes=3)


def test_every_model_has_its_count_here():
  assert set(models.list_models()) == set(PARAMETERS)


@pytest.mark.parametrize('name', models.list_models())
def test_named_model(name):
  variant = models.variant(name)
  assert variant.source and variant.parameters == PARAMETERS[name]
  model = models.create_model(name, scan=True)  # traced once instead of depth times
  shapes = weights.init_shapes(model, variant.image_size, 3)
  assert trees.count(shapes) == variant.parameters
  _check_features(name)
  _check_gradients(models.create_model(name, **SHRUNKEN))


def _check_features(name):
  """Features at the model's own size, and at one that is not square."""
  model = models.create_model(name, num_classes=None, scan=True)
  for grid in ((14, 14), (3, 5)):
    height, width = (n * p for n, p in zip(grid, model.patch, strict=True))
    image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    got, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert isinstance(got, Features)
    assert [m.shape for m in got.maps] == [(2, *grid, model.width)]
    assert got.tokens.shape == (2, model.num_prefix, model.width)
    for step, m in zip(got.strides, got.maps, strict=True):
      assert (m.shape[1] * step[0], m.shape[2] * step[1]) == (height, width)


@functools.cache  # shrunken, many differ by nothing
def _check_gradients(model):
  """A shrunken one computes finite logits and gradients that reach every parameter."""
  size = (model.patch[0], 2 * model.patch[1])
  params, image = tiny.params(model, size), tiny.images(size, batch=2)
  def loss(params):
    logits = model.apply({'params': params}, image, train=True)
    return jnp.square(logits - jnp.arange(3.)).sum(), logits
  (_, logits), grads = tiny.jit(jax.value_and_grad(loss, has_aux=True))(params)
  assert logits.shape == (2, 3) and np.isfinite(logits).all()
  for path, grad in trees.flatten(grads).items():
    assert np.isfinite(grad).all(), path
    # Softmax does not change when the same is added to all scores of a query.
    assert np.abs(grad).max() > 0 or path.endswith('key/bias'), path


@pytest.mark.parametrize('name', ['vit_ti16', 'vit_l32'])
def test_one_by_one_and_stacked_models_have_equal_counts(name):
  count = lambda scan: trees.count(weights.init_shapes(
      models.create_model(name, scan=scan), (224, 224), 3))
  assert count(False) == count(True) == PARAMETERS[name]


@pytest.mark.parametrize('name', models.list_models('vit_*'))
def test_counts_follow_from_the_table_of_the_paper(name):
  model = models.create_model(name)
  d, m, p, n = model.width, model.mlp_dim, model.patch_size, (224 // model.patch_size) ** 2
  layer = 4 * (d * d + d) + 2 * d * m + m + d + 4 * d
  total = p * p * 3 * d + d + d + (n + 1) * d + model.depth * layer + 2 * d + d * 1000 + 1000
  assert total == PARAMETERS[name]


def test_names_are_listed_by_pattern():
  assert models.list_models('vit_b*') == ['vit_b16', 'vit_b32', 'vit_b8']
  assert models.list_models('nothing*') == []


def test_overrides_become_fields():
  model = models.create_model('vit_b16', num_classes=7, patch_size=[8, 4], dtype='bfloat16')
  assert (model.num_classes, model.patch, model.dtype) == (7, (8, 4), jnp.bfloat16)
  assert model.width == 768
  hash(model)  # what comes from JSON as a list too


@pytest.mark.parametrize('name, fields, said', [
    ('vit_b61', {}, "unknown model 'vit_b61'; did you mean 'vit_b16'"),
    ('vit_b16', dict(num_clases=3), "model 'vit_b16': 'num_clases'; did you mean 'num_classes"),
    ('vit_b16', dict(parent=None), "unknown field of model 'vit_b16': 'parent'"),
    ('vit_b16', dict(dtype='int8'), "dtype 'int8' is not one of float32, bfloat16"),
])
def test_unknown_names_and_fields(name, fields, said):
  with pytest.raises(UserError, match=said):
    models.create_model(name, **fields)


def test_the_face_of_the_package_is_this():
  import vit_jax
  assert vit_jax.create_model('vit_ti16') == models.create_model('vit_ti16')
  assert vit_jax.list_models() == models.list_models()
  assert vit_jax.load is weights.load and vit_jax.UserError is UserError
  assert {'load', 'create_model', 'list_models'} <= set(dir(vit_jax))
  with pytest.raises(AttributeError, match='no attribute'):
    vit_jax.nothing  # noqa: B018
