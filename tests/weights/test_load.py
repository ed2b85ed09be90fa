"""vit_jax.load: a model with its parameters from a published file."""

import io
import os
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import vit_jax
from tests.conftest import ROOT
from tests.models import tiny
from vit_jax import config as config_lib, models, weights
from vit_jax.training import loop
from vit_jax.errors import UserError
from vit_jax.weights import npz
from vit_jax.weights import POSITIONS

SMALL = dict(width=16, depth=2, num_heads=2, mlp_dim=24, patch_size=4)
SIZE = (12, 12)


@pytest.fixture
def save(tmp_path):
  """Returns a function that writes a tiny model's file: (path, model, params)."""
  def write(size=SIZE, **options):
    model = tiny.vit(**options)
    params = tiny.params(model, size)
    path = str(tmp_path / 'w.npz')
    weights.export(path, model, {'params': params})
    return path, model, params
  return write


def load(path, **options):
  return vit_jax.load('vit_ti16', path, verbose=False, **{**SMALL, **options})


@pytest.mark.parametrize('options', [
    dict(), dict(pool='mean'), dict(class_position=False), dict(pool='attention'),
    dict(representation_size=6)])
def test_a_published_file_gives_the_logits_of_its_model(save, options):
  path, model, params = save(**options)
  got = load(path)
  image = tiny.images(SIZE)
  np.testing.assert_allclose(tiny.apply(got.model, got.params, image),
                             tiny.apply(model, params, image), atol=1e-5)
  assert got.info.image_size == SIZE and got.info.channels == 3 and got.info.num_classes == 5


def test_fields_that_the_file_shows_are_taken_from_it(save):
  path, _, _ = save(representation_size=6)
  got = load(path)
  assert got.model == tiny.vit(representation_size=6)


def test_a_scanned_model_takes_the_same_file(save):
  path, model, params = save()
  got = load(path, scan=True)
  np.testing.assert_allclose(tiny.apply(got.model, got.params, tiny.images(SIZE)),
                             tiny.apply(model, params, tiny.images(SIZE)), atol=1e-5)


@pytest.mark.parametrize('asked, size', [(20, (20, 20)), ((8, 16), (8, 16))])
def test_another_image_size(save, asked, size):
  path, _, params = save()
  got = load(path, image_size=asked)
  assert got.info.image_size == size
  logits = tiny.apply(got.model, got.params, tiny.images(size))
  assert logits.shape == (2, 5) and np.isfinite(logits).all()
  np.testing.assert_array_equal(got.params['head']['kernel'], params['head']['kernel'])


def test_another_number_of_classes_starts_the_head_anew(save):
  path, _, params = save()
  got = load(path, num_classes=9)
  assert got.info.num_classes == 9 and got.model.num_classes == 9
  assert got.params['head']['kernel'].shape == (16, 9) and not got.params['head']['kernel'].any()
  np.testing.assert_array_equal(got.params['cls'], params['cls'])


def test_one_channel_keeps_the_logits_of_grey_images(save):
  path, model, params = save()
  got = load(path, channels=1)
  grey = tiny.images(SIZE, channels=1)
  np.testing.assert_allclose(
      tiny.apply(got.model, got.params, grey),
      tiny.apply(model, params, jnp.repeat(grey, 3, axis=-1)), atol=1e-4)
  assert got.info.channels == 1


@pytest.mark.parametrize('options', [dict(), dict(pool='mean'), dict(representation_size=6)])
def test_without_classes_it_is_a_backbone(save, options):
  path, model, params = save(**options)
  assert load(path).model.num_classes == 5  # as saved, where nothing is asked for
  got, image = load(path, num_classes=None), tiny.images(SIZE)
  assert got.model.num_classes is None and 'head' not in got.params and 'pre_logits' not in got.params
  body = {k: v for k, v in params.items() if k not in ('head', 'pre_logits')}
  np.testing.assert_allclose(
      tiny.apply(got.model, got.variables, image).maps[0],
      tiny.apply(model.clone(num_classes=None), body, image).maps[0], atol=1e-5)


