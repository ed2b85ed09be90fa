"""Which named model a file is of."""

import sys

import numpy as np
import pytest

import vit_jax
from tests.models import tiny
from vit_jax import convert, models, trees, weights
from vit_jax.errors import UserError
from vit_jax.weights import guess, npz
from vit_jax.weights.families import google, huggingface, timm


def shapes(name, **options):
  """Returns the shapes of a model's variables at the size of its variant, layers one by one."""
  model = models.create_model(name, **options)
  found = weights.variable_shapes(model, models.variant(name).image_size, 3)
  return trees.unstack(weights.flatten(found))


@pytest.mark.parametrize('name', [
    'vit_ti16', 'vit_s32', 'vit_b8', 'r_ti16', 'r26_s32', 'r50_b16', 'mixer_s16', 'mixer_b32',
    'bit_r50x1', 'resnet18', 'resnet34', 'resnet50', 'resnet20_cifar', 'resnet50_gn'])
def test_names_and_shapes_tell_the_model(name):
  assert guess.candidates(shapes(name), google.GOOGLE) == [name]


@pytest.mark.parametrize('name, table, want', [
    ('deit_s16', timm.TIMM, ['vit_s16', 'deit_s16']),
    ('vit_s16', huggingface.HUGGINGFACE, ['vit_s16', 'deit_s16']),
    ('deit_b16_384', timm.TIMM, ['vit_b16', 'deit_b16_384']),
    ('deit_ti16_distilled', timm.DEIT, ['deit_ti16_distilled']),
    ('deit3_s16_384', timm.DEIT, ['deit3_s16_384']), ('deit3_s16', timm.TIMM, ['deit3_s16'])])
def test_what_differs_in_more_than_its_parameters_stays_open(name, table, want):
  assert guess.candidates(shapes(name), table) == want


def test_a_backbone_is_known_too():
  assert guess.candidates(shapes('vit_ti16', num_classes=None), google.GOOGLE) == ['vit_ti16']


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """Returns (variables of a ViT-Ti/16, its .npz file, the same in timm's names)."""
  folder, model = tmp_path_factory.mktemp('guess'), models.create_model('vit_ti16', num_classes=5)
  variables, paths = tiny.variables(model, (32, 32)), [str(folder / f'w.{kind}') for kind in (
      'npz', 'safetensors')]
  for path, to in zip(paths, ('npz', 'timm')):
    weights.export(path, model, variables, to)
  return variables, *paths


def test_a_file_that_shows_its_model_needs_no_name(files):
  got = vit_jax.load(files[1], verbose=False)
  assert got.model == models.create_model('vit_ti16', num_classes=5)
  np.testing.assert_array_equal(got.params['cls'], files[0]['params']['cls'])
  assert got.info.image_size == (32, 32) and got.info.eval_crop == dict(name='center', ratio=.875)


def test_a_file_that_may_be_of_several_models_names_them(files):
  said = r"may be of vit_ti16 or deit_ti16, which .* vit_jax.load\('vit_ti16', '.*w.safetensors', ...\)"
  with pytest.raises(UserError, match=said + ', or --model'):
    vit_jax.load(files[2])


def test_converting_needs_no_name_where_the_result_is_the_same(files, tmp_path, monkeypatch, capsys):
  out = str(tmp_path / 'again.npz')
  monkeypatch.setattr(sys, 'argv', ['convert', files[2], out])
  convert.main()
  assert 'wrote 5,' in capsys.readouterr().out
  want, got = npz.read(files[1]), npz.read(out)
  assert want.keys() == got.keys()
  for name, array in want.items():
    np.testing.assert_array_equal(got[name], array)
