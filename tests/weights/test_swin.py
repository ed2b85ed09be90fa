"""Files of Swin: what they show, what is resampled, and that nothing is lost there and back."""

import jax
import numpy as np
import pytest

import vit_jax
from tests.models import tiny
from vit_jax import models, weights
from vit_jax.errors import UserError
from vit_jax.layers import positions
from vit_jax.weights import safetensors
from vit_jax.weights.families import swin
from vit_jax.weights.table import to_ours, to_theirs

SIZE = (64, 64)
OPEN = dict(width=8, depths=(2, 2, 1, 1), num_heads=(1, 2, 2, 4), window_size=4)
SMALL = dict(OPEN, num_classes=7)
DENSE = dict(OPEN, num_classes=None, map_norms=True)


@pytest.mark.parametrize('name', ['C1_swin_cls', 'C2_swin_dense_odd'])
def test_the_authors_files_come_back_to_the_bit(name, shared):
  with np.load(shared(f'golden/{name}.npz')) as file:
    theirs = {k.removeprefix('weights/'): file[k] for k in file.files if k.startswith('weights/')}
  theirs = {k: v for k, v in theirs.items() if not k.endswith(('relative_position_index', 'attn_mask'))}
  again = to_theirs(swin.AUTHORS, to_ours(swin.AUTHORS, theirs))
  assert again.keys() == theirs.keys()
  for key, value in theirs.items():
    np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize('to, fields', [
    ('authors', SMALL), ('timm', SMALL), ('torchvision', SMALL), ('huggingface', SMALL),
    ('authors', dict(SMALL, absolute_positions=True)), ('authors', dict(SMALL, patch_norm=False)),
    ('authors', dict(SMALL, qkv_bias=False)), ('authors', DENSE), ('huggingface', DENSE)])
def test_what_is_written_is_read_again(to, fields, tmp_path):
  model = models.create_model('swin_t', **fields)
  state, path = tiny.variables(model, SIZE), str(tmp_path / 'w.safetensors')
  weights.export(path, model, state, to)
  got = vit_jax.load('swin_t', path, verbose=False, image_size=SIZE, **OPEN)
  assert got.model == model
  jax.tree.map(np.testing.assert_array_equal, got.variables['params'], state['params'])


def test_biases_of_another_window_are_resampled_as_the_authors_do(tmp_path, capsys):
  small, path = models.create_model('swin_t', **SMALL), str(tmp_path / 'w.safetensors')
  state = tiny.params(small, SIZE)
  weights.export(path, small, {'params': state}, 'authors')
  got = vit_jax.load('swin_t', path, image_size=(96, 96), **{**SMALL, 'window_size': 6})
  name = 'relative_position_bias_table'
  assert f'stage0/block0/attention/{name} 7x7 -> 11x11 by bicubic' in capsys.readouterr().out
  old, new = (np.asarray(p['stage0']['block1']['attention'][name]) for p in (state, got.params))
  want = positions.bicubic(old.reshape(7, 7, -1), (11, 11)).reshape(new.shape)
  np.testing.assert_allclose(new, want, atol=1e-6)
  with pytest.raises(UserError, match='one grid of patches'):
    vit_jax.load('swin_t', path, image_size=SIZE, resize_patches=True, **SMALL)


def test_a_head_of_imagenet22k_gives_its_rows_of_imagenet1k(tmp_path, capsys):
  fields = dict(OPEN, depths=(1, 1), num_heads=(1, 2))
  whole, path = models.create_model('swin_t', **fields, num_classes=21_841), str(tmp_path / 'w.npz')
  state = tiny.params(whole, SIZE)
  path = str(tmp_path / 'w.safetensors')
  weights.export(path, whole, {'params': state}, 'authors')
  got = vit_jax.load('swin_t', path, image_size=SIZE, num_classes=1000, **fields)
  assert 'head 21841 -> 1000 classes' in capsys.readouterr().out
  rows = swin.imagenet22k_rows()
  assert len(set(rows.tolist())) == 1000 and rows.min() >= 0
  np.testing.assert_array_equal(got.params['head']['kernel'],
                                np.asarray(state['head']['kernel'])[:, rows])


def _peer(library):
  """Returns a peer's model of the small fields."""
  if library == 'timm':
    timm = pytest.importorskip('timm', reason='parity with timm: pip install .[peers]')
    return timm.create_model('swin_tiny_patch4_window7_224', img_size=SIZE[0], window_size=4,
                             embed_dim=8, depths=OPEN['depths'], num_heads=OPEN['num_heads'],
                             num_classes=7)
  if library == 'torchvision':
    tv = pytest.importorskip('torchvision', reason='parity with torchvision: pip install .[peers]')
    return tv.models.SwinTransformer([4, 4], 8, list(OPEN['depths']), list(OPEN['num_heads']), [4, 4],
                                     num_classes=7)
  transformers = pytest.importorskip('transformers', reason='parity: pip install .[peers]')
  return transformers.SwinForImageClassification(transformers.SwinConfig(
      image_size=128, embed_dim=8, depths=list(OPEN['depths']), num_heads=list(OPEN['num_heads']),
      window_size=4, num_labels=7))


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
  path = str(tmp_path / 'w.safetensors')
  if library == 'transformers':  # whose files have other names than its `state_dict`
    model.save_pretrained(tmp_path)
    path = str(tmp_path / 'model.safetensors')
  else:
    safetensors.write(path, {k: v.numpy().copy() for k, v in model.state_dict().items()})
  theirs = safetensors.read(path)
  # At 64 pixels the last map is smaller than a window: torchvision pads it, transformers fails.
  size = SIZE if library == 'timm' else (128, 128)
  image = np.asarray(tiny.images(size))
  with torch.no_grad():
    want = model(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
  want = getattr(want, 'logits', want).numpy()
  got = vit_jax.load('swin_t', path, verbose=False, image_size=size, **OPEN)
  np.testing.assert_allclose(tiny.apply(got.model, got.params, image), want,
                             atol=2e-5 * np.abs(want).max())
  weights.export(path, got.model, {'params': got.params},
                 dict(transformers='huggingface').get(library, library))
  again = safetensors.read(path)
  assert again.keys() == {k for k in theirs if not k.endswith(('position_index', 'attn_mask'))}
  for key, value in again.items():  # tables of windows that were shrunk are smaller
    if value.shape == theirs[key].shape:
      np.testing.assert_array_equal(value, theirs[key])
