"""Segmenters: exact counts, any backbone under any head, and inference by windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detr_jax.models import pixels, positions
from vit_jax.layers import resizing
from detr_jax.ops.windows import Inference, largest, sliding
from tests.models import tiny
from vit_jax import trees
from vit_jax.errors import UserError

BACKBONES = {
    'resnet18': dict(width=32, depths=(1, 1, 1, 1), norm='group'),
    'swin_t': dict(width=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4, map_norms=True),
    'convnext_t': dict(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), map_norms=True),
    'nat_mini': dict(width=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2), kernel_size=3),
    'regnety_400mf': dict(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), group_widths=(8,) * 4,
                          stem_width=8),
    'hrnet_w18': dict(width=8, modules=(1, 1, 1), depth=1, root_depth=1, root_width=8)}
HEADS = {'segmenter_s16_linear': {}, 'segmenter_s16_mask': dict(decoder_depth=1, decoder_heads=2),
         'upernet_swin_t': dict(width=8, auxiliary_width=4),
         'deeplabv3plus_r101': dict(width=8, fine_width=4, auxiliary_width=4, dilations=(1, 2)),
         'ocrnet_r101': dict(width=8, context_width=4, coarse_width=4),
         'ocrnet_hrnet_w48': dict(width=8, context_width=4),
         'setr_l16_pup': dict(width=8), 'setr_l16_naive': dict(width=8),
         'setr_l16_mla': dict(width=8, level_width=4)}
# How many heads help to train; OCRNet's first one is read by the second.
HELP = dict(segmenter=0, upernet=1, deeplabv3plus=1, ocrnet=1, setr=3)


@pytest.mark.parametrize('name', pixels.list_models())
def test_counts_are_exact(name):
  variant, model = pixels.variant(name), pixels.create_model(name)
  image = jax.ShapeDtypeStruct((1, *variant.image_size, 3), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)['params']
  assert trees.count(shapes) == variant.parameters


@pytest.mark.parametrize('name, published', [
    ('upernet_swin_t', 60), ('upernet_swin_s', 81), ('upernet_swin_b', 121), ('upernet_swin_l', 234),
    ('segmenter_ti16_mask', 7), ('segmenter_b16_linear', 86), ('deeplabv3plus_r101', 63),
    ('ocrnet_r101', 56), ('ocrnet_hrnet_w48', 71), ('upernet_r101', 86)])
def test_counts_are_those_of_the_papers(name, published):
  assert round(pixels.variant(name).parameters / 1e6) in (published, published + 1), name


def built(head, backbone):
  return pixels.create_model(head, backbone=backbone, backbone_fields=BACKBONES[backbone],
                             num_classes=5, **HEADS[head])


@pytest.mark.parametrize('head', HEADS)
def test_any_backbone_goes_under_any_head(head):
  image = jax.ShapeDtypeStruct((2, 37, 70, 3), jnp.float32)
  for backbone in BACKBONES:
    model = built(head, backbone)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    found = jax.eval_shape(model.apply, variables, image)
    assert found.logits.shape == (2, 37, 70, 5), backbone
    assert len(found.auxiliary) == head.startswith('ocrnet')
    trained, _ = jax.eval_shape(lambda v, x, m=model: m.apply(
        v, x, train=True, rngs=dict(dropout=jax.random.key(1)), mutable=['batch_stats']),
        variables, image)
    helping = 4 if 'mla' in head else HELP[head.partition('_')[0]]
    assert [x.shape for x in trained.auxiliary] == [(2, 37, 70, 5)] * helping


@pytest.mark.parametrize('head, backbone', [
    ('segmenter_s16_mask', 'hrnet_w18'), ('setr_l16_mla', 'swin_t'), ('ocrnet_r101', 'convnext_t'),
    ('deeplabv3plus_r101', 'nat_mini')])
def test_what_a_head_gives_is_finite(head, backbone):
  image = np.random.default_rng(0).normal(size=(2, 37, 70, 3)).astype(np.float32)
  model = built(head, backbone)
  variables = tiny.variables(model, (37, 70))
  assert np.isfinite(tiny.apply(model, variables, image).logits).all()


def test_a_head_that_reads_four_maps_says_so():
  for head, count in (('upernet_swin_t', 4), ('deeplabv3plus_r101', 2)):
    model = pixels.create_model(head, backbone='vit_ti16', backbone_fields={})
    with pytest.raises(UserError, match=f"gives 1 map.*reads {count}; choose a backbone with stages"):
      jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def classes(images):
  """Stands for a network: a class for bright and one for dark places, of what is around a pixel."""
  mean = jax.lax.reduce_window(images, 0., jax.lax.add, (1, 5, 5, 1), (1, 1, 1, 1), 'SAME') / 25.
  return jnp.concatenate([mean, -mean, mean ** 2], -1)[..., :4]


@pytest.mark.parametrize('size, window, stride', [
    ((16, 16), 16, 8), ((16, 23), 16, 16), ((37, 50), 16, 10), ((33, 17), 16, 5)])
def test_windows_are_averaged_as_their_definition_says(size, window, stride):
  images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  total, count = np.zeros((2, *size, 4)), np.zeros((1, *size, 1))
  starts = [sorted({*range(0, n - window, stride), n - window}) for n in size]
  for top in starts[0]:
    for left in starts[1]:
      place = np.s_[:, top:top + window, left:left + window]
      total[place] += classes(images[place])
      count[place] += 1
  # On a canvas that is larger, with noise around: the windows are those of the image.
  canvas = np.random.default_rng(1).normal(size=(2, size[0] + 9, size[1] + 4, 3))
  canvas[:, :size[0], :size[1]] = images
  got = sliding(classes, canvas, jnp.asarray([size] * 2), window, stride)
  np.testing.assert_allclose(got[:, :size[0], :size[1]], total / count, atol=1e-5)


@pytest.mark.parametrize('classes', [1, 2, 15, 16, 17, 40])
def test_the_largest_is_that_of_argmax(classes):
  rng = np.random.default_rng(classes)
  x = rng.integers(-3, 4, (5, 7, classes)).astype(np.float32)  # many are equal
  np.testing.assert_array_equal(largest(x), x.argmax(-1))


@pytest.mark.parametrize('how', [
    dict(), dict(short_side=24, window=16, stride=12), dict(window=64)])
def test_classes_are_those_of_the_probabilities(how):
  rng, sizes, how = np.random.default_rng(0), jnp.asarray([[20, 27], [32, 30]]), Inference(**how)
  images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
  want = np.asarray(how.probabilities(classes, images, sizes, 32))
  got = np.asarray(how.classes(classes, images, sizes, 32))
  top = np.sort(want, -1)
  clear = top[..., -1] - top[..., -2] > 1e-5  # elsewhere rounding decides
  inside = np.asarray(positions.valid(sizes, (32, 32), (32, 32)))
  assert clear.mean() > .9 and (got == want.argmax(-1))[clear & inside].all()
  whole = np.asarray(how.classes(classes, images[1:, :32, :30], sizes[1:]))  # of the image's own size
  np.testing.assert_array_equal(whole.shape, (1, 32, 30))


def test_one_window_is_the_whole_image():
  images, sizes = np.random.default_rng(0).normal(size=(1, 16, 16, 3)), jnp.asarray([[16, 16]])
  whole = Inference().probabilities(classes, images, sizes)
  got = Inference(window=16).probabilities(classes, images, sizes)
  np.testing.assert_allclose(got, whole, atol=1e-6)


@pytest.mark.parametrize('how', [
    dict(), dict(short_side=24), dict(short_side=24, window=16, stride=12, scales=(.5, 1.), flip=True)])
def test_what_is_around_an_image_changes_nothing(how):
  rng, size, how = np.random.default_rng(0), (20, 27), Inference(**how)
  image = rng.normal(size=(1, *size, 3)).astype(np.float32)
  alone = how.probabilities(classes, image, jnp.asarray([size]), 32)
  canvas = np.zeros((1, 32, 32, 3), np.float32)
  canvas[:, :size[0], :size[1]] = image
  if not how.window:  # the network itself sees what is around: here nothing
    canvas = canvas[:, :size[0], :size[1]]
  got = how.probabilities(classes, canvas, jnp.asarray([size]), 32)[:, :size[0], :size[1]]
  np.testing.assert_allclose(got, alone[:, :size[0], :size[1]], atol=1e-5)
  np.testing.assert_allclose(got.sum(-1), 1., atol=1e-5)


def test_resizing_between_sizes_is_that_of_whole_arrays():
  x = np.random.default_rng(0).normal(size=(1, 9, 12, 2)).astype(np.float32)
  canvas = np.full((1, 15, 14, 2), 7., np.float32)
  canvas[:, :9, :12] = x
  want = resizing.bilinear(x, (20, 7))
  got = resizing.rescaled(canvas, jnp.asarray([[9, 12]]), jnp.asarray([[20, 7]]), (24, 16))
  np.testing.assert_allclose(got[:, :20, :7], want, atol=1e-5)
  mirrored = resizing.rescaled(canvas, jnp.asarray([[9, 12]]), jnp.asarray([[20, 7]]), (24, 16), True)
  np.testing.assert_allclose(mirrored[:, :20, :7], want[:, :, ::-1], atol=1e-5)


@pytest.mark.parametrize('fields, said', [
    (dict(scales=(0.,)), 'must be positive'), (dict(window=8, stride=9), 'between 1 and window=8')])
def test_what_no_inference_can_be_is_told(fields, said):
  with pytest.raises(UserError, match=said):
    Inference(**fields)
