"""Files of HRNet: its authors' and timm's, which have the same names."""

from typing import Any

from vit_jax import trees
from vit_jax.models import hrnet
from vit_jax.weights.families.base import Published
from vit_jax.weights.families.rows import CONV, COUNTER, batch_norm, dense
from vit_jax.weights.table import Row, Table


def _unit(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a residual unit."""
  return (Row(theirs + 'downsample.0.weight', ours + 'conv_proj/kernel', CONV),
          *batch_norm(theirs + 'downsample.1', ours + 'bn_proj'),
          Row(theirs + 'conv{n}.weight', ours + 'conv{n}/kernel', CONV),
          *batch_norm(theirs + 'bn{n}', ours + 'bn{n}'))


def _block(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a convolution and a batch norm in a sequence."""
  return (Row(theirs + '.0.weight', ours + '/conv/kernel', CONV),
          Row(theirs + '.0.bias', ours + '/conv/bias'), *batch_norm(theirs + '.1', ours + '/bn'))


_MODULE, _OURS = 'stage{s}.{m}.', 'stage{s}/module{m+1}/'

BACKBONE = (
    *(row for n in (1, 2) for row in (Row(f'conv{n}.weight', f'conv_root{n}/kernel', CONV),
                                      *batch_norm(f'bn{n}', f'bn_root{n}'))),
    *_unit('layer1.{u}.', 'stage1/unit{u+1}/'),
    *_block('transition{t}.{b}.0', 'stage{t+1}/new{b+1}'),
    *_block('transition{t}.{b}', 'stage{t+1}/wider{b+1}'),
    *_unit(_MODULE + 'branches.{b}.{u}.', _OURS + 'branch{b+1}/unit{u+1}/'),
    *_block(_MODULE + 'fuse_layers.{i}.{j}.{k}', _OURS + 'down{i+1}_{j+1}_{k+1}'),
    *_block(_MODULE + 'fuse_layers.{i}.{j}', _OURS + 'up{i+1}_{j+1}'))

TIMM = Table('hrnet', (
    *BACKBONE, *_unit('incre_modules.{b}.0.', 'widen{b+1}/'),
    *_block('downsamp_modules.{b}', 'down{b+1}'), *_block('final_layer', 'last'),
    *dense('classifier', 'head'),
), shown_by=r'transition1\.0\.0\.weight', ignored=COUNTER)


def shown(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns the fields of an HRNet that its parameters show."""
  first = flat.get('stage2/module1/branch1/unit1/conv1/kernel')
  if first is None or 'stage1/unit1/conv2/kernel' not in flat:
    return None
  stages = range(2, trees.numbers(flat, r'stage(\d+)/') + 1)
  return dict(width=first.shape[-1], root_width=flat['stage1/unit1/conv2/kernel'].shape[-1],
              root_depth=trees.numbers(flat, r'stage1/unit(\d+)/'),
              depth=trees.numbers(flat, r'stage2/module1/branch1/unit(\d+)/'),
              modules=tuple(trees.numbers(flat, rf'stage{s}/module(\d+)/') for s in stages))


def formats(model: hrnet.HRNet, to: str) -> Table | None:
  """Returns the table of a format; the authors' names are timm's."""
  return dict(timm=TIMM, authors=TIMM).get(to)


PUBLISHED = Published(hrnet.FAMILY, (TIMM,), shown, formats)
