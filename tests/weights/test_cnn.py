"""Files of convolutional networks: torchvision's and timm's, both ways."""

import jax
import numpy as np
import pytest

import vit_jax
from tests.models import tiny
from vit_jax import models, pretrained, weights
from vit_jax.errors import UserError
from vit_jax.weights import safetensors
from vit_jax.weights.families import regnet
from vit_jax.weights.table import to_ours, to_theirs

SIZE = (64, 96)  # timm's HRNet takes multiples of 32 alone
REGNET = dict(widths=(16, 24, 32, 48), depths=(1, 2, 1, 1), group_widths=(8, 8, 16, 16), stem_width=8)
EFFICIENTNET = dict(stem_width=8, widths=(8, 12, 16, 16, 24, 24, 32), depths=(1, 2, 1, 1, 1, 1, 1),
                    last_width=40)


def test_torchvisions_file_comes_back_to_the_bit(shared):
  with np.load(shared('golden/I3_regnet_x_y.npz')) as file:
    theirs = {k.removeprefix('weights/'): file[k] for k in file.files if k.startswith('weights/')}
  again = to_theirs(regnet.TORCHVISION, to_ours(regnet.TORCHVISION, theirs))
  assert again.keys() == {key for key in theirs if 'num_batches' not in key}
  for key, value in again.items():
    np.testing.assert_array_equal(theirs[key], value)


@pytest.mark.parametrize('to, name, fields', [
    ('timm', 'regnety_400mf', REGNET), ('torchvision', 'regnety_400mf', REGNET),
    ('timm', 'regnetx_400mf', REGNET), ('timm', 'efficientnet_b0', EFFICIENTNET),
    ('torchvision', 'efficientnet_b0', dict(EFFICIENTNET, padding='symmetric', epsilon=1e-5,
                                            momentum=.9))])
def test_what_is_written_is_read_again(to, name, fields, tmp_path):
  model = models.create_model(name, **fields, num_classes=7)
  state, path = tiny.variables(model, SIZE), str(tmp_path / 'w.safetensors')
  weights.export(path, model, state, to)
  own = {k: v for k, v in fields.items() if k in REGNET or k in EFFICIENTNET}
  got = vit_jax.load(name, path, verbose=False, **own)
  assert got.model == model
  jax.tree.map(np.testing.assert_array_equal, got.variables, state)


def test_no_torchvision_file_has_the_papers_padding(tmp_path):
  model = models.create_model('efficientnet_b0', **EFFICIENTNET)
  with pytest.raises(UserError, match='torchvision'):
    weights.export(str(tmp_path / 'w.safetensors'), model, tiny.variables(model, SIZE), 'torchvision')


def test_deits_teacher_has_a_name():
  teacher = pretrained.PRETRAINED['regnety_16gf.deit_teacher']
  assert models.variant(teacher.model).parameters == 83_590_140
  assert teacher.url.endswith('/deit/regnety_160-a5fe301d.pth')


def _peer(library, name):
  """Returns a peer's network under one of our names; its own size, as its file tells the name."""
  if library == 'timm':
    timm = pytest.importorskip('timm', reason='parity with timm: pip install .[peers]')
    return timm.create_model(dict(regnety_400mf='regnety_004', efficientnet_b0='tf_efficientnet_b0',
                                  regnety_4gf='regnety_040', resnet50_c='resnet50c').get(name, name),
                             num_classes=7)
  tv = pytest.importorskip('torchvision', reason='parity with torchvision: pip install .[peers]')
  return getattr(tv.models, name.replace('regnet', 'regnet_'))(num_classes=7)


@pytest.mark.parametrize('library, name', [
    ('timm', 'regnety_400mf'), ('torchvision', 'regnety_400mf'), ('torchvision', 'regnetx_400mf'),
    ('timm', 'regnety_4gf'), ('timm', 'efficientnet_b0'), ('torchvision', 'efficientnet_b0'),
    ('timm', 'resnet50_c'), ('timm', 'hrnet_w18')])
def test_peers_give_the_same(library, name, tmp_path):
  torch = pytest.importorskip('torch', reason='parity with peers: pip install .[peers]')
  for op in ('nms', 'qnms'):  # torchvision's compiled part may be absent
    try:
      torch.library.define(f'torchvision::{op}', '(Tensor dets, Tensor scores, float iou) -> Tensor')
    except RuntimeError:
      pass
  model, rng = _peer(library, name).eval(), np.random.default_rng(0)
  with torch.no_grad():
    for key, value in model.state_dict().items():
      if key.endswith('running_var'):
        value.copy_(torch.from_numpy(rng.uniform(.5, 1.5, value.shape).astype(np.float32)))
      elif value.ndim == 1:
        value.add_(torch.from_numpy(rng.normal(size=value.shape).astype(np.float32)), alpha=.1)
  theirs = {k: v.numpy() for k, v in model.state_dict().items() if 'num_batches' not in k}
  path, image = str(tmp_path / 'w.safetensors'), np.asarray(tiny.images(SIZE))
  safetensors.write(path, theirs)
  with torch.no_grad():
    want = model(torch.from_numpy(image.transpose(0, 3, 1, 2).copy())).numpy()
  got = vit_jax.load(path, verbose=False)  # whose model the file tells
  variant = models.variant(name)
  told = {**variant.arguments, 'num_classes': 7}
  assert {name: getattr(got.model, name) for name in told} == told
  out = jax.jit(got.model.apply)(got.variables, image)
  np.testing.assert_allclose(out, want, atol=1e-4 * np.abs(want).max())
  weights.export(path, got.model, got.variables, library)
  again = safetensors.read(path)
  assert again.keys() == theirs.keys()
  for key, value in theirs.items():
    np.testing.assert_array_equal(again[key], value)
