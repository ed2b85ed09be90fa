"""Neighborhood attention equals its definition, however it is cut, and so does its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from vit_jax.errors import UserError
from vit_jax.layers.neighborhood import (NeighborhoodAttention, Plan, Tiling, attend, begin, tiling,
                                         window)
from vit_jax.models import flops


def naive(query, key, value, bias, kernel, dilation=1):
  """Loops over the entries of one map: query, key, value `[h, w, heads, c]`, numpy."""
  height, width, heads, _ = query.shape
  out = np.zeros(value.shape)
  def window(i, length):
    at, cls = divmod(i, dilation)
    first = min(max(at - kernel // 2, 0), (length - cls - 1) // dilation + 1 - kernel)
    return [(first + n) * dilation + cls for n in range(kernel)]
  for y in range(height):
    for x in range(width):
      places = [(i, j) for i in window(y, height) for j in window(x, width)]
      for h in range(heads):
        scores = np.array([query[y, x, h] @ key[i, j, h] + bias[
            h, (i - y) // dilation + kernel - 1, (j - x) // dilation + kernel - 1] for i, j in places])
        weights = np.exp(scores - scores.max())
        out[y, x, h] = sum(w * value[i, j, h] for w, (i, j) in zip(weights / weights.sum(), places))
  return out


def layer(x, kernel, dilation, heads=2):
  """Returns a layer, and parameters that are all alive."""
  model = NeighborhoodAttention(heads, kernel, dilation)
  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  rng = np.random.default_rng(0)
  return model, jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), jnp.float32), shapes)


def of_definition(state, x, kernel, dilation, heads=2):
  """Returns what the layer must give for one image `[h, w, c]`; small maps are padded."""
  p = jax.tree.map(lambda v: np.asarray(v, np.float64), state['params'])
  size, least = x.shape[:2], kernel * dilation
  x = np.pad(np.asarray(x, np.float64), (*((0, max(least - n, 0)) for n in size), (0, 0)))
  query, key, value = ((x @ p[n]['kernel'] + p[n]['bias']).reshape(*x.shape[:2], heads, -1)
                       for n in ('query', 'key', 'value'))
  out = naive(query * query.shape[-1] ** -.5, key, value, p['relative_bias'], kernel, dilation)
  return (out.reshape(x.shape) @ p['out']['kernel'] + p['out']['bias'])[:size[0], :size[1]]


CASES = [  # kernel, dilation, (height, width)
    (3, 1, (9, 16)), (3, 2, (13, 15)), (3, 4, (15, 26)), (5, 1, (11, 23)), (5, 3, (20, 7)),
    (7, 1, (7, 30)), (7, 1, (3, 5)), (7, 2, (15, 9)), (3, 1, (1, 1))]


@pytest.mark.parametrize('kernel, dilation, size', CASES)
def test_the_layer_is_its_definition(kernel, dilation, size, assert_close):
  x = tiny.images(size, channels=6)
  model, state = layer(x, kernel, dilation)
  got, kept = tiny.jit(lambda s, x: model.apply(s, x, mutable=['intermediates']))(state, x)
  want = np.stack([of_definition(state, image, kernel, dilation) for image in x])
  np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())
  np.testing.assert_array_equal(tiny.jit(model.apply)(state, x), got)  # what is sown changes nothing
  weights = kept['intermediates']['attention'][0]
  assert weights.shape == (2, 2, *size, kernel ** 2)
  np.testing.assert_allclose(weights.sum(-1), 1., atol=1e-5)


def gathered(query, key, value, bias, kernel):
  """The same for `[n, heads, h, w, c]`, in a form that JAX differentiates."""
  first, steps = zip(*([x[0] for x in window(n, n, kernel)] for n in query.shape[2:4]))
  at = lambda x, rows, columns: x[..., rows[:, None, :, None], columns[None, :, None, :], :]
  scores = jnp.einsum('nhyxc,nhyxijc->nhyxij', query, at(key, *first))
  scores += at(bias[..., None], *steps)[..., 0]
  weights = jax.nn.softmax(scores.reshape(*scores.shape[:4], -1)).reshape(scores.shape)
  return jnp.einsum('nhyxij,nhyxijc->nhyxc', weights, at(value, *first))


@pytest.mark.parametrize('kernel, size', [(3, (8, 13)), (5, (23, 11)), (7, (30, 17)), (7, (7, 19))])
def test_tiles_and_the_dense_form_and_their_gradients_are_those_of_the_definition(kernel, size):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  query, key, value, gradient = (draw(2, 2, *size, 3) for _ in range(4))
  bias = draw(2, 2 * kernel - 1, 2 * kernel - 1)
  sizes = [jnp.array([n]) for n in size]
  dense = Plan(kernel, *(Tiling(n, 1, 0, n) for n in size))
  radius = kernel // 2
  small = Plan(kernel, *(Tiling(kernel, -(-n // kernel), 2 * radius, kernel + 3 * radius) for n in size))
  best = Plan(kernel, *(tiling(n, kernel, (n,)) for n in size))
  run = lambda f: tiny.jit(lambda *args: (lambda out, back: (out, *back(gradient)))(*jax.vjp(f, *args)))(
      query, key, value, bias)
  want = run(lambda *args: gathered(*args, kernel))
  for plan in (dense, small, best):
    got = run(lambda *args, p=plan: attend(p, *args, *sizes))
    for ours, theirs in zip(got, want, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize('kernel', [3, 7, 11])
def test_every_window_lies_within_the_keys_of_its_tile(kernel):
  for length in range(kernel, 6 * kernel):
    for known in (True, False):
      cut = tiling(length, kernel, (length,) if known else None)
      assert cut.size * cut.count >= length and (cut.count == 1) == (length <= 2 * kernel)
      for own in (length,) if known else range(kernel, length + 1):
        first = np.asarray(begin(np.arange(own), own, kernel))
        start = np.arange(own) // cut.size * cut.size - cut.before
        assert (first >= start).all() and (first + kernel <= start + cut.span).all(), (length, own)


@pytest.mark.parametrize('kernel, dilation', [(3, 1), (3, 3), (7, 1), (7, 2)])
def test_an_image_on_a_canvas_has_its_own_border(kernel, dilation):
  """Also where it is smaller than the neighborhood, and beside an image that fills the canvas."""
  rng, canvas = np.random.default_rng(0), (31, 26)
  x = tiny.images(canvas, channels=6)
  model, state = layer(x, kernel, dilation)
  run, alone = tiny.jit(model.apply), tiny.jit(model.apply)
  for size in ((17, 22), (4, 26), (30, 5)):
    valid = np.ones((2, *canvas), bool)
    valid[1, size[0]:], valid[1, :, size[1]:] = False, False
    padded = jnp.where(valid[..., None], x, rng.normal(size=x.shape))
    got = run(state, padded, valid)[1, :size[0], :size[1]]
    want = alone(state, x[1:, :size[0], :size[1]])[0]
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


def test_memory_is_linear_in_the_map():
  def temporary(height):
    x = jax.ShapeDtypeStruct((1, height, 56, 32), jnp.float32)
    model = NeighborhoodAttention(2)
    state = jax.eval_shape(model.init, jax.random.key(0), x)
    loss = lambda s, x: model.apply(s, x).sum()
    return tiny.jit(jax.grad(loss)).lower(state, x).compile().memory_analysis().temp_size_in_bytes
  small, large = temporary(112), temporary(8 * 112)
  assert large < 10 * small  # and not 64 times


def test_the_definition_is_what_counts():
  model = NeighborhoodAttention(2)
  found = flops.multiply_adds(model, (29, 30), 8)
  assert found == 29 * 30 * (4 * 8 * 8 + 2 * 49 * 8)


@pytest.mark.parametrize('fields, said', [
    (dict(kernel_size=4), 'odd number'), (dict(dilation=0), 'dilations 1 or more'),
    (dict(num_heads=4), '4 heads do not divide the 6 channels')])
def test_what_cannot_be_is_said(fields, said):
  model = NeighborhoodAttention(**{'num_heads': 2, **fields})
  with pytest.raises(UserError, match=said):
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 6)))


def test_without_biases():
  x = tiny.images((9, 9), channels=6)
  model = NeighborhoodAttention(2, 3, qkv_bias=False, qk_scale=1., relative_bias=False)
  state = model.init(jax.random.key(0), x)
  assert set(state['params']['query']) == {'kernel'} and 'relative_bias' not in state['params']
  full = {'params': {**state['params'], 'relative_bias': jnp.zeros((2, 5, 5))}}
  for name in ('query', 'key', 'value'):
    full['params'][name] = {**state['params'][name], 'bias': jnp.zeros(6)}
  np.testing.assert_allclose(
      model.apply(state, x), NeighborhoodAttention(2, 3, qk_scale=1.).apply(full, x), atol=1e-6)
