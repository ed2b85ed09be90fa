"""config.init_from and --evaluate with published files."""

import json
import os

import jax
import numpy as np
import pytest

import vit_jax
from tests.conftest import ROOT
from tests.models import tiny
from vit_jax import config as config_lib, models, trees, weights
from vit_jax.training import evaluate
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.layers import positions
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD
from vit_jax.weights import POSITIONS

FIELDS = dict(patch_size=4, width=32, depth=2, num_heads=4, mlp_dim=64)


@pytest.fixture
def save(tmp_path):
  """Returns a function that writes a small model's file and returns its path."""
  def write(name, to, size=(16, 16), num_classes=10, **options):
    path = str(tmp_path / ('w.npz' if to == 'npz' else 'w.safetensors'))
    model = models.create_model(name, **{**FIELDS, 'num_classes': num_classes, **options})
    weights.export(path, model, tiny.variables(model, size), to)
    return path
  return write


def initialized(path, size, classes=10, model='deit_ti16', **options):
  """Returns (flat parameters, report) of a run that starts from a file."""
  model = models.create_model(model, **{**FIELDS, 'num_classes': classes})
  fresh = jax.tree.map(np.zeros_like, tiny.variables(model, size))
  fresh = jax.tree.map(jax.numpy.asarray, fresh)
  info = Info('', tuple(map(str, range(classes))), 3, size)
  found, report = weights.initialize(model, fresh, info, path, **options)
  return trees.flatten(found['params']), report


@pytest.mark.parametrize('to, own', [('npz', 'corner_aligned_linear'), ('timm', 'antialiased_bicubic'),
                                     ('huggingface', 'bicubic')])
@pytest.mark.parametrize('asked', ['', 'bilinear'])
def test_positions_are_resampled_by_the_source_s_rule_or_the_one_asked_for(save, to, own, asked):
  path = save('deit_ti16', to)
  table = np.asarray(weights.read(path, 4).flat[POSITIONS])
  flat, report = initialized(path, (24, 32), resampling=asked)
  want = positions.resample(table, (4, 4), (6, 8), 1, asked or own)
  np.testing.assert_allclose(flat[POSITIONS], want, atol=1e-6)
  assert report.resampled == [f'{POSITIONS} 4x4 -> 6x8 by {asked or own}']


@pytest.mark.parametrize('classes, reset, said', [
    (10, False, 'parameter arrays, with the head'),
    (10, True, 'reinitialised: head/kernel (the classes'),
    (7, False, 'reinitialised: head/kernel (32, 10) -> (32, 7)')])
def test_the_log_says_what_became_of_the_head(save, classes, reset, said):
  flat, report = initialized(save('deit_ti16', 'timm'), (16, 16), classes, reset_head=reset)
  assert said in '\n'.join(report.lines())
  assert bool(np.any(flat['head/kernel'])) == ('with the head' in said)


def test_fields_that_a_format_implies_and_a_model_has_not_are_noted(save):
  path = save('deit_ti16', 'huggingface')
  _, report = initialized(path, (16, 16), model='vit_ti16')
  said = '\n'.join(report.lines())
  assert "models with gelu='erf', this one has 'tanh' (config.model.gelu)" in said
  assert "layer_norm_eps=1e-12, this one has 1e-06" in said
  assert not initialized(save('deit_ti16', 'timm'), (16, 16))[1].note


def evaluating(path, model='deit_ti16', **overrides):
  spec = os.path.join(ROOT, 'tests', 'configs', 'tiny.py') + f':model={model}'
  return config_lib.load(spec, {'init_from': path, 'mesh.data': '1', **overrides})


def test_a_published_file_is_evaluated_with_its_own_preprocessing(save, capsys):
  """What evaluates unasked is what a config says that spells the variant's protocol out."""
  path = save('deit_ti16', 'timm')
  unasked = evaluate.evaluate(evaluating(path))
  said = capsys.readouterr().out
  assert f'images are made as for deit_ti16: mean={IMAGENET_MEAN}, std={IMAGENET_STD}' in said
  assert "'ratio': 0.875}, interpolation=bicubic (config.evaluate.protocol)" in said
  by_hand = evaluating(path, **{'evaluate.protocol': 'config', 'data.channels': '3',
                                'data.interpolation': 'bicubic'}).unlock()
  by_hand.data.update(mean=IMAGENET_MEAN, std=IMAGENET_STD, eval_crop=dict(name='center', ratio=.875))
  assert evaluate.evaluate(by_hand) == unasked
  squashed = evaluate.evaluate(evaluating(path, **{'evaluate.protocol': 'config'}))
  assert squashed['test/loss'] != pytest.approx(unasked['test/loss'], rel=1e-3)


