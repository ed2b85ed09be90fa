"""Files of Big Transfer's networks: those of gs://bit_models, and timm's."""

import numpy as np

from vit_jax import trees
from vit_jax.models import bit
from vit_jax.weights.families.base import Published
from vit_jax.weights.families.resnet import units
from vit_jax.weights.families.rows import CONV, convs, norm
from vit_jax.weights.table import Row, Table

_UNIT = 'block{s}/unit{u}/'


def _tf_norm(theirs: str, ours: str) -> tuple[Row, ...]:
  return Row(f'{theirs}/gamma', f'{ours}/scale'), Row(f'{theirs}/beta', f'{ours}/bias')


def _bit() -> tuple[Row, ...]:
  unit, rows = 'resnet/block{s}/unit{u:02}/', []
  for i, letter in enumerate('abc', 1):
    rows.append(Row(f'{unit}{letter}/standardized_conv2d/kernel', f'{_UNIT}conv{i}/kernel'))
    rows += _tf_norm(f'{unit}{letter}/group_norm', f'{_UNIT}gn{i}')
  return (
      Row('resnet/root_block/standardized_conv2d/kernel', 'conv_root/kernel'), *rows,
      Row(unit + 'a/proj/standardized_conv2d/kernel', _UNIT + 'conv_proj/kernel'),
      *_tf_norm('resnet/group_norm', 'norm'),
      Row('resnet/head/conv2d/kernel', 'head/kernel', '1 1 c k -> c k'),
      Row('resnet/head/conv2d/bias', 'head/bias'))


# Big Transfer, the files of gs://bit_models.
BIT = Table('bit', _bit(), shown_by=r'resnet/root_block/.*')

TIMM_BIT = Table('timm_bit', (
    Row('stem.conv.weight', 'conv_root/kernel', CONV), *convs(''), *norm('norm', 'norm'),
    Row('head.fc.weight', 'head/kernel', 'k c 1 1 -> c k'), Row('head.fc.bias', 'head/bias'),
), shown_by=r'stages\.0\.blocks\.0\.norm3\.weight')


def shown(flat: trees.Flat) -> dict | None:
  """Returns the fields of a BiT that its parameters show."""
  if 'norm/scale' not in flat or 'conv_root/kernel' not in flat:
    return None
  return dict(width=np.shape(flat['conv_root/kernel'])[3], depths=units(flat))


PUBLISHED = Published(bit.FAMILY, (BIT, TIMM_BIT), shown,
                      formats=lambda model, to: dict(npz=BIT, timm=TIMM_BIT).get(to))
