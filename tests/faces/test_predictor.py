"""The predictor that `vit_jax.load` returns."""

import os

import numpy as np
import pytest

import vit_jax
from tests.conftest import ROOT
from tests.models import tiny
from vit_jax import config as config_lib, faces, models, pretrained, weights
from vit_jax.data import images
from vit_jax.errors import UserError
from vit_jax.faces import classification
from vit_jax.training import loop


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('run'))
  loop.train(config_lib.load(os.path.join(ROOT, 'tests', 'configs', 'tiny.py') + ':steps=4'), workdir)
  return workdir


def test_files_and_arrays_give_the_same_answers_in_any_number(run, tmp_path, monkeypatch):
  monkeypatch.setattr(classification, 'BATCH', 2)
  predictor = vit_jax.load(run, verbose=False)
  rng, paths, arrays = np.random.default_rng(0), [], []
  for i in range(5):
    arrays.append(rng.integers(0, 256, (20, 30, 1), np.uint8))
    paths.append(str(tmp_path / f'{i}.png'))
    images.from_array(arrays[-1]).save(paths[-1])
  of_files, of_arrays = predictor.predict(paths, top=10), predictor.predict(arrays, top=10)
  assert [r['file'] for r in of_files] == paths and [r['file'] for r in of_arrays] == list('01234')
  assert [r['predictions'] for r in of_files] == [r['predictions'] for r in of_arrays]
  assert sum(p['probability'] for p in of_files[0]['predictions']) == pytest.approx(1., abs=1e-4)
  assert {p['class'] for p in of_files[0]['predictions']} == set(predictor.classes)
  assert repr(predictor).startswith('Classifier(ViT with ')
  model, params, info = predictor
  logits = model.apply({'params': params}, predictor.normalize(np.stack([
      predictor.prepare(path) for path in paths])))
  best = [p['predictions'][0]['class'] for p in of_files]
  assert [info.classes[i] for i in np.argmax(logits, axis=1)] == best


def test_one_image_or_a_folder_is_as_good_as_a_list(run, tmp_path):
  predictor, array = vit_jax.load(run, verbose=False), np.zeros((20, 30, 1), np.uint8)
  images.from_array(array).save(tmp_path / '7.png')
  path = str(tmp_path / '7.png')
  want = predictor.predict([path])
  for given in (path, tmp_path / '7.png', [tmp_path / '7.png'], tmp_path, [str(tmp_path)]):
    assert predictor.predict(given) == want and want[0]['file'] == path
  assert predictor.predict(array)[0]['predictions'] == want[0]['predictions']
  with pytest.raises(UserError, match="unknown option of predict: 'treshold'"):
    predictor.predict(path, treshold=.5)


@pytest.mark.parametrize('name, near', [('vit_b17', 'vit_b16'), ('detr_r5', 'detr_r50')])
def test_what_is_nearly_a_name_is_told(name, near):
  with pytest.raises(UserError, match=f'near: .*{near}'):
    vit_jax.load(name)


def test_features_are_those_of_the_backbone(run):
  predictor = vit_jax.load(run, verbose=False)
  found = predictor.features([np.zeros((20, 30, 1), np.uint8)] * 3)
  assert found.maps[0].shape == (3, 4, 4, 32) and found.tokens.shape == (3, 1, 32)


@pytest.mark.parametrize('image', [np.zeros((3, 4)), np.zeros((3, 4, 3), np.float32),
                                   np.zeros((2, 3, 4, 3), np.uint8), np.zeros((3, 4, 2), np.uint8)])
def test_what_is_no_image_is_told(run, image):
  with pytest.raises(UserError, match='an image must be a path, or uint8'):
    vit_jax.load(run, verbose=False).predict([image])


def test_published_checkpoints_have_the_names_of_their_classes(tmp_path, monkeypatch):
  known = pretrained.PRETRAINED['vit_ti16.augreg_imagenet21k_imagenet1k_384']
  assert len(known.classes) == len(set(known.classes)) == 1000
  assert known.classes[0] == 'tench' and known.classes[281] == 'tabby'
  assert pretrained.PRETRAINED['vit_b16.imagenet21k'].classes == ()
  model = models.create_model('vit_ti16')
  path = pretrained.cache_path(known.url)
  monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path))
  path = pretrained.cache_path(known.url)
  os.makedirs(os.path.dirname(path))
  weights.export(path, model, tiny.variables(model, (384, 384)))
  predictor = vit_jax.load('vit_ti16.augreg_imagenet21k_imagenet1k_384', verbose=False)
  assert predictor.classes == known.classes and predictor.info.image_size == (384, 384)


def test_every_face_has_what_commands_ask_for():
  for face in faces.faces():
    for name in ('TASK', 'MODELS', 'WEIGHTS', 'KNOWN', 'FORMAT', 'OPTIONS', 'DRAWN', 'COUNT', 'SHOWN',
                 'predictor', 'text', 'draw', 'writer', 'sections', 'facts', 'sheet', 'holds', 'check',
                 'open_source'):
      assert hasattr(face, name), (face, name)