def test_the_model_that_evaluates_has_the_fields_that_the_file_shows(save):
  config = evaluating(save('deit_ti16', 'huggingface'), model='vit_ti16')
  followed, _ = weights.follow_protocol(config)
  assert followed.model.gelu == 'erf' and followed.model.layer_norm_eps == 1e-12
  assert followed.data.mean == (.5, .5, .5) and 'gelu' not in config.model


def test_a_run_is_evaluated_as_the_config_says(tmp_path):
  (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
  config = evaluating(str(tmp_path))
  assert weights.follow_protocol(config) == (config, [])


@pytest.mark.parametrize('options, said', [
    ({'evaluate.protocol': 'weight'}, "unknown protocol 'weight'; did you mean 'weights'"),
    ({'init_resampling': 'bicubik', 'data.resolution': '24'}, "unknown resampling method 'bicubik'"),
    ({'model.patch_size': '2'}, 'has patches of 4x4 pixels, the model .* of 2x2; .*resize_patches')])
def test_mistakes_in_the_config_are_told(save, options, said):
  with pytest.raises(UserError, match=said):
    evaluate.evaluate(evaluating(save('deit_ti16', 'timm'), **options))


def test_weights_without_a_head_for_the_classes_are_not_evaluated(save):
  with pytest.raises(UserError, match=r'has no head for the 10 classes of the data .* fine-tune'):
    evaluate.evaluate(evaluating(save('deit_ti16', 'timm', num_classes=6)))


def test_patches_of_another_size_are_resized_when_the_config_says_so(save, capsys):
  path = save('deit_ti16', 'timm')
  found = evaluate.evaluate(evaluating(path, **{'model.patch_size': '2', 'init_resize_patches': 'true'}))
  assert np.isfinite(found['test/loss'])
  said = capsys.readouterr().out
  assert 'embedding/kernel 4x4 -> 2x2 by the pseudo-inverse' in said
  assert f'{POSITIONS} 4x4 -> 8x8 by antialiased_bicubic' in said


OBLONG = (8, 20)  # two by five patches


@pytest.mark.parametrize('options, old', [
    (dict(trained_size=OBLONG), (2, 5)), (dict(trained_size=(20, 8)), (5, 2))])
def test_a_run_may_start_from_a_file_trained_on_images_that_are_not_square(save, options, old):
  path = save('deit_ti16', 'timm', OBLONG)
  flat, report = initialized(path, (16, 16), **options)
  table = np.asarray(weights.read(path, 4).flat[POSITIONS])
  want = positions.resample(table, old, (4, 4), 1, 'antialiased_bicubic')
  np.testing.assert_allclose(flat[POSITIONS], want, atol=1e-6)
  assert '{}x{} -> 4x4'.format(*old) in report.resampled[0]
  with pytest.raises(UserError, match='is not square; .* config.init_image_size'):
    initialized(path, (16, 16))
  assert not initialized(path, OBLONG)[1].resampled  # of the run's own size, none needs to be said


def test_the_size_that_a_file_was_trained_at_is_a_field_of_the_config(save, capsys):
  path = save('deit_ti16', 'timm', OBLONG)
  evaluate.evaluate(evaluating(path, **{'init_image_size': '8x20'}))
  assert f'{POSITIONS} 2x5 -> 4x4 by antialiased_bicubic' in capsys.readouterr().out


def test_a_head_that_the_config_throws_away_is_not_evaluated(save):
  with pytest.raises(UserError, match='nothing to evaluate: reset_head starts .* reset_head=false'):
    evaluate.evaluate(evaluating(save('deit_ti16', 'timm'), **{'reset_head': 'true'}))


def test_weights_of_a_detector_are_not_those_of_a_classifier(tmp_path):
  (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
  (tmp_path / 'config.json').write_text(json.dumps(dict(
      model=dict(name='detr_r50'), task=dict(name='detr_jax.tasks.detection.Detection'), data={})))
  Info('', ('a',), 3, (8, 8)).save(str(tmp_path))
  for use in (lambda run: weights.load('vit_b16', run), weights.load, weights.read):
    with pytest.raises(UserError, match='is a run of a detector, and a classifier is needed'):
      use(str(tmp_path))
  with pytest.raises(UserError, match='is a detector without weights; give the file'):
    vit_jax.load('detr_r50')
