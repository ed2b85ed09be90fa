"""timm reads what we write, we read what PyTorch writes, with equal logits; needs the extra `peers`."""

import jax
import numpy as np
import pytest

import vit_jax
from tests.models import tiny
from vit_jax import models, weights
from vit_jax.weights import containers

torch = pytest.importorskip('torch', reason='parity with timm needs PyTorch: pip install .[peers]')
for _name in ('nms', 'qnms'):  # timm imports them from torchvision, whose compiled part may be absent
  try:
    torch.library.define(f'torchvision::{_name}', '(Tensor dets, Tensor scores, float iou) -> Tensor')
  except RuntimeError:
    pass
timm = pytest.importorskip('timm', reason='parity with timm: pip install .[peers]')

VIT = dict(width=48, depth=2, num_heads=3, mlp_dim=192, num_classes=7)
THEIR_VIT = dict(embed_dim=48, depth=2, num_heads=3, num_classes=7)
RESNET = dict(depths=(1, 2, 1, 1), num_classes=7)
SIZE = (64, 96)


def theirs(name, **options):
  """Returns a timm model in which no parameter is 0 or 1."""
  model = timm.create_model(name, **options).eval()
  rng = np.random.default_rng(0)
  with torch.no_grad():
    for path, value in model.state_dict().items():
      if value.is_floating_point():
        noise = torch.from_numpy(rng.normal(size=value.shape).astype(np.float32))
        scale = .1 if value.ndim > 1 else .3
        value.copy_((value + scale * noise).abs() if path.endswith('running_var') else
                    value + scale * noise)
  return model


def images(size=SIZE):
  return np.random.default_rng(1).normal(size=(2, *size, 3)).astype(np.float32)


