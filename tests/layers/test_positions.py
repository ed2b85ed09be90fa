"""Position tables: resampling against scipy, sin-cos against its formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from vit_jax.errors import UserError
from vit_jax.layers import positions


def table(height, width, depth=3):
  return np.random.default_rng(0).normal(size=(height, width, depth))


@pytest.mark.parametrize('old, new', [(14, 24), (14, 7), (2, 5), (24, 14), (3, 4), (5, 2)])
def test_resampling_a_square_equals_the_authors_zoom(old, new):
  source = table(old, old)
  want = scipy.ndimage.zoom(source, (new / old, new / old, 1), order=1)
  got = positions.corner_aligned_linear(source, (new, new))
  np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize('old, new', [((14, 14), (8, 18)), ((14, 14), (16, 32)), ((3, 7), (7, 3)),
                                      ((4, 6), (6, 4)), ((2, 9), (5, 1))])
def test_resampling_goes_per_axis(old, new):
  source = table(*old)
  interpolate = lambda x, size: np.stack([
      np.interp(np.linspace(0, x.shape[0] - 1, size) if size > 1 else [0.],
                np.arange(x.shape[0]), column)
      for column in x.reshape(x.shape[0], -1).T], 1).reshape(size, *x.shape[1:])
  want = interpolate(source, new[0])
  want = interpolate(want.swapaxes(0, 1), new[1]).swapaxes(0, 1)
  got = positions.corner_aligned_linear(source, new)
  assert got.shape == (*new, 3)
  np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize('grid', [(1, 1), (1, 5), (4, 6)])
def test_the_same_grid_is_returned_bit_equal(grid):
  source = table(*grid)
  np.testing.assert_array_equal(positions.corner_aligned_linear(source, grid), source)


def test_one_entry_spreads_evenly():
  got = positions.corner_aligned_linear(table(1, 1), (3, 2))
  np.testing.assert_array_equal(got, np.broadcast_to(table(1, 1), (3, 2, 3)))


@pytest.mark.parametrize('new', [(9, 4), (3, 3), (30, 17)])
def test_ramps_stay_ramps_and_corners_stay_corners(new):
  def ramp(height, width):
    y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    return 2. * y - 3. * x + .5
  got = positions.corner_aligned_linear(ramp(6, 7), new)
  np.testing.assert_allclose(got, ramp(*new), atol=1e-12)


@pytest.mark.parametrize('rule', positions.RESAMPLING)
@pytest.mark.parametrize('grid', [(1, 1), (1, 5), (4, 6)])
def test_every_rule_returns_the_same_grid_bit_equal(rule, grid):
  np.testing.assert_array_equal(positions.RESAMPLING[rule](table(*grid), grid), table(*grid))


@pytest.mark.parametrize('rule', positions.RESAMPLING)
@pytest.mark.parametrize('old, new', [((3, 7), (7, 3)), ((1, 2), (4, 5)), ((9, 5), (2, 11))])
def test_every_rule_keeps_constants_and_turns_with_the_table(rule, old, new):
  resize = positions.RESAMPLING[rule]
  np.testing.assert_allclose(resize(np.full((*old, 2), 3.), new), np.full((*new, 2), 3.), atol=1e-12)
  turned = resize(table(*old).swapaxes(0, 1), new[::-1]).swapaxes(0, 1)
  np.testing.assert_allclose(turned, resize(table(*old), new), atol=1e-12)


@pytest.mark.parametrize('rule, method, antialias', [('bilinear', 'linear', False),
                                                     ('antialiased_bicubic', 'cubic', True)])
@pytest.mark.parametrize('old, new', [((4, 6), (9, 3)), ((7, 5), (3, 11)), ((14, 14), (24, 10))])
def test_half_pixel_rules_equal_those_of_jax(rule, method, antialias, old, new):
  want = jax.image.resize(table(*old), (*new, 3), method, antialias=antialias)
  np.testing.assert_allclose(positions.RESAMPLING[rule](table(*old), new), want, atol=1e-5)


def test_bicubic_has_the_published_slope():
  impulse = np.zeros((1, 5, 1))
  impulse[0, 2] = 1.
  got = positions.bicubic(impulse, (1, 15))[0, :, 0]
  a, cubic = -.75, lambda x, a: (a + 2) * x**3 - (a + 3) * x**2 + 1
  far = lambda x, a: a * (x**3 - 5 * x**2 + 8 * x - 4)
  want = [far(5 / 3, a), far(4 / 3, a), 0., cubic(2 / 3, a), cubic(1 / 3, a), 1.]
  np.testing.assert_allclose(got[2:8], want, atol=1e-12)


def test_a_table_of_biases_is_resampled_with_its_heads_as_depth():
  biases = table(5, 7).reshape(1, 35, 3)
  got = positions.resample(biases, (5, 7), (9, 3), 0, 'bicubic')
  np.testing.assert_allclose(got[0].reshape(9, 3, 3), positions.bicubic(table(5, 7), (9, 3)), atol=1e-12)


def test_an_unknown_rule_names_the_nearest():
  with pytest.raises(UserError, match="method 'bicubik'; did you mean 'bicubic'"):
    positions.resample(np.zeros((1, 4, 2)), (2, 2), (3, 3), 0, 'bicubik')


@pytest.mark.parametrize('num_prefix', [0, 1, 2])
def test_entries_of_class_tokens_are_kept_and_the_rest_is_resampled(num_prefix):
  source = np.random.default_rng(0).normal(size=(1, num_prefix + 12, 5)).astype(np.float32)
  got = positions.resample(source, (3, 4), (5, 2), num_prefix)
  assert got.shape == (1, num_prefix + 10, 5) and got.dtype == np.float32
  np.testing.assert_array_equal(got[:, :num_prefix], source[:, :num_prefix])
  want = positions.corner_aligned_linear(source[0, num_prefix:].reshape(3, 4, 5), (5, 2))
  np.testing.assert_allclose(got[0, num_prefix:], want.reshape(10, 5), atol=1e-6)


@pytest.mark.parametrize('grid, width', [((3, 5), 16), ((1, 1), 4), ((4, 2), 8)])
def test_sincos_is_its_formula(grid, width):
  got = positions.sincos_2d(grid, width)
  quarter = width // 4
  assert got.shape == (1, grid[0] * grid[1], width) and got.dtype == np.float32
  for y in range(grid[0]):
    for x in range(grid[1]):
      omega = [10_000. ** -(k / max(quarter - 1, 1)) for k in range(quarter)]
      want = ([math.sin(x * w) for w in omega] + [math.cos(x * w) for w in omega]
              + [math.sin(y * w) for w in omega] + [math.cos(y * w) for w in omega])
      np.testing.assert_allclose(got[0, y * grid[1] + x], want, atol=1e-6)


def test_sincos_needs_a_width_that_four_divides():
  with pytest.raises(UserError, match='a width that 4 divides, not 18'):
    positions.sincos_2d((2, 2), 18)


def test_square_grids():
  assert positions.square_grid(196) == (14, 14)
  with pytest.raises(UserError, match='195 patches .*not square; give the image size'):
    positions.square_grid(195)


def test_a_learned_table_is_added_to_every_example():
  tokens = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 4)), jnp.float32)
  added = jnp.asarray(np.random.default_rng(1).normal(size=(1, 6, 4)), jnp.float32)
  got = positions.LearnedPositions().apply({'params': {'pos_embedding': added}}, tokens)
  np.testing.assert_allclose(got, tokens + added)


def test_a_learned_table_starts_small():
  shapes = positions.LearnedPositions().init(jax.random.key(0), jnp.zeros((1, 400, 64)))
  drawn = shapes['params']['pos_embedding']
  assert drawn.shape == (1, 400, 64)
  np.testing.assert_allclose(drawn.std(), .02, rtol=.02)


def test_a_table_of_another_size_names_both_and_the_remedy():
  variables = {'params': {'pos_embedding': jnp.zeros((1, 5, 4))}}
  with pytest.raises(UserError, match='holds 5 entries, the image gives 10 .*image_size'):
    positions.LearnedPositions().apply(variables, jnp.zeros((2, 10, 4)))
