"""Files of NAT and DiNAT: what they show, and that nothing is lost on the way there and back."""

import json

import jax
import numpy as np
import pytest

import vit_jax
from tests.models import tiny
from vit_jax import models, trees, weights
from vit_jax.errors import UserError
from vit_jax.layers import positions
from vit_jax.weights import guess, safetensors
from vit_jax.weights.families import nat
from vit_jax.weights.table import to_ours, to_theirs

SIZE = (32, 48)
SMALL = dict(width=16, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), kernel_size=3, num_classes=7)
DILATIONS = dict(dilations=((1, 2), (2,), (1,), (1,)))


def weights_of(path):
  """Returns the weights in a golden file."""
  with np.load(path) as archive:
    return {k.removeprefix('weights/'): archive[k] for k in archive.files if k.startswith('weights/')}


@pytest.mark.parametrize('name', ['nat', 'dinat'])
def test_the_authors_files_come_back_to_the_bit(name, shared):
  theirs = weights_of(shared(f'golden/D2_{name}_cls.npz'))
  again = to_theirs(nat.AUTHORS, to_ours(nat.AUTHORS, theirs))
  assert again.keys() == theirs.keys()
  for key, value in theirs.items():
    np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize('to', ['authors', 'huggingface'])
@pytest.mark.parametrize('fields', [
    {}, dict(layer_scale=1e-5), dict(num_classes=None), dict(num_classes=None, map_norms=True),
    dict(qkv_bias=False)])
def test_what_is_written_is_read_again(fields, to, tmp_path):
  model = models.create_model('dinat_mini', **{**SMALL, **DILATIONS, **fields})
  state, path = tiny.variables(model, SIZE), str(tmp_path / 'w.safetensors')
  weights.export(path, model, state, to)
  open_fields = {k: v for k, v in {**SMALL, **DILATIONS}.items() if k != 'num_classes'}
  got = vit_jax.load('dinat_mini', path, verbose=False, **open_fields)
  assert got.model == model
  jax.tree.map(np.testing.assert_array_equal, got.variables['params'], state['params'])


def shapes(name, **options):
  found = weights.variable_shapes(models.create_model(name, **options), (224, 224), 3)
  return trees.unstack(weights.flatten(found))


@pytest.mark.parametrize('name, want', [
    ('nat_small', ['nat_small']), ('dinat_small', ['dinat_small']),
    ('nat_mini', ['nat_mini', 'dinat_mini']),
    ('dinat_large_384_11x11', ['dinat_large_384_11x11']),
    ('dinat_large', ['dinat_large', 'dinat_large_384'])])
def test_no_file_tells_the_dilations(name, want):
  assert guess.candidates(shapes(name), nat.AUTHORS) == want


def test_a_backbone_of_a_detector_is_read_below_its_prefix(tmp_path, capsys):
  dense = models.create_model('nat_mini', **{**SMALL, 'num_classes': None, 'map_norms': True})
  state = tiny.variables(dense, SIZE)
  theirs = to_theirs(nat.AUTHORS, weights.flatten(state))
  assert {'norm0.weight', 'norm3.bias'} <= theirs.keys()
  path = str(tmp_path / 'w.safetensors')
  safetensors.write(path, {f'backbone.{k}': v for k, v in theirs.items()})
  fields = {k: v for k, v in SMALL.items() if k != 'num_classes'}
  got = vit_jax.load('nat_mini', path, verbose=False, **fields)
  assert got.model == dense
  jax.tree.map(np.testing.assert_array_equal, got.params, state['params'])
  # A classifier's weights start a dense model, whose norms are new.
  whole = models.create_model('nat_mini', **SMALL)
  weights.export(path, whole, tiny.variables(whole, SIZE), 'authors')
  got = vit_jax.load('nat_mini', path, num_classes=None, map_norms=True, **fields)
  assert 'reinitialised: norm0/' in capsys.readouterr().out
  np.testing.assert_array_equal(got.params['norm0']['scale'], 1.)


def test_biases_of_another_kernel_size_are_resampled_as_the_authors_do(tmp_path, capsys):
  small, path = models.create_model('nat_mini', **SMALL), str(tmp_path / 'w.safetensors')
  state = tiny.params(small, SIZE)
  weights.export(path, small, {'params': state}, 'authors')
  got = vit_jax.load('nat_mini', path, **{**SMALL, 'kernel_size': 5})
  assert 'level0/layer0/attention/relative_bias 5x5 -> 9x9 by bicubic' in capsys.readouterr().out
  old, new = (p['level1']['layer0']['attention']['relative_bias'] for p in (state, got.params))
  want = positions.bicubic(np.asarray(old).transpose(1, 2, 0), (9, 9)).transpose(2, 0, 1)
  np.testing.assert_allclose(new, want, atol=1e-6)
  with pytest.raises(UserError, match='cuts its image into patches'):
    vit_jax.load('nat_mini', path, resize_patches=True, **SMALL)


