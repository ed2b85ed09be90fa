"""ViT hybrids: a weight-standardised ResNet with group norm, then a ViT over its map.

The ViT paper (section 3.1, 'Hybrid Architecture'; appendix D, table 6) takes either all four stages
of a ResNet-50, or three of which the last has the units of both: 'R50 + ViT-B/32' and '/16'. AugReg
(arXiv:2106.10270, section 3.3) adds smaller ones. The number in a name is the stride of all together.
"""

import dataclasses

from vit_jax.models import vit
from vit_jax.models.variant import Variant
from vit_jax.models.vit import AUGREG, SIZES, ViT

PAPER = 'An image is worth 16x16 words, arXiv:2010.11929, section 3.1 and table 6'

ALL_STAGES, LONG_THIRD, SMALL = (3, 4, 6, 3), (3, 4, 9), (2, 2, 2, 2)


def _variant(size: str, depths: tuple[int, ...], parameters: int, source: str, patch: int = 1,
             factor: int = 1) -> Variant:
  width, depth, mlp_dim, num_heads = SIZES[size]
  return Variant(ViT, dict(patch_size=patch, width=width, depth=depth, mlp_dim=mlp_dim,
                           num_heads=num_heads, stem_depths=depths, stem_width=64 * factor),
                 parameters, source)


VARIANTS: dict[str, Variant] = dict(
    r_ti16=_variant('ti', (), 6_337_704, AUGREG, patch=8),  # so named; its tokens are 32 pixels apart
    r26_s32=_variant('s', SMALL, 36_431_912, AUGREG),
    r26_b32=_variant('b', SMALL, 101_383_976, AUGREG),
    r50_l32=_variant('l', ALL_STAGES, 328_994_856, AUGREG),
    r50_b32=_variant('b', ALL_STAGES, 110_945_832, PAPER),
    r50_b16=_variant('b', LONG_THIRD, 98_659_112, PAPER),
    r50_l16=_variant('l', LONG_THIRD, 316_483_624, PAPER),
    r50x2_l32=_variant('l', ALL_STAGES, 401_491_048, PAPER, factor=2),
)


def tiny(fields) -> dict:
  """Returns the fields of a small hybrid: the root of a ResNet, and each entry of its map a patch."""
  return {**vit.tiny(fields), 'stem_depths': (), 'stem_width': 32, 'patch_size': 1}


FAMILY = dataclasses.replace(vit.FAMILY, variants=VARIANTS, tiny=tiny)
