"""Files of ConvNeXt: what they show, and that nothing is lost on the way there and back."""

import jax
import numpy as np
import pytest

import vit_jax
from tests.models import tiny
from vit_jax import models, weights
from vit_jax.weights import safetensors
from vit_jax.weights.families import convnext
from vit_jax.weights.table import to_ours, to_theirs

SIZE = (40, 48)
SMALL = dict(widths=(8, 12, 16, 24), depths=(1, 2, 1, 1), num_classes=7)
OPEN = {k: v for k, v in SMALL.items() if k != 'num_classes'}


@pytest.mark.parametrize('name, table', [
    ('cls', convnext.AUTHORS), ('dense', convnext.AUTHORS),
    ('isotropic_a', convnext.AUTHORS_ISOTROPIC)])
def test_the_authors_files_come_back_to_the_bit(name, table, shared):
  with np.load(shared(f'golden/D1_convnext_{name}.npz')) as file:
    theirs = {k.removeprefix('weights/'): file[k] for k in file.files if k.startswith('weights/')}
  again = to_theirs(table, to_ours(table, theirs))
  assert again.keys() == theirs.keys()
  for key, value in theirs.items():
    np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize('to, name, fields', [
    ('authors', 'convnext_t', SMALL), ('timm', 'convnext_t', SMALL),
    ('huggingface', 'convnext_t', SMALL),
    ('torchvision', 'convnext_t', SMALL), ('authors', 'convnext_t', dict(SMALL, layer_scale=None)),
    ('authors', 'convnext_t', dict(OPEN, num_classes=None, map_norms=True)),
    ('huggingface', 'convnext_t', dict(OPEN, num_classes=None, map_norms=True)),
    ('authors', 'convnext_iso_s', dict(widths=(8,), depths=(2,), num_classes=7))])
def test_what_is_written_is_read_again(to, name, fields, tmp_path):
  model = models.create_model(name, **fields)
  state, path = tiny.variables(model, SIZE), str(tmp_path / 'w.safetensors')
  weights.export(path, model, state, to)
  own = {k: v for k, v in fields.items() if k in OPEN}
  got = vit_jax.load(name, path, verbose=False, **own)
  assert got.model == model
  jax.tree.map(np.testing.assert_array_equal, got.variables['params'], state['params'])


def test_a_segmenters_backbone_starts_a_dense_model(tmp_path):
  dense = models.create_model('convnext_t', **OPEN, num_classes=None, map_norms=True)
  state = tiny.variables(dense, SIZE)
  path = str(tmp_path / 'w.safetensors')
  safetensors.write(path, {f'backbone.{k}': v for k, v in to_theirs(
      convnext.AUTHORS, weights.flatten(state)).items()})
  got = vit_jax.load('convnext_t', path, verbose=False, **OPEN)
  assert got.model == dense
  jax.tree.map(np.testing.assert_array_equal, got.params, state['params'])


def _peer(library):
  """Returns a peer's model of the small fields, and the name of its format."""
  if library == 'timm':
    timm = pytest.importorskip('timm', reason='parity with timm: pip install .[peers]')
    return timm.create_model('convnext_tiny', num_classes=7, **{
        name: SMALL[ours] for name, ours in (('dims', 'widths'), ('depths', 'depths'))})
  if library == 'torchvision':
    tv = pytest.importorskip('torchvision', reason='parity with torchvision: pip install .[peers]')
    rows = zip(SMALL['widths'], (*SMALL['widths'][1:], None), SMALL['depths'])
    setting = tv.models.convnext.CNBlockConfig
    return tv.models.ConvNeXt([setting(*row) for row in rows], num_classes=7)
  transformers = pytest.importorskip('transformers', reason='parity: pip install .[peers]')
  return transformers.ConvNextForImageClassification(transformers.ConvNextConfig(
      hidden_sizes=list(SMALL['widths']), depths=list(SMALL['depths']), num_labels=7,
      layer_norm_eps=1e-6))


@pytest.mark.parametrize('library', ['timm', 'torchvision', 'transformers'])
def test_peers_give_the_same(library, tmp_path):
  torch = pytest.importorskip('torch', reason='parity with peers: pip install .[peers]')
  for name in ('nms', 'qnms'):  # torchvision's compiled part may be absent
    try:
      torch.library.define(f'torchvision::{name}', '(Tensor dets, Tensor scores, float iou) -> Tensor')
    except RuntimeError:
      pass
  model = _peer(library).eval()
  rng = np.random.default_rng(0)
  with torch.no_grad():
    for value in model.parameters():
      value.add_(torch.from_numpy(rng.normal(size=value.shape).astype(np.float32)), alpha=.2)
  theirs = {k: v.numpy() for k, v in model.state_dict().items()}
  path = str(tmp_path / 'w.safetensors')
  safetensors.write(path, theirs)
  image = np.asarray(tiny.images(SIZE))
  with torch.no_grad():
    want = model(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
  want = getattr(want, 'logits', want).numpy()
  got = vit_jax.load('convnext_t', path, verbose=False, **OPEN)
  np.testing.assert_allclose(tiny.apply(got.model, got.params, image), want,
                             atol=2e-5 * np.abs(want).max())
  to = dict(transformers='huggingface').get(library, library)
  weights.export(path, got.model, {'params': got.params}, to)
  again = safetensors.read(path)
  assert again.keys() == theirs.keys()
  for key, value in theirs.items():
    np.testing.assert_array_equal(again[key], value)
