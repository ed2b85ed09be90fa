"""The published checkpoints of NAT and DiNAT.

Addresses and accuracies are those of classification/NAT.md and classification/DiNAT.md in
SHI-Labs/Neighborhood-Attention-Transformer; no checksums are printed.
"""

from vit_jax import models
from vit_jax.pretrained.files import BOTH, IMAGENET1K, IMAGENET22K, Pretrained

SHI_LABS = 'https://shi-labs.com/projects/'


def _file(name: str, path: str, data: str, accuracy: float | None, size: int = 224) -> Pretrained:
  model = name.partition('.')[0]
  rule = models.variant(model).preprocessing
  return Pretrained(model, f'{SHI_LABS}{path}.pth', data, (size, size), rule, 'MIT', accuracy,
                    'README of Neighborhood-Attention-Transformer' if accuracy else '')


def _all() -> dict[str, Pretrained]:
  known = [(f'nat_{size}.imagenet1k', f'nat/checkpoints/CLS/nat_{size}', IMAGENET1K, accuracy)
           for size, accuracy in dict(mini=81.8, tiny=83.2, small=83.7, base=84.3).items()]
  place = 'dinat/checkpoints/imagenet{}k/dinat_{}_in'
  known += [(f'dinat_{size}.imagenet1k', place.format(1, size) + '1k_224', IMAGENET1K, accuracy)
            for size, accuracy in dict(mini=81.8, tiny=82.7, small=83.8, base=84.4).items()]
  large = place.format(1, 'large') + '22k_in1k_'
  known += [('dinat_large.imagenet22k', place.format(22, 'large') + '22k_224', IMAGENET22K, None),
            ('dinat_large.imagenet22k_imagenet1k', large + '224', BOTH, 86.6),
            ('dinat_large_384.imagenet22k_imagenet1k', large + '384', BOTH, 87.4, 384),
            ('dinat_large_384_11x11.imagenet22k_imagenet1k', large + '384_11x11', BOTH, 87.5, 384)]
  return {row[0]: _file(*row) for row in known}


NAT: dict[str, Pretrained] = _all()