def natten(torch):
  """Returns what transformers asks of natten, by definition.

  Its version 5 hands over `[n, w, h, heads, c]`, where natten reads `[n, heads, h, w, c]`.
  """
  def windows(length, kernel, dilation):
    out = []
    for i in range(length):
      at, cls = divmod(i, dilation)
      first = min(max(at - kernel // 2, 0), (length - cls - 1) // dilation + 1 - kernel)
      out.append([(first + n) * dilation + cls for n in range(kernel)])
    return torch.tensor(out)

  def places(x, kernel, dilation):
    rows, columns = (windows(n, kernel, dilation) for n in x.shape[2:4])
    return rows[:, None, :, None], columns[None, :, None, :]

  turned = lambda x: x.permute(0, 3, 2, 1, 4)

  def scores(query, key, bias, kernel, dilation):
    query, key = turned(query), turned(key)
    rows, columns = places(query, kernel, dilation)
    y, x = (torch.arange(n) for n in query.shape[2:4])
    found = torch.einsum('nhyxc,nhyxijc->nhyxij', query, key[:, :, rows, columns])
    found = found + bias[:, (rows - y[:, None, None, None]) // dilation + kernel - 1,
                         (columns - x[None, :, None, None]) // dilation + kernel - 1]
    return found.flatten(4)

  def values(weights, value, kernel, dilation):
    value = turned(value)
    found = value[:, :, *places(value, kernel, dilation)]
    return torch.einsum('nhyxk,nhyxkc->nhyxc', weights, found.flatten(4, 5))

  return scores, values


@pytest.fixture
def theirs(monkeypatch):
  """Returns transformers' module of DiNAT, with `natten` by definition, and torch."""
  torch = pytest.importorskip('torch', reason='parity with transformers: pip install .[peers]')
  for name in ('nms', 'qnms'):  # torchvision's compiled part may be absent
    try:
      torch.library.define(f'torchvision::{name}', '(Tensor dets, Tensor scores, float iou) -> Tensor')
    except RuntimeError:
      pass
  pytest.importorskip('transformers', reason='parity with transformers: pip install .[peers]')
  from transformers.models.dinat import modeling_dinat
  scores, values = natten(torch)
  monkeypatch.setattr(modeling_dinat, 'natten2dqkrpb', scores)
  monkeypatch.setattr(modeling_dinat, 'natten2dav', values)
  monkeypatch.setattr(modeling_dinat, 'requires_backends', lambda *_: None)
  return modeling_dinat, torch


@pytest.mark.parametrize('dense', [False, True])
@pytest.mark.parametrize('scale', [0., 1e-5])
def test_transformers_gives_the_same(dense, scale, theirs, tmp_path):
  module, torch = theirs
  stages = dict(out_features=[f'stage{i}' for i in range(1, 5)]) if dense else {}
  config = module.DinatConfig(embed_dim=16, depths=[2, 1, 1, 1], num_heads=[1, 2, 2, 4], kernel_size=3,
                              dilations=[[1, 2], [2], [1], [1]], num_labels=7,
                              layer_scale_init_value=scale, **stages)
  model = (module.DinatBackbone if dense else module.DinatForImageClassification)(config).eval()
  rng = np.random.default_rng(0)
  with torch.no_grad():
    for value in model.parameters():
      value.add_(torch.from_numpy(rng.normal(size=value.shape).astype(np.float32)), alpha=.2)
  model.save_pretrained(tmp_path)
  image = np.asarray(tiny.images(SIZE))
  with torch.no_grad():
    want = model(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
  fields = {k: v for k, v in SMALL.items() if k != 'num_classes'}
  got = vit_jax.load('dinat_mini', str(tmp_path), verbose=False, **fields)
  assert got.model.dilations == DILATIONS['dilations'] and got.model.map_norms == dense
  ours = tiny.apply(got.model, got.params, image)
  pairs = zip(ours.maps, want.feature_maps) if dense else [(ours, want.logits)]
  for x, y in pairs:
    y = y.numpy().transpose(0, 2, 3, 1) if dense else y.numpy()
    np.testing.assert_allclose(x, y, atol=2e-5 * np.abs(y).max())
  path = str(tmp_path / 'again.safetensors')
  weights.export(path, got.model, {'params': got.params}, 'huggingface')
  state = {k: torch.from_numpy(np.array(v)) for k, v in safetensors.read(path).items()}
  assert not model.load_state_dict(state, strict=True).missing_keys


def test_a_damaged_description_is_told(tmp_path):
  model = models.create_model('dinat_mini', **SMALL, **DILATIONS)
  weights.export(str(tmp_path / 'model.safetensors'), model, tiny.variables(model, SIZE), 'huggingface')
  (tmp_path / 'config.json').write_text(json.dumps(dict(model_type='dinat', dilations=[1, 2])))
  with pytest.raises(UserError, match='does not describe a model'):
    vit_jax.load('dinat_mini', str(tmp_path))
