"""Names of residual networks' parameters: big_vision's, Big Transfer's and torchvision's."""

from vit_jax.weights.table import Row, Table
from vit_jax.weights.vit import same

_UNIT = 'block{s}/unit{u}/'

# big_vision's `bit`: what our tree has.
BIG_VISION_RESNET = Table('big_vision_resnet', same(
    'conv_root/kernel', 'gn_root/{leaf}', _UNIT + '{module}/{leaf}', 'head/{leaf}',
), shown_by=r'block1/unit1/gn1/.*')


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


def torch_norm(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a batch norm."""
  return (Row(f'{theirs}.weight', f'{ours}/scale'), Row(f'{theirs}.bias', f'{ours}/bias'),
          Row(f'{theirs}.running_mean', f'batch_stats/{ours}/mean'),
          Row(f'{theirs}.running_var', f'batch_stats/{ours}/var'))


def _torchvision() -> tuple[Row, ...]:
  conv = 'o i h w -> h w i o'
  layer, unit = 'layer{s}.{u}.', 'block{s}/unit{u+1}/'
  return (
      Row('conv1.weight', 'conv_root/kernel', conv), *torch_norm('bn1', 'bn_root'),
      Row(layer + 'downsample.0.weight', unit + 'conv_proj/kernel', conv),
      *torch_norm(layer + 'downsample.1', unit + 'bn_proj'),
      Row(layer + 'conv{n}.weight', unit + 'conv{n}/kernel', conv),
      *torch_norm(layer + 'bn{n}', unit + 'bn{n}'),
      # Written as the first, read as either: torchvision's, and that of CIFAR's networks.
      *(Row(f'{name}.{leaf}', *ours) for name in ('fc', 'linear') for leaf, ours in (
          ('weight', ('head/kernel', 'o i -> i o')), ('bias', ('head/bias',)))))


# torchvision, timm and pytorch_resnet_cifar10; no result depends on num_batches_tracked, a counter.
TORCHVISION = Table('torchvision', _torchvision(), shown_by=r'layer1\.0\.bn1\.running_mean',
                    ignored=r'(.*\.)?num_batches_tracked')
