"""Rows that the tables of several families are made of."""

from vit_jax.weights.table import Row

CONV = 'o i h w -> h w i o'  # of PyTorch's kernels
COUNTER = r'(.*\.)?num_batches_tracked'  # of PyTorch's batch norms; no result depends on it


def same(*names: str, axes: str = '') -> tuple[Row, ...]:
  """Returns rows for names that are ours too."""
  return tuple(Row(name, name, axes) for name in names)


def norm(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a LayerNorm or a group norm."""
  return Row(f'{theirs}.weight', f'{ours}/scale'), Row(f'{theirs}.bias', f'{ours}/bias')


def dense(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a linear layer, whose matrix PyTorch keeps transposed."""
  return Row(f'{theirs}.weight', f'{ours}/kernel', 'o i -> i o'), Row(f'{theirs}.bias', f'{ours}/bias')


def dense_of_conv(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a linear layer that PyTorch keeps as a 1x1 convolution."""
  return (Row(f'{theirs}.weight', f'{ours}/kernel', 'o i 1 1 -> i o'),
          Row(f'{theirs}.bias', f'{ours}/bias'))


def batch_norm(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of a batch norm with its running statistics."""
  return (*norm(theirs, ours), Row(f'{theirs}.running_mean', f'batch_stats/{ours}/mean'),
          Row(f'{theirs}.running_var', f'batch_stats/{ours}/var'))


def convs(theirs: str) -> tuple[Row, ...]:
  """Returns the rows of the stages of timm's ResNets with group norm."""
  theirs, ours = theirs + 'stages.{s}.blocks.{u}.', 'block{s+1}/unit{u+1}/'
  return (
      Row(theirs + 'downsample.conv.weight', ours + 'conv_proj/kernel', CONV),
      *norm(theirs + 'downsample.norm', ours + 'gn_proj'),
      Row(theirs + 'conv{n}.weight', ours + 'conv{n}/kernel', CONV),
      *norm(theirs + 'norm{n}', ours + 'gn{n}'))