def their_logits(model, image):
  with torch.no_grad():
    return model(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy()


def assert_same_logits(ours, variables, model, size=SIZE, tolerance=2e-5):
  """The tolerance is a share of the largest logit; the other form of GELU is 5e-4 away."""
  want = their_logits(model, images(size))
  got = tiny.apply(ours, variables, images(size))
  np.testing.assert_allclose(got, want, atol=tolerance * np.abs(want).max())


READ = [
    ('deit_ti16', VIT, 'vit_tiny_patch16_224', dict(THEIR_VIT, img_size=SIZE)),
    ('deit_ti16', VIT, 'vit_tiny_patch16_224', dict(THEIR_VIT, img_size=SIZE, global_pool='avg',
                                                    class_token=False)),
    # fc_norm beside a class token, as in MAE's fine-tuned models; then also without its position, and
    # without any positions.
    ('deit_ti16', VIT, 'vit_tiny_patch16_224', dict(THEIR_VIT, img_size=SIZE, global_pool='avg')),
    ('deit_ti16', VIT, 'vit_tiny_patch16_224', dict(THEIR_VIT, img_size=SIZE, global_pool='avg',
                                                    no_embed_class=True)),
    ('deit_ti16', VIT, 'vit_tiny_patch16_224', dict(THEIR_VIT, img_size=SIZE, global_pool='avg',
                                                    pos_embed='none')),
    ('deit_ti16_distilled', VIT, 'deit_tiny_distilled_patch16_224', dict(THEIR_VIT, img_size=SIZE)),
    ('deit3_s16', VIT, 'deit3_small_patch16_224', dict(THEIR_VIT, img_size=SIZE)),
    ('resnet18', dict(RESNET, bottleneck=False), 'resnet18', dict(layers=(1, 2, 1, 1), num_classes=7)),
    ('resnet50', RESNET, 'resnet50', dict(layers=(1, 2, 1, 1), num_classes=7)),
    ('resnet50', dict(RESNET, output_stride=16), 'resnet50', dict(
        layers=(1, 2, 1, 1), num_classes=7, output_stride=16)),
    ('r_ti16', VIT, 'vit_tiny_r_s16_p8_224', dict(THEIR_VIT, img_size=SIZE)),
    ('r26_s32', VIT, 'vit_small_r26_s32_224', dict(THEIR_VIT, img_size=SIZE)),
    ('bit_r50x1', dict(num_classes=7), 'resnetv2_50x1_bit', dict(num_classes=7)),
    ('mixer_s32', dict(num_classes=7), 'mixer_s32_224', dict(num_classes=7, img_size=SIZE))]
# timm adds other epsilons when it standardises weights.
TOLERANCE = dict(r_ti16=1e-4, r26_s32=1e-4, bit_r50x1=1e-4)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('name, fields, their_name, options', READ)
def test_we_read_what_torch_saves(name, fields, their_name, options, legacy, tmp_path):
  model, path = theirs(their_name, **options), str(tmp_path / 'w.pth')
  torch.save({'model': model.state_dict(), 'epoch': 3}, path,
             _use_new_zipfile_serialization=not legacy)
  got = vit_jax.load(name, path, image_size=SIZE, verbose=False, **fields)
  assert_same_logits(got.model, got.variables, model, tolerance=TOLERANCE.get(name, 2e-5))


def test_we_read_what_torch_saves_without_checksums(tmp_path):
  arrays, path = {'a': torch.arange(6.).reshape(2, 3).T, 'b': torch.ones(3)}, str(tmp_path / 'w.pth')
  before = torch.serialization.get_crc32_options()
  torch.serialization.set_crc32_options(False)
  try:
    torch.save(arrays, path)
  finally:
    torch.serialization.set_crc32_options(before)
  for name, array in containers.read(path).items():
    np.testing.assert_array_equal(array, arrays[name].numpy())


@pytest.mark.parametrize('name, fields, their_name, options', READ)
def test_timm_reads_our_state_dicts(name, fields, their_name, options, tmp_path):
  from safetensors.torch import load_file
  extra = dict(pool='mean', norm_pooled=True, class_token=options.get('class_token', True),
               class_position='no_embed_class' not in options,
               position=options.get('pos_embed', 'learned')) if 'global_pool' in options else {}
  if name.startswith(('r_', 'r26')):
    extra['gelu'] = 'erf'  # as theirs unless told
  if name.startswith('mixer'):
    options = dict(options, act_layer=timm.layers.get_act_layer('gelu_tanh'))
  ours = models.create_model(name, **fields, **extra)
  variables = tiny.variables(ours, SIZE)
  variables = jax.tree.map(lambda v: .3 * v if v.ndim > 1 else v, variables)
  path = str(tmp_path / 'w.safetensors')
  weights.export(path, ours, variables, 'timm')
  model = theirs(their_name, **options)
  left = model.load_state_dict(load_file(path), strict=False)
  assert not left.unexpected_keys
  assert all(key.endswith('num_batches_tracked') for key in left.missing_keys)
  assert_same_logits(ours, variables, model, tolerance=TOLERANCE.get(name, 2e-5))


@pytest.mark.parametrize('name, fields, their_name, options, tolerance', [
    ('vit_ti16', VIT, 'vit_tiny_patch16_224', dict(THEIR_VIT, act_layer='gelu_tanh'), 2e-5),
    ('bit_r50x1', dict(num_classes=7), 'resnetv2_50x1_bit', dict(num_classes=7), TOLERANCE['bit_r50x1']),
    ('r26_s32', VIT, 'vit_small_r26_s32_224', dict(THEIR_VIT, act_layer='gelu_tanh'), 1e-4),
    ('r_ti16', VIT, 'vit_tiny_r_s16_p8_224', dict(THEIR_VIT, act_layer='gelu_tanh'), 1e-4)])
def test_timm_reads_our_npz(name, fields, their_name, options, tolerance, tmp_path):
  size = (64, 64)
  ours = models.create_model(name, **fields)
  variables = jax.tree.map(lambda v: .3 * v if v.ndim > 1 else v, tiny.variables(ours, size))
  path = str(tmp_path / 'w.npz')
  weights.export(path, ours, variables)
  sized = {} if name.startswith('bit') else dict(img_size=size)
  model = theirs(their_name, **options, **sized)
  model.load_pretrained(path)
  assert_same_logits(ours, variables, model, size, tolerance)
