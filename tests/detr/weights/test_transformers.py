"""transformers reads what we write, and we read what it saves, with equal outputs; extra `peers`."""

import jax
import numpy as np
import pytest

import detr_jax
from detr_jax import models, weights
from tests.models import tiny

_WHY = 'parity with transformers: pip install .[peers]'
torch = pytest.importorskip('torch', reason=_WHY)
for _name in ('nms', 'qnms'):  # torchvision's compiled part may be absent
  try:
    torch.library.define(f'torchvision::{_name}', '(Tensor dets, Tensor scores, float iou) -> Tensor')
  except RuntimeError:
    pass
transformers = pytest.importorskip('transformers', reason=_WHY)
pytest.importorskip('timm', reason=_WHY)

CANVAS = (96, 160)
SIZES = np.asarray([(96, 90), (50, 160)])  # both images are padded, by rows or columns of tokens
OURS = dict(backbone='resnet18', width=32, num_heads=4, mlp_dim=48, encoder_layers=2, decoder_layers=2,
            num_queries=6, num_classes=5, mask_padding=False)
THEIRS = dict(d_model=32, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
              decoder_ffn_dim=48, encoder_layers=2, decoder_layers=2, num_queries=6, num_labels=5,
              backbone='resnet18', use_timm_backbone=True, use_pretrained_backbone=False)
MASKS = dict(width=128, num_heads=8)
THEIR_MASKS = dict(d_model=128, encoder_attention_heads=8, decoder_attention_heads=8)


def theirs(kind='DetrForObjectDetection', **options):
  """Returns a model of transformers in which no parameter or running statistic is 0 or 1."""
  torch.manual_seed(0)
  config = transformers.DetrConfig(**{**THEIRS, **options})
  model, rng = getattr(transformers, kind)(config).eval(), np.random.default_rng(0)
  with torch.no_grad():
    for path, value in model.state_dict().items():
      noise = torch.from_numpy(rng.normal(size=value.shape).astype(np.float32))
      scale = 1. if 'query_position' in path else .02 if value.ndim == 4 else .2
      value.copy_((value + scale * noise).abs() if path.endswith('running_var') else
                  value + scale * noise)
  return model


def batch():
  """Returns images with zeros where they are padded, and the mask of what is an image."""
  mask = np.stack([(np.arange(CANVAS[0]) < h)[:, None] & (np.arange(CANVAS[1]) < w) for h, w in SIZES])
  return np.asarray(tiny.images(CANVAS)) * mask[..., None], mask


def assert_same_outputs(ours, variables, model):
  """Logits, boxes and masks on a padded batch, of the last layer.

  With `auxiliary_loss` transformers gives those of all, but normalises what goes from layer to layer.
  """
  image, mask = batch()
  with torch.no_grad():
    want = model(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()), torch.from_numpy(mask).long())
  with jax.default_matmul_precision('highest'):
    got = tiny.jit(lambda v, x, s: ours.apply(v, x, s))(variables, image, SIZES)
  np.testing.assert_allclose(got.logits[-1], want.logits.numpy(), atol=1e-4)
  np.testing.assert_allclose(got.boxes[-1], want.pred_boxes.numpy(), atol=1e-4)
  logits = np.asarray(got.logits[-1])  # the image matters, and the query
  assert logits.std(axis=0).max() > 1e-2 and logits.std(axis=1).max() > 1e-2
  if ours.masks:
    scale = float(want.pred_masks.abs().max())
    np.testing.assert_allclose(got.masks, want.pred_masks.numpy(), atol=1e-4 * scale)


def load(path, **fields):
  return detr_jax.load('detr_r50', path, verbose=False, image_size=CANVAS, **{
      'backbone': 'resnet18', 'num_heads': 4, 'mask_padding': False, **fields})


@pytest.mark.parametrize('form', ['save_pretrained', 'state_dict'])
def test_we_read_what_transformers_saves(form, tmp_path):
  model, path = theirs(), str(tmp_path / 'model.safetensors')
  if form == 'save_pretrained':
    model.save_pretrained(tmp_path)
  else:
    path = str(tmp_path / 'pytorch_model.bin')
    torch.save(model.state_dict(), path)
  got = load(path)
  assert got.model == models.create_model('detr_r50', **OURS)
  assert_same_outputs(got.model, got.variables, model)


def test_we_read_its_own_resnet(tmp_path):
  backbone = transformers.ResNetConfig(
      embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[1, 2, 1, 1], layer_type='bottleneck',
      out_features=['stage4'])
  model = theirs(backbone=None, use_timm_backbone=False, backbone_config=backbone)
  for form, path in (('saved', 'model.safetensors'), ('state_dict', 'model.bin')):
    if form == 'saved':
      model.save_pretrained(tmp_path)
    else:
      torch.save(model.state_dict(), tmp_path / path)
    got = load(str(tmp_path / path), backbone='resnet50', backbone_fields=dict(
        depths=(1, 2, 1, 1), width=8, norm='frozen'))
  assert_same_outputs(got.model, got.variables, model)


@pytest.mark.parametrize('form', ['save_pretrained', 'state_dict'])
def test_masks_are_the_same(form, tmp_path):
  model, path = theirs('DetrForSegmentation', **THEIR_MASKS), str(tmp_path / 'model.safetensors')
  if form == 'save_pretrained':
    model.save_pretrained(tmp_path)
  else:
    torch.save(model.state_dict(), path := str(tmp_path / 'model.bin'))
  got = load(path, num_heads=8)
  assert got.model.masks
  if form == 'save_pretrained':
    assert_same_outputs(got.model, got.variables, model)


@pytest.mark.parametrize('kind, fields, options', [
    ('DetrForObjectDetection', dict(), dict()),
    ('DetrForSegmentation', dict(MASKS, masks=True), THEIR_MASKS)])
def test_transformers_reads_what_we_write(kind, fields, options, tmp_path):
  ours = models.create_model('detr_r50', **{**OURS, **fields})
  variables = jax.tree.map(lambda v: .3 * v if v.ndim == 4 else v, tiny.variables(ours, CANVAS))
  weights.export(str(tmp_path / 'model.safetensors'), ours, variables, 'huggingface')
  theirs(kind, **options).config.save_pretrained(tmp_path)
  model, report = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
  assert not any(report.values()), report
  assert_same_outputs(ours, variables, model.eval())
