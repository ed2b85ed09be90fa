"""Depthwise convolution: the form for CPUs is the definition, gradients included."""

import jax
import numpy as np
import pytest

from vit_jax.layers import depthwise


@pytest.mark.parametrize('size', [(9, 12), (3, 2), (1, 1)])
@pytest.mark.parametrize('kernel_size', [3, 7])
def test_shifted_copies_are_the_convolution(size, kernel_size):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 5)).astype(np.float32)
  kernel = rng.normal(size=(kernel_size, kernel_size, 5)).astype(np.float32)
  cotangent = rng.normal(size=x.shape).astype(np.float32)
  half = ((kernel_size // 2,) * 2,) * 2
  want, pull = jax.vjp(lambda *of: depthwise._grouped(*of, 1, half, 1), x, kernel)
  got, ours = jax.vjp(depthwise.depthwise, x, kernel)
  np.testing.assert_allclose(got, want, atol=1e-5)
  for one, other in zip(ours(cotangent), pull(cotangent)):
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize('kernel_size', [3, 7])
def test_the_form_of_other_platforms_is_the_same(kernel_size):
  rng = np.random.default_rng(0)
  x, gradient = rng.normal(size=(2, 2, 6, 5, 4)).astype(np.float32)
  kernel = rng.normal(size=(kernel_size, kernel_size, 4)).astype(np.float32)
  plain = 1, ((kernel_size // 2,) * 2,) * 2, 1
  np.testing.assert_allclose(depthwise._kernel_grouped(x, kernel, gradient, *plain),
                             depthwise._kernel_by_rows(x, kernel, gradient, *plain), atol=1e-4)


@pytest.mark.parametrize('size', [(9, 12), (8, 7), (3, 2), (1, 1)])
@pytest.mark.parametrize('stride, dilation, around', [
    *((stride, 1, around) for stride in (2, 3) for around in (
        ((2, 2), (2, 2)), ((2, 2), (1, 3)), ((4, 0), (2, 4)))),
    *((stride, 2, around) for stride in (1, 2) for around in (
        ((4, 4), (4, 4)), ((4, 5), (6, 3)), ((8, 0), (5, 8))))])
def test_strides_dilations_and_borders_are_those_of_the_convolution(size, stride, dilation, around):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 4)).astype(np.float32)
  kernel = rng.normal(size=(5, 5, 4)).astype(np.float32)
  want, pull = jax.vjp(lambda *of: depthwise._grouped(*of, stride, around, dilation), x, kernel)
  got, ours = jax.vjp(lambda *of: depthwise.depthwise(*of, stride, around, dilation), x, kernel)
  np.testing.assert_allclose(got, want, atol=1e-5)
  cotangent = rng.normal(size=got.shape).astype(np.float32)
  for one, other in zip(ours(cotangent), pull(cotangent)):
    np.testing.assert_allclose(one, other, atol=1e-4)
