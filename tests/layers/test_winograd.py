"""Convolutions by fewer products: what they compute, and when."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import flops
from vit_jax import sharding
from vit_jax.layers import winograd
from vit_jax.layers.convolution import Conv


def arrays(batch, height, width, channels, features, seed=0):
  """Returns a map and a kernel."""
  random = np.random.RandomState(seed)
  return (jnp.asarray(random.randn(batch, height, width, channels), jnp.float32),
          jnp.asarray(random.randn(3, 3, channels, features) / np.sqrt(9 * channels), jnp.float32))


def assert_same(found, expected):
  """Asserts that two maps are equal up to rounding errors next to the largest number."""
  np.testing.assert_allclose(found, expected, rtol=0., atol=5e-6 * np.abs(expected).max())


def test_transforms_are_the_convolution_of_a_row():
  row, kernel = np.random.RandomState(0).randn(6), np.random.RandomState(1).randn(3)
  found = winograd.OUTPUTS @ ((winograd.KERNEL @ kernel) * (winograd.INPUTS @ row))
  np.testing.assert_allclose(found, np.correlate(row, kernel), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize('large', (0, winograd.LARGE), ids=('row by row', 'whole'))
@pytest.mark.parametrize('size', ((8, 12), (9, 5), (3, 18)), ids=str)
def test_the_same_as_the_definition(monkeypatch, size, large):
  monkeypatch.setattr(winograd, 'LARGE', large or 9 * 32 * 40 * 4)
  x, kernel = arrays(2, *size, 32, 40)
  if not large:  # a map that is large next to the kernel
    x = jnp.tile(x, (8, 4, 4, 1))
    assert x.size > winograd.LARGE >= kernel.size * 4
  assert_same(jax.jit(winograd.by_tiles)(x, kernel), winograd.direct(x, kernel))


@pytest.mark.parametrize('large', (0, winograd.LARGE), ids=('row by row', 'whole'))
def test_each_device_convolves_its_own_images(monkeypatch, large):
  monkeypatch.setattr(winograd, 'LARGE', large or 9 * 32 * 32 * 4)
  x, kernel = arrays(8, 40, 44, 32, 32)
  expected = winograd.direct(x, kernel)
  images = jax.sharding.NamedSharding(sharding.make_mesh(data=8), jax.sharding.PartitionSpec('data'))
  found = jax.jit(winograd.by_tiles)(jax.device_put(x, images), kernel)
  assert found.sharding.is_equivalent_to(images, found.ndim)
  program = jax.jit(winograd.by_tiles).lower(jax.device_put(x, images), kernel).compile().as_text()
  assert not re.search('all-gather|all-reduce|all-to-all|collective-permute', program)
  assert_same(found, expected)


def test_gradient_is_that_of_the_definition():
  x, kernel = arrays(2, 7, 10, 8, 12)
  weights = jnp.asarray(np.random.RandomState(2).randn(2, 7, 10, 12), jnp.float32)

  def gradients(function):
    return jax.jit(jax.grad(lambda *x: (function(*x) * weights).sum(), (0, 1)))(x, kernel)

  jax.tree.map(np.testing.assert_array_equal, gradients(winograd.by_tiles), gradients(winograd.direct))


@pytest.mark.parametrize('fields, taken', (
    (dict(), True), (dict(padding='same'), True), (dict(stride=2), False), (dict(dilation=2), False),
    (dict(kernel_size=5), False), (dict(features=16), False), (dict(dtype=jnp.bfloat16), False)),
    ids=str)
def test_layer_computes_the_same_with_and_without(monkeypatch, fields, taken):
  x, _ = arrays(3, 13, 14, 32, 1)
  layer = Conv(**{**dict(features=32, kernel_size=3, standardize='vit'), **fields})
  variables = layer.init(jax.random.key(0), x)
  assert ('cond' in str(jax.make_jaxpr(layer.apply)(variables, x))) == taken
  found = jax.jit(layer.apply)(variables, x)
  monkeypatch.setattr(winograd, 'pays', lambda x, kernel: False)
  plain = jax.jit(lambda v, x: layer.apply(v, x))(variables, x)
  assert_same(found, plain)
  assert not taken or not np.array_equal(found, plain)


def test_multiply_adds_are_those_of_the_definition():
  assert flops.multiply_adds(Conv(32, 3), (32, 32), 32) == 32 * 32 * 9 * 32 * 32
