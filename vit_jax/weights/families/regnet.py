"""Files of RegNets: torchvision's, and timm's, whose names DeiT's teacher has too."""

from typing import Any

from vit_jax import trees
from vit_jax.models import regnet
from vit_jax.weights.families.base import Published
from vit_jax.weights.families.rows import CONV, COUNTER, batch_norm, dense, dense_of_conv
from vit_jax.weights.table import Row, Table


def _layer(conv: str, bn: str, ours: str, name: str) -> tuple[Row, ...]:
  return (Row(f'{conv}.weight', f'{ours}conv{name}/kernel', CONV), *batch_norm(bn, f'{ours}bn{name}'))


def _stages() -> tuple[Row, ...]:
  """Returns torchvision's rows, which count stages from 1 and say the stage twice."""
  rows = []
  for s in range(4):
    theirs, ours = f'trunk_output.block{s + 1}.block{s + 1}-{{b}}.', f'stage{s}/block{{b}}/'
    for part, name in (('f.a', '1'), ('f.b', '2'), ('f.c', '3'), ('proj', '_proj')):
      rows += _layer(f'{theirs}{part}.0', f'{theirs}{part}.1', ours, name)
    rows += dense_of_conv(theirs + 'f.se.fc1', ours + 'se/reduce')
    rows += dense_of_conv(theirs + 'f.se.fc2', ours + 'se/expand')
  return tuple(rows)


TORCHVISION = Table('torchvision_regnet', (
    *_layer('stem.0', 'stem.1', 'stem/', ''), *_stages(), *dense('fc', 'head'),
), shown_by=r'trunk_output\.block1\.block1-0\.f\.a\.0\.weight', ignored=COUNTER)

_BLOCK, _OURS = 's{s+1}.b{b+1}.', 'stage{s}/block{b}/'

TIMM = Table('timm_regnet', (
    *_layer('stem.conv', 'stem.bn', 'stem/', ''),
    *(row for theirs, name in (('conv1', '1'), ('conv2', '2'), ('conv3', '3'), ('downsample', '_proj'))
      for row in _layer(f'{_BLOCK}{theirs}.conv', f'{_BLOCK}{theirs}.bn', _OURS, name)),
    *dense_of_conv(_BLOCK + 'se.fc1', _OURS + 'se/reduce'),
    *dense_of_conv(_BLOCK + 'se.fc2', _OURS + 'se/expand'), *dense('head.fc', 'head'),
), shown_by=r's1\.b1\.conv1\.conv\.weight', ignored=COUNTER)


def shown(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns the fields of a RegNet that its parameters show."""
  kernels = [flat.get(f'stage{s}/block0/conv2/kernel') for s in range(
      trees.numbers(flat, r'stage(\d+)/'))]
  if 'stem/conv/kernel' not in flat or not kernels or any(kernel is None for kernel in kernels):
    return None
  return dict(widths=tuple(kernel.shape[3] for kernel in kernels),
              depths=tuple(trees.numbers(flat, rf'stage{s}/block(\d+)/') for s in range(len(kernels))),
              group_widths=tuple(kernel.shape[2] for kernel in kernels),
              stem_width=flat['stem/conv/kernel'].shape[3],
              se_ratio=.25 if 'stage0/block0/se/reduce/kernel' in flat else 0.)


def formats(model: regnet.RegNet, to: str) -> Table | None:
  """Returns the table of a format."""
  return dict(timm=TIMM, torchvision=TORCHVISION).get(to)


PUBLISHED = Published(regnet.FAMILY, (TORCHVISION, TIMM), shown, formats)
