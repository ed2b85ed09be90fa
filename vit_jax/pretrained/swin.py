"""The published checkpoints of Swin.

Addresses and accuracies are those of the README of microsoft/Swin-Transformer; no checksums are printed.
`imagenet22k_to_1k.txt` holds the row of their heads for ImageNet-22k that each class of ImageNet-1k has,
as in the authors' data/map22kto1k.txt.
"""

from vit_jax import models
from vit_jax.pretrained.files import BOTH, IMAGENET1K, IMAGENET22K, Pretrained

RELEASE = 'https://github.com/SwinTransformer/storage/releases/download/'
FILES = dict(swin_t='swin_tiny_patch4_window7_224', swin_s='swin_small_patch4_window7_224',
             swin_b='swin_base_patch4_window7_224', swin_b_384='swin_base_patch4_window12_384',
             swin_l='swin_large_patch4_window7_224', swin_l_384='swin_large_patch4_window12_384')
FROM_SCRATCH = dict(swin_t=81.2, swin_s=83.2, swin_b=83.5, swin_b_384=84.5)
TRANSFERRED = dict(swin_b=85.2, swin_b_384=86.4, swin_l=86.3, swin_l_384=87.3)


def _file(model: str, data: str, ending: str = '', accuracy: float | None = None,
          version: str = 'v1.0.0') -> Pretrained:
  variant = models.variant(model)
  return Pretrained(model, f'{RELEASE}{version}/{FILES[model]}{ending}.pth', data, variant.image_size,
                    variant.preprocessing, 'MIT', accuracy,
                    'README of Swin-Transformer' if accuracy else '')


SWIN: dict[str, Pretrained] = {
    **{f'{model}.imagenet1k': _file(model, IMAGENET1K, '', accuracy)
       for model, accuracy in FROM_SCRATCH.items()},
    **{f'{model}.imagenet22k': _file(model, IMAGENET22K, '_22k') for model in TRANSFERRED},
    **{f'{model}.imagenet22k': _file(model, IMAGENET22K, '_22k', version='v1.0.8')
       for model in ('swin_t', 'swin_s')},
    **{f'{model}.imagenet22k_imagenet1k': _file(model, BOTH, '_22kto1k', accuracy)
       for model, accuracy in TRANSFERRED.items()}}
