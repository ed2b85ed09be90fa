"""The contract of backbones: the features of an image do not depend on what it is padded to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.layers import padding
from vit_jax.layers.convolution import Conv
from vit_jax.layers.norms import BatchNorm

RESNET = dict(depths=(1, 1, 1), width=32, num_classes=None)
VIT = dict(patch_size=8, width=16, depth=2, num_heads=2, mlp_dim=16, num_classes=None, position='sincos')
NAT = dict(width=16, depths=(2, 1, 1), num_heads=(2, 2, 4), kernel_size=3, num_classes=None)
SWIN = dict(width=16, depths=(2, 2, 1), num_heads=(1, 2, 4), window_size=4, num_classes=None)
CONVNEXT = dict(widths=(16, 24, 32), depths=(1, 2, 1), num_classes=None)
REGNET = dict(widths=(16, 24), depths=(1, 2), group_widths=(8, 8), stem_width=8, num_classes=None)
EFFICIENTNET = dict(stem_width=8, widths=(8, 12, 16), depths=(1, 2, 1), expansions=(1, 4, 6),
                    kernel_sizes=(3, 5, 3), strides=(1, 2, 2), last_width=24, num_classes=None)
HRNET = dict(width=8, modules=(1, 2), depth=1, root_depth=1, root_width=8, num_classes=None)
ANY = ((33, 45), (41, 46), (64, 64))  # sizes of the image alone, on an odd canvas, on another
PATCHES = ((32, 48), (40, 48), (64, 56))

BACKBONES = {
    **{f'resnet, {norm}': ('resnet50', dict(RESNET, norm=norm), ANY)
       for norm in ('batch', 'frozen', 'group')},
    'resnet, two convolutions': ('resnet18', dict(RESNET, norm='group'), ANY),
    'resnet, dilated': ('resnet50', dict(RESNET, norm='frozen', output_stride=8), ANY),
    'resnet, small images': ('resnet20_cifar', dict(depths=(1, 1, 1), norm='group', width=32,
                                                    num_classes=None), ANY),
    'resnet, deep root': ('resnet50_c', dict(RESNET, norm='frozen', root_width=16), ANY),
    'hrnet': ('hrnet_w18', HRNET, ANY),
    'hrnet, bilinear': ('hrnet_w18', dict(HRNET, resizing='bilinear', norm='frozen'), ANY),
    'bit, zero': ('bit_r50x1', RESNET, ANY),
    'bit, lowest': ('bit_r50x1', dict(RESNET, root_padding='lowest'), ANY),
    'vit': ('vit_ti16', VIT, PATCHES),
    'vit, by layers': ('vit_ti16', dict(VIT, map_layers=(0, 1)), PATCHES),
    'vit, scanned and without class token': (
        'vit_ti16', dict(VIT, scan=True, remat='full', pool='mean'), PATCHES),
    'deit': ('deit_ti16_distilled', VIT, PATCHES),
    'hybrid': ('r50_b16', dict(VIT, patch_size=1, stem_depths=(1, 1), stem_width=32), ANY),
    'nat': ('nat_mini', NAT, ANY),
    'dinat': ('dinat_mini', dict(NAT, map_norms=True, dilations=((1, 3), (2,), (1,))), ANY),
    'swin': ('swin_t', SWIN, ANY),
    'swin, norms': ('swin_t', dict(SWIN, map_norms=True, window_size=3), ANY),
    'convnext': ('convnext_t', CONVNEXT, ANY),
    'convnext, norms': ('convnext_t', dict(CONVNEXT, map_norms=True, layer_scale=None), ANY),
    'convnext, isotropic': ('convnext_iso_s', dict(widths=(16,), depths=(2,), num_classes=None), ANY),
    'regnet': ('regnety_400mf', REGNET, ANY),
    'regnet, frozen, X': ('regnetx_400mf', dict(REGNET, norm='frozen', se_ratio=0.), ANY),
    'efficientnet': ('efficientnet_b0', EFFICIENTNET, ANY),
    'efficientnet, symmetric': ('efficientnet_b0', dict(
        EFFICIENTNET, padding='symmetric', norm='frozen', strides=(2, 2, 1)), ANY),
    'hybrid of patches': ('r_ti16', dict(VIT, patch_size=2, stem_width=32), PATCHES)}


def on_canvas(image, canvas, rng):
  """Returns images at the upper left of a canvas full of noise, and `valid`."""
  out = rng.normal(size=(len(image), *canvas, 3)).astype(np.float32)
  height, width = image.shape[1:3]
  out[:, :height, :width] = image
  valid = np.zeros((len(image), *canvas), bool)
  valid[:, :height, :width] = True
  return out, valid


@pytest.mark.parametrize('name', BACKBONES)
def test_features_do_not_depend_on_the_padding(name):
  backbone, fields, (size, *canvases) = BACKBONES[name]
  model, rng = models.create_model(backbone, **fields), np.random.default_rng(0)
  image = rng.normal(size=(1, *size, 3)).astype(np.float32)
  state = tiny.variables(model, size)
  want = tiny.apply(model, state, image)
  for canvas in canvases:
    padded, valid = on_canvas(image, canvas, rng)
    other, whole = on_canvas(rng.normal(size=(1, *canvas, 3)), canvas, rng)  # beside one that fills it
    batch, valid = np.concatenate([padded, other]), np.concatenate([valid, whole])
    got = tiny.apply(model, state, jnp.asarray(batch), valid=jnp.asarray(valid))
    for ours, alone in zip(got.maps, want.maps, strict=True):
      height, width = alone.shape[1:3]
      scale = np.abs(alone).max()
      np.testing.assert_allclose(ours[:1, :height, :width] / scale, alone / scale, atol=1e-5)
    for ours, map_, stride in zip(got.maps, want.maps, got.strides, strict=True):
      inside = np.asarray(padding.strided(valid, stride))
      assert inside.shape[1:] == ours.shape[1:3] and inside[0].sum() == np.prod(map_.shape[1:3])
    if want.tokens is not None:
      np.testing.assert_allclose(got.tokens[:1], want.tokens, atol=1e-4)


@pytest.mark.parametrize('size', range(3, 12))
@pytest.mark.parametrize('kernel, stride', [(3, 2), (7, 2), (5, 3), (3, 1)])
def test_windows_of_same_padding_are_those_of_the_image_alone(size, kernel, stride):
  rng = np.random.default_rng(size)
  conv = Conv(4, kernel, stride, padding='same')
  image = rng.normal(size=(1, size, size + 1, 2)).astype(np.float32)
  state = conv.init(jax.random.key(0), image)
  want = conv.apply(state, image)
  for canvas in ((12, 12), (13, 14)):
    out = np.zeros((1, *canvas, 2), np.float32)
    out[:, :size, :size + 1] = image
    valid = np.zeros((1, *canvas), bool)
    valid[:, :size, :size + 1] = True
    got = conv.apply(state, out, jnp.asarray(valid))
    assert got.shape[1:3] == tuple(-(-n // stride) for n in canvas)
    np.testing.assert_allclose(got[:, :want.shape[1], :want.shape[2]], want, atol=1e-5)


def test_statistics_of_a_training_batch_are_those_of_the_images(assert_close):
  rng = np.random.default_rng(0)
  image = rng.normal(2., 3., size=(2, 5, 7, 4)).astype(np.float32)
  padded = np.pad(image, ((0, 0), (0, 3), (0, 2), (0, 0)), constant_values=9.)
  valid = np.zeros(padded.shape[:3], bool)
  valid[:, :5, :7] = True
  norm = BatchNorm()
  state = norm.init(jax.random.key(0), image)
  want, kept = norm.apply(state, image, True, mutable=['batch_stats'])
  got, ours = norm.apply(state, padded, True, jnp.asarray(valid), mutable=['batch_stats'])
  assert_close(got[:, :5, :7], want)
  assert_close(ours, kept)
  assert not got[:, 5:].any() and not got[:, :, 7:].any()


def test_what_cannot_be_right_is_refused():
  image, valid = jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool)
  mixer = models.create_model('mixer_s16', num_classes=None)
  hybrid = models.create_model('r_ti16', **{**VIT, 'patch_size': 3})
  floored = models.create_model('convnext_t', **{**CONVNEXT, 'rounding': 'down'})
  shrunk = models.create_model('swin_t', **{**SWIN, 'windows': 'shrink'})
  for model, said in ((shrunk, 'leave model.windows out'), (floored, 'leave model.rounding out'),
                      (mixer, 'model.mask_padding=false'), (hybrid, 'the nearest sizes are 24x24'),
                      (models.create_model('resnet18'), 'num_classes=None'),
                      (models.create_model('vit_ti16'), 'num_classes=None')):
    with pytest.raises(UserError, match=said):
      jax.eval_shape(lambda m=model: m.init(jax.random.key(0), image, valid=valid))
