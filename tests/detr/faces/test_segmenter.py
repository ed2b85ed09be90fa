"""What the page of a segmenter shows of its attention and its classes."""

import numpy as np
import pytest

from detr_jax.data.info import SegmentationInfo
from detr_jax.faces import segmentation as face
from detr_jax.faces.segmenter import SegmenterPredictor
from detr_jax.models import pixels
from detr_jax.tasks.segmentation import Segmentation
from detr_jax.visual import segmenters as drawing
from tests.models import tiny
from vit_jax.weights import Loaded
from vit_jax.weights.fit import Report

VIT = dict(patch_size=8, width=64, depth=2, num_heads=2, mlp_dim=64)
RESNET = dict(depths=(1, 1), width=32, norm='group')
IMAGE = np.random.default_rng(0).integers(0, 255, (40, 70, 3), np.uint8)


def predictor(name, backbone, fields, window=0):
  model = pixels.create_model(name, num_classes=4, backbone=backbone, backbone_fields=fields,
                              decoder_depth=1, decoder_heads=2)
  info = SegmentationInfo('', ('sky', 'road', 'car', 'tree'), 3, (32, 32),
                          inference=dict(window=window, stride=window // 2))
  state = tiny.variables(model, (window or 40, window or 70))
  params = state.pop('params')
  return SegmenterPredictor(Loaded(model, params, info, state, Report()), Segmentation(model, info))


@pytest.mark.parametrize('name, backbone, fields, window, titles', [
    ('segmenter_s16_mask', 'vit_ti16', VIT, 32,
     ['Attention of the encoder', 'Attention of the classes']),
    ('segmenter_s16_linear', 'vit_ti16', VIT, 32, ['Attention of the encoder']),
    ('segmenter_s16_mask', 'resnet18', RESNET, 0, ['Attention of the classes']),
    ('segmenter_s16_linear', 'resnet18', RESNET, 0, [])])
def test_attention_is_shown_where_there_is_some(name, backbone, fields, window, titles):
  one = predictor(name, backbone, fields, window)
  assert [section.title for section in face.attention(one, IMAGE)] == titles
  assert len(face.embeddings(one)) == ('mask' in name)


def test_the_view_is_a_window_or_the_whole():
  assert predictor('segmenter_s16_mask', 'vit_ti16', VIT, 32).view(IMAGE).shape == (32, 32, 3)
  assert predictor('segmenter_s16_mask', 'resnet18', RESNET).view(IMAGE) is IMAGE


def test_classes_are_projected_to_their_largest_directions():
  rng = np.random.default_rng(0)
  directions = np.linalg.qr(rng.normal(size=(16, 16)))[0]
  places = rng.normal(size=(9, 2)) * (5., 2.)
  found, shares = drawing.project(places @ directions[:2] + 7.)
  distances = lambda x: np.linalg.norm(x[:, None] - x, axis=-1)
  np.testing.assert_allclose(distances(found), distances(places), atol=1e-6)
  np.testing.assert_allclose(shares.sum(), 1.)
