"""Fitting weights to a model of another resolution, head or number of channels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from tests.models import tiny
from vit_jax import models, trees, weights
from vit_jax.errors import UserError
from vit_jax.layers import positions
from vit_jax.models.family import Grid
from vit_jax.weights import POSITIONS, Source
from vit_jax.weights.families.google import GOOGLE
from vit_jax.weights.fit import adapt_channels
from vit_jax.weights.positions import guess_grid, resize_kernel


def grid_of(model, size):
  return models.family(model).grid(model, size)


def fitted(source_model, source_size, model, size, channels=(3, 3), old=None, **options):
  """Returns (parameters of the source, arrays fitted to the model, report)."""
  params = tiny.params(source_model, source_size, channels[0])
  shapes = trees.flatten(weights.init_shapes(model, size, channels[1]))
  table = dataclasses.replace(GOOGLE, class_position=source_model.class_position)
  source = Source(trees.flatten(params), old, table)
  flat, report = weights.fit_model(source, model, shapes, size, **options)
  return params, flat, report


def as_tree(flat):
  return jax.tree.map(jnp.asarray, trees.unflatten(flat))


def test_weights_that_fit_are_loaded_bit_equal():
  params, flat, report = fitted(tiny.vit(), (8, 8), tiny.vit(), (8, 8))
  jax.tree.map(np.testing.assert_array_equal, as_tree(flat), params)
  assert sorted(report.loaded) == sorted(trees.flatten(params))
  assert not report.resampled and not report.reinitialised and not report.ignored
  assert report.lines() == [f'loaded {len(flat)} parameter arrays, with the head']


@pytest.mark.parametrize('old, new', [((8, 8), (16, 16)), ((16, 16), (12, 12)), ((12, 12), (8, 20)),
                                      ((8, 16), (16, 8)), ((8, 16), (12, 12))])
@pytest.mark.parametrize('options', [dict(), dict(pool='mean'), dict(class_position=False)])
def test_positions_are_resampled_per_axis_and_nothing_else_changes(old, new, options):
  model = tiny.vit(**options)
  grids = [grid_of(model, size) for size in (old, new)]
  params, flat, report = fitted(model, old, model, new, old=grids[0])
  own = grids[0].positions
  source, got = trees.flatten(params), flat[POSITIONS]
  np.testing.assert_array_equal(got[:, :own], source[POSITIONS][:, :own])
  table = np.asarray(source[POSITIONS][0, own:]).reshape(*grids[0].size, -1)
  zoom = (*(n / o for n, o in zip(grids[1].size, grids[0].size, strict=True)), 1)
  want = scipy.ndimage.zoom(table, zoom, order=1).reshape(-1, table.shape[-1])
  np.testing.assert_allclose(got[0, own:], want, atol=1e-5)
  for path in set(source) - {POSITIONS}:
    np.testing.assert_array_equal(flat[path], source[path])
  sizes = '{}x{} -> {}x{}'.format(*grids[0].size, *grids[1].size)
  assert len(report.resampled) == 1 and sizes in report.resampled[0]


@pytest.mark.parametrize('there, here', [(True, False), (False, False), (True, True)])
def test_folding_the_class_position_changes_no_logit(there, here):
  source, model = tiny.vit(class_position=there), tiny.vit(class_position=here)
  params, flat, _ = fitted(source, (8, 8), model, (8, 8))
  np.testing.assert_allclose(tiny.apply(model, as_tree(flat), tiny.images((8, 8))),
                             tiny.apply(source, params, tiny.images((8, 8))), atol=1e-5)


def test_unfolding_the_class_position_changes_no_logit():
  source, model = tiny.vit(class_position=False), tiny.vit()
  params, flat, _ = fitted(source, (8, 8), model, (8, 8))
  assert flat[POSITIONS].shape[1] == 5 and not flat[POSITIONS][:, 0].any()
  np.testing.assert_allclose(tiny.apply(model, as_tree(flat), tiny.images((8, 8))),
                             tiny.apply(source, params, tiny.images((8, 8))), atol=1e-5)


@pytest.mark.parametrize('source, model, said', [
    (dict(pool='mean', norm_pooled=True), dict(), 'set model.pool=.mean.* model.norm_pooled=true'),
    (dict(), dict(pool='mean', norm_pooled=True, class_token=True), 'set model.norm_pooled=false')])
def test_a_last_norm_that_stands_elsewhere_has_its_remedy(source, model, said):
  with pytest.raises(UserError, match=f'their last norm stands elsewhere: {said}'):
    fitted(tiny.vit(**source), (8, 8), tiny.vit(**model), (8, 8))


def test_a_class_token_that_the_model_lacks_is_ignored_with_its_position():
  _, flat, report = fitted(tiny.vit(), (8, 8), tiny.vit(pool='mean'), (8, 8))
  assert 'cls' not in flat and flat[POSITIONS].shape[1] == 4
  assert sorted(report.ignored) == ['cls', f"the class token's entry of {POSITIONS}"]


def test_grey_images_keep_their_logits_with_one_channel():
  params, flat, report = fitted(tiny.vit(), (8, 8), tiny.vit(), (8, 8), channels=(3, 1))
  grey = tiny.images((8, 8), channels=1)
  np.testing.assert_allclose(
      tiny.apply(tiny.vit(), as_tree(flat), grey),
      tiny.apply(tiny.vit(), params, jnp.repeat(grey, 3, axis=-1)), atol=1e-4)
  assert report.resampled == ['embedding/kernel 3 -> 1 channels']


@pytest.mark.parametrize('old, new', [(1, 3), (3, 4), (3, 6), (4, 3)])
def test_other_numbers_of_channels_repeat_in_turn(old, new):
  kernel = np.random.default_rng(0).normal(size=(2, 2, old, 5))
  got = adapt_channels(kernel, new)
  for i in range(new):
    np.testing.assert_allclose(got[:, :, i], kernel[:, :, i % old] * old / new)
  if new % old == 0:  # a constant image gives what it gave
    np.testing.assert_allclose(got.sum((0, 1, 2)), kernel.sum((0, 1, 2)))


def bilinear_matrix(old, new):
  """Returns B of FlexiViT, section 3.4: a flat patch of `old` pixels to one of `new`."""
  units = np.eye(old[0] * old[1]).reshape(*old, -1)
  return positions.bilinear(units, new).reshape(new[0] * new[1], -1)


@pytest.mark.parametrize('old, new', [((4, 4), (6, 6)), ((4, 4), (3, 3)), ((8, 4), (5, 7))])
def test_a_resized_kernel_is_the_pseudo_inverse_of_resizing(old, new):
  kernel = np.random.default_rng(0).normal(size=(*old, 3, 5))
  want = np.linalg.pinv(bilinear_matrix(old, new).T) @ kernel.reshape(old[0] * old[1], -1)
  got = resize_kernel(kernel, new)
  np.testing.assert_allclose(got, want.reshape(*new, 3, 5), atol=1e-10)
  np.testing.assert_array_equal(resize_kernel(np.float32(kernel), old).shape, (*old, 3, 5))
  again = resize_kernel(kernel, old)
  np.testing.assert_allclose(again, kernel, atol=1e-12)


@pytest.mark.parametrize('new', [(6, 6), (5, 8)])
def test_larger_patches_that_were_resized_keep_their_embedding(new):
  rng = np.random.default_rng(0)
  kernel, patch = rng.normal(size=(4, 4, 3, 5)), rng.normal(size=(4, 4, 3))
  larger = positions.bilinear(patch, new)
  np.testing.assert_allclose(np.einsum('hwc,hwcd->d', larger, resize_kernel(kernel, new)),
                             np.einsum('hwc,hwcd->d', patch, kernel), atol=1e-10)


def test_patches_are_resized_when_asked():
  source, model = tiny.vit(patch_size=2), tiny.vit()
  params, flat, report = fitted(source, (8, 8), model, (16, 16), resize_patches=True)
  assert flat['embedding/kernel'].shape == (4, 4, 3, 16)
  assert report.resampled == ['embedding/kernel 2x2 -> 4x4 by the pseudo-inverse']
  image = np.asarray(tiny.images((8, 8)))
  larger = np.stack([_patchwise(one) for one in image])
  np.testing.assert_allclose(tiny.apply(model, as_tree(flat), jnp.asarray(larger)),
                             tiny.apply(source, params, image), atol=1e-4)


def _patchwise(image):
  """Returns an image whose patches of 2 pixels are resized to 4."""
  rows = [np.concatenate([positions.bilinear(image[i:i + 2, j:j + 2], (4, 4))
                          for j in range(0, image.shape[1], 2)], axis=1)
          for i in range(0, image.shape[0], 2)]
  return np.float32(np.concatenate(rows))


@pytest.mark.parametrize('classes, options, fresh', [
    (5, dict(), []), (7, dict(), ['head/bias', 'head/kernel']),
    (5, dict(reset_head=True), ['head/bias', 'head/kernel'])])
def test_the_head_starts_anew_when_its_shape_differs_or_when_asked(classes, options, fresh):
  _, flat, report = fitted(tiny.vit(), (8, 8), tiny.vit(num_classes=classes), (8, 8), **options)
  assert sorted(report.reinitialised) == fresh and report.reset == bool(options)
  assert ('head/kernel' in flat) == (not fresh)


def test_a_representation_layer_may_come_and_go():
  _, _, report = fitted(tiny.vit(representation_size=6), (8, 8), tiny.vit(num_classes=2), (8, 8))
  assert sorted(report.ignored) == ['pre_logits/bias', 'pre_logits/kernel']
  _, flat, report = fitted(tiny.vit(), (8, 8), tiny.vit(representation_size=6), (8, 8))
  assert 'pre_logits/kernel' not in flat
  assert {'pre_logits/kernel', 'pre_logits/bias'} <= set(report.reinitialised)


def test_what_is_missing_unexpected_or_misshapen_is_listed_in_one_error():
  shapes = trees.flatten(weights.init_shapes(tiny.vit(), (8, 8), 3))
  source = {k: np.zeros(s.shape, np.float32) for k, s in shapes.items()}
  missing = 'Transformer/encoderblock_1/LayerNorm_0/scale'
  del source[missing]
  source['Transformer/encoderblock_7/LayerNorm_0/scale'] = np.zeros(16)
  source['Transformer/encoder_norm/bias'] = np.zeros(17)
  with pytest.raises(UserError) as error:
    weights.fit_model(Source(source, Grid((2, 2)), GOOGLE), tiny.vit(), shapes, (8, 8))
  said = str(error.value)
  assert f'1 missing: {missing}' in said
  assert '1 unexpected: Transformer/encoderblock_7/LayerNorm_0/scale' in said
  assert '1 misshapen: Transformer/encoder_norm/bias (17,) instead of (16,)' in said
  assert 'model.name' in said


def test_weights_of_another_width_are_refused():
  with pytest.raises(UserError, match='misshapen: .*instead of'):
    fitted(tiny.vit(width=32), (8, 8), tiny.vit(), (8, 8))


def test_weights_of_another_patch_size_are_refused():
  with pytest.raises(UserError, match=r'misshapen: embedding/kernel \(2, 2, 3, 16\)'):
    fitted(tiny.vit(patch_size=2), (8, 8), tiny.vit(), (16, 16))


def test_fitted_arrays_have_the_type_of_the_model():
  shapes = trees.flatten(weights.init_shapes(tiny.vit(), (8, 8), 3))
  source = {k: np.zeros(s.shape, np.float16) for k, s in shapes.items()}
  flat, _ = weights.fit_model(Source(source, Grid((2, 2)), GOOGLE), tiny.vit(), shapes, (8, 8))
  assert {v.dtype for v in flat.values()} == {np.dtype('float32')}


@pytest.mark.parametrize('length, tokens, own, hint, want', [
    (197, 1, True, None, Grid((14, 14), 1, 1)), (196, 1, False, None, Grid((14, 14), 1, 0)),
    (196, 0, True, None, Grid((14, 14), 0, 0)), (289, 1, True, Grid((12, 24)), Grid((12, 24), 1, 1)),
    (288, 1, False, Grid((12, 24), 1, 0), Grid((12, 24), 1, 0)),
    (196, 1, False, Grid((13, 15)), Grid((14, 14), 1, 0)),  # the format knows: no class entry
])
def test_the_grid_of_a_table(length, tokens, own, hint, want):
  flat = {POSITIONS: np.zeros((1, length, 4)), **({'cls': 0} if tokens else {})}
  assert guess_grid(flat, own, hint) == want


def test_a_table_of_no_square_asks_for_its_size():
  with pytest.raises(UserError, match='51 patches .*not square; give the image size'):
    guess_grid({POSITIONS: np.zeros((1, 52, 4)), 'cls': np.zeros(1)}, True, Grid((5, 5)))
  assert guess_grid({'cls': 0}, True) is None
