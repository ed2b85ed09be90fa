"""The published checkpoints of ConvNeXt.

Addresses and accuracies are those of the README of facebookresearch/ConvNeXt; no checksums are printed.
"""

import dataclasses

from vit_jax import models
from vit_jax.pretrained.files import BOTH, IMAGENET1K, IMAGENET22K, Pretrained

FACEBOOK = 'https://dl.fbaipublicfiles.com/convnext/convnext_'
SIZES = dict(t='tiny', s='small', b='base', l='large', xl='xlarge')
# Top-1 at 224 and at 384 pixels.
FROM_SCRATCH = dict(t=(82.1,), s=(83.1,), b=(83.8, 85.1), l=(84.3, 85.5))
TRANSFERRED = dict(t=(82.9, 84.1), s=(84.6, 85.8), b=(85.8, 86.8), l=(86.6, 87.5), xl=(87.0, 87.8))


def _file(size: str, file: str, data: str, accuracy: float | None, side: int) -> Pretrained:
  rule = models.variant(f'convnext_{size}').preprocessing
  rule = dataclasses.replace(rule, crop='squash') if side == 384 else rule
  return Pretrained(f'convnext_{size}', f'{FACEBOOK}{SIZES[size]}_{file}.pth', data, (side, side), rule,
                    'MIT', accuracy, 'README of ConvNeXt' if accuracy else '')


def _all() -> dict[str, Pretrained]:
  found = {}
  for size, accuracies in FROM_SCRATCH.items():
    for accuracy, side, file, suffix in zip(accuracies, (224, 384), ('1k_224_ema', '1k_384'),
                                            ('', '_384')):
      found[f'convnext_{size}.imagenet1k{suffix}'] = _file(size, file, IMAGENET1K, accuracy, side)
  for size, accuracies in TRANSFERRED.items():
    found[f'convnext_{size}.imagenet22k'] = _file(size, '22k_224', IMAGENET22K, None, 224)
    for accuracy, side, suffix in zip(accuracies, (224, 384), ('', '_384')):
      found[f'convnext_{size}.imagenet22k_imagenet1k{suffix}'] = _file(
          size, f'22k_1k_{side}', BOTH, accuracy, side)
  return found


CONVNEXT: dict[str, Pretrained] = _all()