@pytest.fixture
def timm_file(tmp_path):
  """Returns a function that writes a tiny model in timm's names: (path, model, variables)."""
  def write(size=SIZE, **options):
    model = models.create_model('vit_ti16', **{**SMALL, 'num_classes': 5, 'gelu': 'erf', **options})
    variables, path = tiny.variables(model, size), str(tmp_path / 'w.safetensors')
    weights.export(path, model, variables, 'timm', size)
    return path, model, variables
  return write


@pytest.mark.parametrize('options', [
    dict(pool='mean', norm_pooled=True, class_token=True),                        # MAE, fine-tuned
    dict(pool='mean', norm_pooled=True, class_token=True, class_position=False),  # no_embed_class
    dict(pool='mean', norm_pooled=True, class_token=True, position='none'),
    dict(pool='mean', norm_pooled=True), dict(position='none'), dict(class_position=False)])
def test_what_names_imply_of_pooling_and_positions(timm_file, options):
  path, model, variables = timm_file(**options)
  got = load(path)
  assert got.model == model
  np.testing.assert_array_equal(tiny.apply(got.model, got.variables, tiny.images(SIZE)),
                                tiny.apply(model, variables, tiny.images(SIZE)))


def test_fc_norm_follows_the_mean_of_the_patches_without_the_class_token(timm_file):
  """In NumPy: what the encoder gives, averaged without its first token, then fc_norm and the head."""
  path, model, variables = timm_file(pool='mean', norm_pooled=True, class_token=True)
  image, p = tiny.images(SIZE), variables['params']
  features = tiny.apply(model.clone(num_classes=None), {
      k: v for k, v in p.items() if k not in ('head', 'fc_norm')}, image)
  assert features.tokens.shape == (2, 1, 16)
  x = np.asarray(features.maps[0]).reshape(2, -1, 16).mean(axis=1)
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  x = x * p['fc_norm']['scale'] + p['fc_norm']['bias']
  got = load(path)
  np.testing.assert_allclose(tiny.apply(got.model, got.variables, image),
                             x @ p['head']['kernel'] + p['head']['bias'], atol=1e-4)
  body = load(path, num_classes=None)
  assert not {'fc_norm', 'head'} & set(body.params)
  assert sorted(body.report.ignored) == ['fc_norm/bias', 'fc_norm/scale', 'head/bias', 'head/kernel']


def test_what_no_name_tells_may_be_said(timm_file):
  """A mean over the patches without fc_norm leaves no trace: the class token is kept for it."""
  path, model, variables = timm_file(pool='mean', class_token=True)
  assert load(path).model.pool == 'token'
  got = load(path, pool='mean')
  np.testing.assert_array_equal(tiny.apply(got.model, got.variables, tiny.images(SIZE)),
                                tiny.apply(model, variables, tiny.images(SIZE)))


def test_sincos_positions_are_written_as_a_table(timm_file):
  path, model, variables = timm_file((8, 16), position='sincos')
  got = load(path, image_size=(8, 16))
  assert got.model == model.clone(position='learned')
  np.testing.assert_allclose(tiny.apply(got.model, got.variables, tiny.images((8, 16))),
                             tiny.apply(model, variables, tiny.images((8, 16))), atol=1e-6)


OBLONG = (8, 20)  # two by five patches


def test_a_size_that_no_file_tells_may_be_said(timm_file):
  path, model, variables = timm_file(OBLONG)
  for options in (dict(image_size=OBLONG), dict(trained_image_size=OBLONG)):
    got = load(path, **options)
    assert got.info.image_size == OBLONG and not got.report.resampled
    np.testing.assert_array_equal(tiny.apply(got.model, got.variables, tiny.images(OBLONG)),
                                  tiny.apply(model, variables, tiny.images(OBLONG)))
  moved = load(path, trained_image_size=OBLONG, image_size=16)
  assert moved.report.resampled == [f'{POSITIONS} 2x5 -> 4x4 by antialiased_bicubic']


@pytest.mark.parametrize('options, said', [
    (dict(), 'for 10 patches belongs to an image that is not square; .* --image_size=HEIGHTxWIDTH of a '
             'command, trained_image_size of vit_jax.load, or config.init_image_size'),
    (dict(trained_image_size=(8, 16)), 'has 11 entries, and images of 8x16 pixels give 2x4 patches'),
    (dict(trained_image_size=(8, 21)), 'is not a multiple of the patch size')])
