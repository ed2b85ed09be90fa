"""Weights in folders and in parts, as the Hugging Face hub and `git clone` leave them."""

import json
import os

import numpy as np
import pytest

import vit_jax
from tests.models import tiny
from tests.weights.test_containers import ARRAYS, make_torch, write_torch
from vit_jax import files, models, weights
from vit_jax.errors import UserError
from vit_jax.weights import containers, safetensors

FIELDS = dict(width=16, depth=2, num_heads=2, mlp_dim=24, patch_size=4, num_classes=5)
LFS = b'version https://git-lfs.github.com/spec/v1\noid sha256:aaaa\nsize 22883148\n'
HALVES = ('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')


def sharded(folder, arrays, index=True, change=lambda content: content):
  """Writes arrays as two parts, with an index that `change` alters."""
  os.makedirs(folder, exist_ok=True)
  names = list(arrays)
  parts = names[:len(names) // 2], names[len(names) // 2:]
  for file, own in zip(HALVES, parts, strict=True):
    safetensors.write(os.path.join(folder, file), {name: arrays[name] for name in own})
  where = {name: file for file, own in zip(HALVES, parts, strict=True) for name in own}
  if index:
    with open(os.path.join(folder, 'model.safetensors.index.json'), 'w') as file:
      file.write(json.dumps(change(dict(metadata=dict(total_size=1), weight_map=where))))
  return folder


def assert_read(path):
  got = containers.read(str(path))
  assert got.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize('index', [True, False])
@pytest.mark.parametrize('named', ['', *HALVES, 'model.safetensors.index.json'])
def test_all_parts_are_read_whichever_is_named(index, named, tmp_path):
  sharded(str(tmp_path), ARRAYS, index)
  if index or not named.endswith('.json'):
    assert_read(tmp_path / named)


@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
def test_a_folder_stands_for_its_file(name, tmp_path):
  if name.endswith('.bin'):
    write_torch(str(tmp_path / name), ARRAYS, make_torch(), wrap=lambda tensors: tensors)
  else:
    safetensors.write(str(tmp_path / name), ARRAYS)
  assert files.hub_file(str(tmp_path)) == name
  assert_read(tmp_path)


def test_parts_may_be_links_as_in_the_cache_of_the_hub(tmp_path):
  sharded(str(tmp_path / 'blobs'), ARRAYS)
  os.makedirs(tmp_path / 'snapshot')
  for name in os.listdir(tmp_path / 'blobs'):
    os.symlink(tmp_path / 'blobs' / name, tmp_path / 'snapshot' / name)
  assert_read(tmp_path / 'snapshot')


def moved(to):
  return lambda content: dict(content, weight_map={**content['weight_map'], 'b': to})


@pytest.mark.parametrize('change, said', [
    (moved('../secret.safetensors'), r"names '\.\./secret.safetensors', .* only files in the same"),
    (moved('/etc/passwd'), "names '/etc/passwd', which is not a file beside it"),
    (moved('..'), r"names '\.\.'"), (moved(''), "names ''"),
    (moved('a\0b'), 'which is not a file beside'),
    (moved('model-00003-of-00002.safetensors'), 'in 3 files, of which 1 are missing .model-00003'),
    (moved(HALVES[1]), '1 arrays are not in the file that the index says, .* .b.; fetch all'),
    (lambda content: {}, 'is not a readable index of weights .*weight_map'),
    (lambda content: dict(weight_map={}), 'weight_map names no files'),
    (lambda content: dict(weight_map={'b': 3}), 'weight_map names no files'),
    (lambda content: dict(weight_map=[HALVES[0]]), 'is not a readable index of weights'),
    (lambda content: [], 'is not a readable index of weights'),
    (lambda content: dict(weight_map={'b': HALVES[0]}), '1 arrays are not in the file')])
def test_an_index_that_is_wrong_is_refused(change, said, tmp_path):
  sharded(str(tmp_path / 'model'), ARRAYS, change=change)
  safetensors.write(str(tmp_path / 'secret.safetensors'), {'b': ARRAYS['b']})
  with pytest.raises(UserError, match=said):
    containers.read(str(tmp_path / 'model'))


def test_keys_that_stand_twice_are_refused(tmp_path):
  sharded(str(tmp_path), ARRAYS)
  index = tmp_path / 'model.safetensors.index.json'
  index.write_text(index.read_text().replace('"weight_map": {', f'"weight_map": {{"b": "{HALVES[1]}", '))
  with pytest.raises(UserError, match="is not a readable index of weights .'b' stands in it twice"):
    containers.read(str(tmp_path))
  os.remove(index)
  safetensors.write(str(tmp_path / HALVES[1]), ARRAYS)  # has what the first part has
  with pytest.raises(UserError, match='two of its files have a.weight'):
    containers.read(str(tmp_path))


@pytest.mark.parametrize('name', ['model-00000-of-00002.safetensors',
                                  'model-00001-of-99999.safetensors'])
def test_parts_that_cannot_be_are_refused(name, tmp_path):
  safetensors.write(str(tmp_path / name), ARRAYS)
  with pytest.raises(UserError, match='is named as part . of .*; put all parts into it'):
    containers.read(str(tmp_path / name))


def test_a_part_that_is_missing_is_named(tmp_path):
  sharded(str(tmp_path), ARRAYS)
  os.remove(tmp_path / HALVES[1])
  for named in ('', HALVES[0], 'model.safetensors.index.json'):
    with pytest.raises(UserError, match='in 2 files, of which 1 are missing .model-00002-of-00002'):
      containers.read(str(tmp_path / named))


@pytest.mark.parametrize('content, said', [
    (LFS, 'is a pointer of Git LFS and not the file itself; run "git lfs pull"'),
    (b'<!DOCTYPE html>\n<html>', 'is a web page and not weights'),
    (b'\n <HTML><body>404', 'is a web page'), (b'\x1f\x8b\x08' + bytes(20), 'is compressed; unpack'),
    (b'\x89HDF\r\n\x1a\n' + bytes(20), 'is an HDF5 file')])
@pytest.mark.parametrize('name', [
    'w.npz', 'w.safetensors', 'w.pth', 'model.safetensors', 'pytorch_model.bin', HALVES[1],
    'model.safetensors.index.json'])
def test_what_stands_in_place_of_weights_is_told(name, content, said, tmp_path):
  sharded(str(tmp_path), ARRAYS, index=name != HALVES[1])
  (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match=said) as error:
    containers.read(str(tmp_path / name))
  assert name in str(error.value)


def test_a_folder_without_weights_names_what_it_has(tmp_path):
  (tmp_path / 'other.npz').write_bytes(b'')
  with pytest.raises(UserError, match='no checkpoints/STEP of a run and no model.safetensors or '
                                      'pytorch_model.bin; give one of its files .other.npz.'):
    containers.read(str(tmp_path))


@pytest.fixture
def folder(tmp_path):
  """Returns a function that writes a ViT as transformers or timm do: (folder, variables)."""
  def write(to, config, processor=None, size=(16, 16), **options):
    model = models.create_model('vit_ti16', **{**FIELDS, **options})
    variables = tiny.variables(model, size)
    weights.export(str(tmp_path / 'model.safetensors'), model, variables, to)
    (tmp_path / 'config.json').write_text(json.dumps(config))
    if processor:
      (tmp_path / 'preprocessor_config.json').write_text(json.dumps(processor))
    return str(tmp_path), model, variables
  return write


def loaded(path, **options):
  fields = {k: v for k, v in FIELDS.items() if k not in ('num_heads', 'num_classes')}
  return vit_jax.load('vit_ti16', path, verbose=False, **{**fields, **options})


def test_the_config_beside_weights_says_what_their_names_do_not(folder):
  config = dict(model_type='vit', hidden_act='gelu_pytorch_tanh', layer_norm_eps=1e-5,
                image_size=[8, 32], num_attention_heads=4,
                id2label={str(i): f'kind {i}' for i in range(5)})
  processor = dict(image_mean=[.4] * 3, image_std=[.2] * 3, resample=3, do_center_crop=False)
  path, model, variables = folder('huggingface', config, processor, (8, 32), num_heads=4,
                                  layer_norm_eps=1e-5)
  got = loaded(path)
  assert got.model == model.clone(distillation_token=False)
  assert got.info.image_size == (8, 32) and got.info.classes[4] == 'kind 4'
  assert (got.info.mean, got.info.std, got.info.interpolation) == ((.4,) * 3, (.2,) * 3, 'bicubic')
  assert got.info.eval_crop == dict(name='squash')
  image = tiny.images((8, 32))
  np.testing.assert_allclose(tiny.apply(got.model, got.variables, image),
                             tiny.apply(model, variables, image), atol=1e-5)


def test_what_timm_writes_beside_weights(folder):
  config = dict(architecture='vit_tiny_patch16_224', global_pool='avg', pretrained_cfg=dict(
      mean=[.485, .456, .406], std=[.229, .224, .225], crop_pct=.9, interpolation='bicubic',
      input_size=[3, 8, 32]))
  path, model, variables = folder('timm', config, size=(8, 32), pool='mean',
                                  class_token=True, gelu='erf')
  got = loaded(path, num_heads=2)
  assert got.model == model
  assert got.info.mean[0] == .485 and got.info.eval_crop == dict(name='center', ratio=.9)


@pytest.mark.parametrize('config, said', [
    (dict(model_type='vit', hidden_act='quick_gelu'), "hidden_act='quick_gelu', which no model"),
    (dict(model_type='vit', layer_norm_eps='small'), 'config.json does not describe a model'),
    (dict(model_type='vit', id2label=[1]), 'config.json does not describe a model')])
def test_a_config_that_cannot_be_followed_is_told(config, said, folder):
  with pytest.raises(UserError, match=said):
    loaded(folder('huggingface', config)[0])


def test_a_config_without_meaning_changes_nothing(folder):
  path, _, variables = folder('timm', [1, 2])
  got = loaded(path, num_heads=2)
  np.testing.assert_array_equal(got.params['cls'], variables['params']['cls'])
  with open(os.path.join(path, 'config.json'), 'w') as file:
    file.write('{"model_type": ')
  with pytest.raises(UserError, match='config.json is damaged'):
    loaded(path)
