"""Files of residual networks: torchvision's, and big_vision's with group norm."""

import dataclasses

import numpy as np

from vit_jax import trees
from vit_jax.models import resnet
from vit_jax.weights.families.base import Published
from vit_jax.weights.families.rows import CONV, batch_norm, same
from vit_jax.weights.table import Row, Table

_UNIT = 'block{s}/unit{u}/'

# big_vision's `bit`: what our tree has.
BIG_VISION_RESNET = Table('big_vision_resnet', same(
    'conv_root/kernel', 'gn_root/{leaf}', _UNIT + '{module}/{leaf}', 'head/{leaf}',
), shown_by=r'block1/unit1/gn1/.*')


MMSEG_ROOT = tuple(row for n, ours in ((0, '_root1'), (3, '_root2'), (6, '_root')) for row in (
    Row(f'stem.{n}.weight', f'conv{ours}/kernel', CONV), *batch_norm(f'stem.{n + 1}', f'bn{ours}')))


def _torchvision() -> tuple[Row, ...]:
  layer, unit = 'layer{s}.{u}.', 'block{s}/unit{u+1}/'
  return (
      Row('conv1.weight', 'conv_root/kernel', CONV), *batch_norm('bn1', 'bn_root'),
      # A deep root, by timm's names and by mmsegmentation's.
      *(row for n, ours in ((0, '_root1'), (3, '_root2')) for row in (
          Row(f'conv1.{n}.weight', f'conv{ours}/kernel', CONV),
          *batch_norm(f'conv1.{n + 1}', f'bn{ours}'))),
      Row('conv1.6.weight', 'conv_root/kernel', CONV), *MMSEG_ROOT,
      Row(layer + 'downsample.0.weight', unit + 'conv_proj/kernel', CONV),
      *batch_norm(layer + 'downsample.1', unit + 'bn_proj'),
      Row(layer + 'conv{n}.weight', unit + 'conv{n}/kernel', CONV),
      *batch_norm(layer + 'bn{n}', unit + 'bn{n}'),
      # Written as the first, read as either: torchvision's, and that of CIFAR's networks.
      *(Row(f'{name}.{leaf}', *ours) for name in ('fc', 'linear') for leaf, ours in (
          ('weight', ('head/kernel', 'o i -> i o')), ('bias', ('head/bias',)))))


# torchvision, timm and pytorch_resnet_cifar10; no result depends on num_batches_tracked, a counter.
TORCHVISION = Table('torchvision', _torchvision(), shown_by=r'layer1\.0\.bn1\.running_mean',
                    ignored=r'(.*\.)?num_batches_tracked')

# The same, where a deep root's last convolution is written.
DEEP = dataclasses.replace(TORCHVISION, rows=(
    Row('conv1.6.weight', 'conv_root/kernel', CONV), *TORCHVISION.rows))


def units(flat: trees.Flat, below: str = '') -> tuple[int, ...]:
  """Returns the units of each stage of a ResNet; `below`: what stands before its paths."""
  stages = trees.numbers(flat, rf'{below}block(\d+)/')
  return tuple(trees.numbers(flat, rf'{below}block{s + 1}/unit(\d+)/') for s in range(stages))


def shown(flat: trees.Flat) -> dict | None:
  """Returns the fields of a ResNet that its parameters show; a norm behind all units is BiT's."""
  if 'conv_root/kernel' not in flat or 'norm/scale' in flat:
    return None
  size, *_, root = np.shape(flat['conv_root/kernel'])
  width, deep = np.shape(flat['block1/unit1/conv2/kernel'])[-1], 'conv_root1/kernel' in flat
  return dict(width=width, depths=units(flat), bottleneck='block1/unit1/conv3/kernel' in flat,
              small_images=size == 3 and not deep, norm='group' if 'gn_root/scale' in flat else 'batch',
              deep_root=deep, root_width=None if root == width else root)


def formats(model: resnet.ResNet, to: str) -> Table | None:
  """Returns the table of a format."""
  if model.norm == 'group':
    return dict(npz=BIG_VISION_RESNET).get(to)
  if model.deep_root:
    return dict(timm=DEEP).get(to)
  return dict(timm=TORCHVISION, torchvision=TORCHVISION).get(to)


PUBLISHED = Published(resnet.FAMILY, (BIG_VISION_RESNET, TORCHVISION), shown, formats)
