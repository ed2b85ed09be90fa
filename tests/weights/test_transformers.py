"""transformers reads what we write, and we read what it saves, with equal logits; extra `peers`."""

import os

import jax
import numpy as np
import pytest

import vit_jax
from tests.models import tiny
from vit_jax import models, weights

_WHY = 'parity with transformers: pip install .[peers]'
torch = pytest.importorskip('torch', reason=_WHY)
for _name in ('nms', 'qnms'):  # torchvision's compiled part may be absent
  try:
    torch.library.define(f'torchvision::{_name}', '(Tensor dets, Tensor scores, float iou) -> Tensor')
  except RuntimeError:
    pass
transformers = pytest.importorskip('transformers', reason=_WHY)

SIZE = (32, 48)
OURS = dict(width=48, depth=2, num_heads=3, mlp_dim=96, num_classes=7)
THEIRS = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
              image_size=SIZE, patch_size=16, num_labels=7)
# Name of ours, name of their model and configuration, what ours has beside OURS.
MODELS = [
    ('vit_ti16', 'ViTForImageClassification', 'ViTConfig', dict()),
    ('deit_ti16_distilled', 'DeiTForImageClassificationWithTeacher', 'DeiTConfig', dict()),
    ('deit_ti16_distilled', 'DeiTForImageClassification', 'DeiTConfig', dict(fusion='class'))]
parametrize = pytest.mark.parametrize('name, their_name, config, fields', MODELS)


def theirs(their_name, config, **options):
  """Returns a model of transformers in which no parameter is 0 or 1."""
  config = getattr(transformers, config)(**THEIRS, **options)
  model, rng = getattr(transformers, their_name)(config).eval(), np.random.default_rng(0)
  with torch.no_grad():
    for value in model.parameters():
      noise = torch.from_numpy(rng.normal(size=value.shape).astype(np.float32))
      value.add_(noise, alpha=.1 if value.ndim > 1 else .3)
  return model


def assert_same_logits(ours, variables, model):
  """The tolerance is a share of the largest logit; the other form of GELU is 5e-4 away."""
  image = np.asarray(tiny.images(SIZE))
  with torch.no_grad():
    want = model(torch.from_numpy(image.transpose(0, 3, 1, 2).copy())).logits.numpy()
  np.testing.assert_allclose(tiny.apply(ours, variables, image), want, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize('form', ['save_pretrained', 'folder', 'shards', 'state_dict', 'legacy'])
@parametrize
def test_we_read_what_transformers_saves(name, their_name, config, fields, form, tmp_path):
  model, path = theirs(their_name, config), str(tmp_path / 'model.safetensors')
  if form in ('folder', 'shards'):
    path = str(tmp_path)
    model.save_pretrained(path, max_shard_size='50KB' if form == 'shards' else '1GB')
    assert os.path.exists(tmp_path / 'model.safetensors.index.json') == (form == 'shards')
  elif form == 'save_pretrained':
    model.save_pretrained(tmp_path)
  else:
    path = str(tmp_path / 'pytorch_model.bin')
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=form != 'legacy')
  got = vit_jax.load(name, path, image_size=SIZE, verbose=False, **OURS)
  assert got.model.layer_norm_eps == 1e-12 and got.model.gelu == 'erf'
  assert got.model.fusion == fields.get('fusion', 'logits')
  assert_same_logits(got.model, got.variables, model)


@pytest.mark.parametrize('gelu, eps', [('erf', 1e-12), ('tanh', 1e-6)])
@parametrize
def test_transformers_reads_what_we_write(name, their_name, config, fields, gelu, eps, tmp_path):
  ours = models.create_model(name, **OURS, **fields, gelu=gelu, layer_norm_eps=eps)
  variables = jax.tree.map(lambda v: .3 * v if v.ndim > 1 else v, tiny.variables(ours, SIZE))
  notes = ' '.join(weights.export(str(tmp_path / 'model.safetensors'), ours, variables, 'huggingface'))
  act = dict(erf='gelu', tanh='gelu_pytorch_tanh')[gelu]
  assert f'layer_norm_eps={eps}' in notes and ('gelu_pytorch_tanh' in notes) == (gelu == 'tanh')
  options = dict(hidden_act=act, layer_norm_eps=eps)
  theirs(their_name, config, **options).config.save_pretrained(tmp_path)
  model, report = getattr(transformers, their_name).from_pretrained(tmp_path, output_loading_info=True)
  assert not any(report.values()), report
  assert_same_logits(ours, variables, model.eval())


def test_the_config_of_a_folder_says_what_its_weights_do_not(tmp_path):
  model = theirs('ViTForImageClassification', 'ViTConfig', hidden_act='gelu_pytorch_tanh',
                 layer_norm_eps=1e-3, id2label={i: f'kind {i}' for i in range(7)})
  model.save_pretrained(tmp_path)
  got = vit_jax.load('vit_ti16', str(tmp_path), verbose=False, **{
      k: v for k, v in OURS.items() if k not in ('num_classes', 'num_heads')})
  assert got.info.image_size == SIZE and got.info.classes[6] == 'kind 6'
  assert_same_logits(got.model, got.variables, model)


def test_a_model_without_a_head_is_a_backbone(tmp_path):
  model = theirs('ViTModel', 'ViTConfig')
  model.save_pretrained(tmp_path)
  got = vit_jax.load('vit_ti16', str(tmp_path / 'model.safetensors'), image_size=SIZE, verbose=False,
                     **{**OURS, 'num_classes': None})
  image = np.asarray(tiny.images(SIZE))
  with torch.no_grad():
    want = model(torch.from_numpy(image.transpose(0, 3, 1, 2).copy())).last_hidden_state.numpy()
  features = tiny.apply(got.model, got.variables, image)
  atol = 2e-5 * np.abs(want).max()
  np.testing.assert_allclose(features.tokens, want[:, :1], atol=atol)
  np.testing.assert_allclose(features.maps[0].reshape(2, -1, 48), want[:, 1:], atol=atol)
