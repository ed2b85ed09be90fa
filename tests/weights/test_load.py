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
from vit_jax import config as config_lib, inference, models, train, weights
from vit_jax.errors import UserError
from vit_jax.weights import npz

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
  return vit_jax.load('vit_ti16', path, verbose=False, **SMALL, **options)


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


def test_features_need_no_head(save):
  path, _, _ = save()
  got = load(path, num_classes=None)
  assert got.model.num_classes == 5  # None means: as in the file
  got = load(path.replace('w.npz', 'w.npz'))
  backbone = got.model.clone(num_classes=None)
  body = {k: v for k, v in got.params.items() if k != 'head'}
  assert tiny.apply(backbone, body, tiny.images(SIZE)).maps[0].shape == (2, 3, 3, 16)


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
      ((path,), r"w\.npz is of no named model \(ViT: .*width=16, .*near: vit_ti16.*load\('NAME'"),
      (('vit_b16', '/nowhere.npz'), "no weights at '/nowhere.npz'"),
      (('vit_b61', path), "unknown model 'vit_b61'; did you mean 'vit_b16'"),
      ((str(tmp_path),), 'holds no checkpoints/STEP')):
    with pytest.raises(UserError, match=said):
      vit_jax.load(*arguments)
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
  train.train(config, str(tmp_path / 'first'))
  first = vit_jax.load(str(tmp_path / 'first'), verbose=False)
  moved = first.state['batch_stats']['bn_root']
  assert np.any(moved['mean'] != 0.) and np.any(moved['var'] != 1.)
  fresh = jax.tree.map(jnp.zeros_like, first.variables)
  again, report = weights.initialize(first.model, fresh, first.info, str(tmp_path / 'first'))
  assert not report.reinitialised and not report.ignored
  jax.tree.map(np.testing.assert_array_equal, again, first.variables)
  classifier = inference.Classifier(first)
  probabilities = classifier.probabilities(lambda i: np.full((16, 16, 1), 9 * i, np.uint8), 3)
  np.testing.assert_allclose(probabilities.sum(axis=1), 1., atol=1e-5)
