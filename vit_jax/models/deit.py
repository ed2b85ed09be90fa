"""DeiT (arXiv:2012.12877) and DeiT III (arXiv:2204.07118): ViTs with erf GELU, and what each adds.

The distilled ones have a second token and a second head that learns from a teacher; DeiT III has
LayerScale and no position for its class token.
"""

import dataclasses

from vit_jax.models import vit
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant
from vit_jax.models.vit import SIZES, ViT

DEIT = 'Training data-efficient image transformers, arXiv:2012.12877, tables 1 and 5'
DEIT3 = 'DeiT III, arXiv:2204.07118, table 2'


def _variant(size: str, parameters: int, image_size: int = 224, patch: int = 16, source: str = DEIT,
             crop_ratio: float = .875, **fields) -> Variant:
  width, depth, mlp_dim, num_heads = SIZES[size]
  arguments = dict(patch_size=patch, width=width, depth=depth, mlp_dim=mlp_dim, num_heads=num_heads,
                   gelu='erf', init_form='normal', **fields)
  # At 384 the whole image is seen: it is resized to the size that is cut.
  rule = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, crop_ratio=1. if image_size > 224 else crop_ratio,
                       interpolation='bicubic')
  return Variant(ViT, arguments, parameters, source, (image_size, image_size), rule)


def _distilled(size: str, parameters: int, image_size: int = 224) -> Variant:
  return _variant(size, parameters, image_size, distillation_token=True)


def _third(size: str, parameters: int, image_size: int = 224, patch: int = 16) -> Variant:
  return _variant(size, parameters, image_size, patch, DEIT3, 1., layer_scale=1e-4,
                  class_position=False)


VARIANTS: dict[str, Variant] = dict(
    deit_ti16=_variant('ti', 5_717_416),
    deit_s16=_variant('s', 22_050_664),
    deit_b16=_variant('b', 86_567_656),
    deit_b16_384=_variant('b', 86_859_496, 384),
    deit_ti16_distilled=_distilled('ti', 5_910_800),
    deit_s16_distilled=_distilled('s', 22_436_432),
    deit_b16_distilled=_distilled('b', 87_338_192),
    deit_b16_distilled_384=_distilled('b', 87_630_032, 384),
    deit3_s16=_third('s', 22_059_496),
    deit3_m16=_third('m', 38_849_512),
    deit3_b16=_third('b', 86_585_320),
    deit3_l16=_third('l', 304_374_760),
    deit3_h14=_third('h', 632_126_440, patch=14),
    deit3_s16_384=_third('s', 22_205_416, 384),
    deit3_b16_384=_third('b', 86_877_160, 384),
    deit3_l16_384=_third('l', 304_763_880, 384),
)

FAMILY = dataclasses.replace(vit.FAMILY, variants=VARIANTS)