def test_a_size_that_does_not_fit_is_told(timm_file, options, said):
  with pytest.raises(UserError, match=said):
    load(timm_file(OBLONG)[0], **options)


@pytest.mark.parametrize('size, grid', [((33, 9), (5, 2)), ((40, 16), (5, 2)), ((29, 16), (4, 2))])
def test_the_grid_of_a_hybrid_is_its_model_s_own(timm_file, size, grid):
  """Its ResNet rounds up and its patches down, so sizes that 8 does not divide have a grid, too."""
  path, model, variables = timm_file(size, patch_size=1, stem_depths=(1, 1), stem_width=32)
  assert model.grid(size) == grid
  got = load(path, image_size=size, patch_size=1, stem_depths=(1, 1), stem_width=32)
  assert not got.report.resampled and got.info.image_size == size
  np.testing.assert_array_equal(got.params['Transformer']['posembed_input']['pos_embedding'],
                                variables['params']['Transformer']['posembed_input']['pos_embedding'])


def test_a_square_number_of_patches_of_a_hybrid_is_not_taken_for_a_square(timm_file):
  size = (57, 9)  # 8x2 patches, as many as 4x4 have
  path, model, _ = timm_file(size, patch_size=1, stem_depths=(1, 1), stem_width=32)
  assert model.grid(size) == (8, 2)
  fields = dict(patch_size=1, stem_depths=(1, 1), stem_width=32)
  assert not load(path, image_size=size, **fields).report.resampled
  assert load(path, image_size=size, trained_image_size=(32, 32), **fields).report.resampled == [
      f'{POSITIONS} 4x4 -> 8x2 by antialiased_bicubic']


def test_what_was_loaded_is_shown_in_a_line(save):
  assert repr(load(save()[0])) == 'Classifier(ViT with 4,997 parameters, images 12x12x3, 5 classes)'


def test_images_are_normalised_as_those_of_the_training(save):
  got = load(save()[0])
  pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype(np.uint8)
  want = (pixels / 255. - np.float32(got.info.mean)) / np.float32(got.info.std)
  for images in (pixels, pixels.astype(np.int64), np.float32(pixels / 255.)):
    np.testing.assert_allclose(got.normalize(images), want, atol=1e-5)


def test_what_starts_anew_is_said(save, capsys):
  path, _, _ = save()
  vit_jax.load('vit_ti16', path, num_classes=9, **SMALL)
  said = capsys.readouterr().out
  assert 'reinitialised: head/kernel (16, 5) -> (16, 9)' in said and 'loaded ' in said


@pytest.mark.parametrize('prefix', ['params/', 'opt/target/'])
def test_training_states_of_the_authors_are_read(save, prefix):
  path, _, params = save()
  npz.write(path, {prefix + k: v for k, v in npz.read(path).items()})
  got = load(path)
  jax.tree.map(np.testing.assert_array_equal, got.params, params)


def test_mistakes_are_told(save, tmp_path):
  path, _, _ = save()
  for arguments, said in (
      (('vit_b16',), "'vit_b16' is a model without weights; give the file"),
      ((path,), r"w\.npz is not of a named model \(ViT: .*width=16, .*near: vit_ti16.*load\('NAME'"),
      (('vit_b16', '/nowhere.npz'), "no weights at '/nowhere.npz'"),
      (('vit_b61', path), "unknown model 'vit_b61'; did you mean 'vit_b16'"),
      ((str(tmp_path),), 'holds no checkpoints/STEP, and no weights named model.safetensors')):
    with pytest.raises(UserError, match=said):
      vit_jax.load(*arguments)
  for name in ('resnet50', 'mixer_b16'):  # models without attention
    with pytest.raises(UserError, match='not fit the model .* model.name the right one|does not know'):
      vit_jax.load(name, path)
  with pytest.raises(UserError, match='do not fit the model .*misshapen: .*is model.name the right'):
    vit_jax.load('vit_ti16', path, patch_size=4, depth=2)


