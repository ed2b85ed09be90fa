"""Multiply-adds are those that the papers and the authors' code state."""

import pytest

from vit_jax.models import flops
from vit_jax import models

# In units of 1e9, as measured from the authors' code or stated by it.
STATED = {
    ('vit_ti16', 224): '1.25', ('vit_s16', 224): '4.60', ('vit_s32', 224): '1.14',
    ('vit_b16', 224): '17.56', ('vit_b32', 224): '4.41', ('vit_b16', 384): '55.48',
    ('vit_l16', 224): '61.55', ('vit_l16', 384): '191.1', ('vit_h14', 224): '167.3',
    # Of NAT's README, where the large ones' 30.6 and 89.7 count the norms too.
    ('nat_mini', 224): '2.7', ('nat_tiny', 224): '4.3', ('nat_small', 224): '7.8',
    ('nat_base', 224): '13.7', ('dinat_mini', 224): '2.7', ('dinat_large', 224): '30.5',
    ('swin_t', 224): '4.5', ('swin_s', 224): '8.7', ('swin_b', 224): '15.4', ('swin_b_384', 384): '47',
    ('swin_l_384', 384): '104',
    ('convnext_t', 224): '4.46', ('convnext_b', 224): '15.35', ('convnext_b', 384): '45.1',
    ('convnext_l', 224): '34.4', ('convnext_xl', 224): '60.9', ('convnext_iso_s', 224): '4.3',
    # Of torchvision's files.
    ('regnety_400mf', 224): '0.402', ('regnety_3_2gf', 224): '3.176', ('regnety_16gf', 224): '15.912',
    ('regnetx_8gf', 224): '7.995', ('efficientnet_b0', 224): '0.386', ('efficientnet_b3', 300): '1.827',
    ('efficientnet_b7', 600): '37.746',
    ('r50_b16', 224): '21.5', ('mixer_b16', 224): '12.6', ('deit_b16_384', 384): '55.48'}


@pytest.mark.parametrize('name, size', STATED)
def test_a_model_costs_what_is_stated(name, size):
  scan = dict(scan=True) if hasattr(models.variant(name).module, 'scan') else {}
  got = flops.multiply_adds(models.create_model(name, **scan), (size, size)) / 1e9
  stated = STATED[name, size]
  assert f'{got:.{len(stated.partition(".")[2])}f}' == stated


def test_a_vit_costs_its_closed_form_stacked_or_not():
  n, p, d, m, h, w, layers, classes = 3, 4, 16, 40, 8, 12, 3, 5
  tokens = (h // p) * (w // p) + 1
  layer = tokens * (4 * d * d + 2 * d * m) + 2 * tokens * tokens * d
  want = (tokens - 1) * p * p * n * d + layers * layer + d * classes
  for scan in (False, True):
    model = models.create_model('vit_ti16', patch_size=p, width=d, mlp_dim=m, depth=layers, num_heads=2,
                                num_classes=classes, scan=scan)
    assert flops.multiply_adds(model, (h, w), n) == want