@pytest.mark.slow
def test_fresh_leaves_are_a_function_of_the_seed():
  model = models.create_model('vit_ti16', **{**SMALL, 'depth': 1}, num_classes=5)
  shapes = weights.variable_shapes(model, SIZE, 3)
  a, b, c = (weights.complete({}, model, shapes, SIZE, 3, seed=s)['params'] for s in (0, 0, 1))
  jax.tree.map(np.testing.assert_array_equal, a, b)
  assert not np.array_equal(a['embedding']['kernel'], c['embedding']['kernel'])


@pytest.mark.slow
@pytest.mark.parametrize('depth, file, right', [(20, 'resnet20-12fca82f.th', 160),
                                                (56, 'resnet56-4bfd9763.th', 172)])
def test_published_weights_classify_real_images(shared, depth, file, right):
  """Twenty images of each class of the JPEG copy, of which all 10,000 give 81.0 and 83.2 %."""
  got = vit_jax.load(f'resnet{depth}_cifar', shared(f'data/resnet_cifar10/{file}'), verbose=False)
  images, labels = _cifar(shared('data/cifar10/cifar10_full.tar.gz'), 20)
  images = (images / 255. - np.float32(got.info.mean)) / np.float32(got.info.std)
  found = int((tiny.apply(got.model, got.variables, images).argmax(-1) == labels).sum())
  assert abs(found - right) <= 1  # of 200; rounding may turn one


@pytest.mark.slow
def test_published_weights_are_as_accurate_as_published(shared):
  """All 10,000 images, of which those who provide the weights found 81.0 %."""
  path = shared('data/resnet_cifar10/resnet20-12fca82f.th')
  got = vit_jax.load('resnet20_cifar', path, verbose=False)
  images, labels = _cifar(shared('data/cifar10/cifar10_full.tar.gz'), 1000)
  assert len(images) == 10_000
  mean, std = np.float32(got.info.mean), np.float32(got.info.std)
  classify = jax.jit(lambda x: got.model.apply(got.variables, (x / 255. - mean) / std).argmax(-1))
  found = sum(int((classify(images[i:i + 250]) == labels[i:i + 250]).sum())
              for i in range(0, len(images), 250))
  assert abs(found - 8103) <= 10  # rounding may turn a few


def _cifar(path, per_class):
  """Returns the first test images of each class, float32 `[n, 32, 32, 3]`, and their labels."""
  found = {}
  with tarfile.open(path) as archive:
    for member in archive:
      if '/test/' in f'/{member.name}' and member.isfile():
        same = found.setdefault(member.name.split('/')[-2], [])
        if len(same) < per_class:
          image = Image.open(io.BytesIO(archive.extractfile(member).read())).convert('RGB')
          same.append(np.asarray(image, np.float32))
  labels = np.repeat(np.arange(len(found)), per_class)
  return np.concatenate([np.stack(found[name]) for name in sorted(found)]), labels


def test_a_run_keeps_its_running_statistics_and_hands_them_on(tmp_path):
  config = config_lib.load(os.path.join(ROOT, 'tests', 'configs', 'tiny.py') + ':steps=4')
  config.model = ConfigDict(dict(name='resnet18', width=8, depths=(1,)))
  loop.train(config, str(tmp_path / 'first'))
  first = vit_jax.load(str(tmp_path / 'first'), verbose=False)
  moved = first.state['batch_stats']['bn_root']
  assert np.any(moved['mean'] != 0.) and np.any(moved['var'] != 1.)
  fresh = jax.tree.map(jnp.zeros_like, first.variables)
  again, report = weights.initialize(first.model, fresh, first.info, str(tmp_path / 'first'))
  assert not report.reinitialised and not report.ignored
  jax.tree.map(np.testing.assert_array_equal, again, first.variables)
  logits = first.model.apply(first.variables, first.normalize(np.zeros((1, 16, 16, 1), np.uint8)))
  assert logits.shape == (1, 10)
  probabilities = first.probabilities(lambda i: np.full((16, 16, 1), 9 * i, np.uint8), 3)
  np.testing.assert_allclose(probabilities.sum(axis=1), 1., atol=1e-5)
