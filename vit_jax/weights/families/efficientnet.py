"""Files of EfficientNets: torchvision's and timm's, among these Noisy Student's."""

from typing import Any

from vit_jax import trees
from vit_jax.models import efficientnet
from vit_jax.weights.families.base import Published, Source
from vit_jax.weights.families.convnext import DEPTHWISE
from vit_jax.weights.families.rows import CONV, COUNTER, batch_norm, dense, dense_of_conv
from vit_jax.weights.table import Row, Table

_STAGES = range(7)


def _layer(conv: str, bn: str, ours: str) -> tuple[Row, ...]:
  return Row(f'{conv}.weight', f'{ours}/conv/kernel', CONV), *batch_norm(bn, f'{ours}/bn')


def _depthwise(conv: str, bn: str, ours: str) -> tuple[Row, ...]:
  return Row(f'{conv}.weight', f'{ours}dwconv/kernel', DEPTHWISE), *batch_norm(bn, f'{ours}bn')


def _block(theirs: str, ours: str, expand, depthwise, reduce: str, grow: str, project
           ) -> tuple[Row, ...]:
  """Returns the rows of a block; a convolution and its norm each by two names."""
  full = lambda pair: tuple(theirs + name for name in pair)
  first = _layer(*full(expand), ours + 'expand') if expand else ()
  return (*first, *_depthwise(*full(depthwise), ours),
          *dense_of_conv(theirs + reduce, ours + 'se/reduce'),
          *dense_of_conv(theirs + grow, ours + 'se/expand'), *_layer(*full(project), ours + 'project'))


def _torchvision() -> tuple[Row, ...]:
  rows = [*_layer('features.0.0', 'features.0.1', 'stem'),
          *_layer('features.8.0', 'features.8.1', 'last'), *dense('classifier.1', 'head')]
  for s in _STAGES:
    pair = lambda i: (f'{i}.0', f'{i}.1')
    k = int(s > 0)  # the first stage does not expand
    rows += _block(f'features.{s + 1}.{{b}}.block.', f'stage{s}/block{{b}}/', pair(0) if k else (),
                   pair(k), f'{k + 1}.fc1', f'{k + 1}.fc2', pair(k + 2))
  return tuple(rows)


def _timm() -> tuple[Row, ...]:
  rows = [*_layer('conv_stem', 'bn1', 'stem'), *_layer('conv_head', 'bn2', 'last'),
          *dense('classifier', 'head')]
  for s in _STAGES:
    parts = (('conv_pw', 'bn1'), ('conv_dw', 'bn2')) if s else ((), ('conv_dw', 'bn1'))
    last = ('conv_pwl', 'bn3') if s else ('conv_pw', 'bn2')
    rows += _block(f'blocks.{s}.{{b}}.', f'stage{s}/block{{b}}/', *parts, 'se.conv_reduce',
                   'se.conv_expand', last)
  return tuple(rows)


TORCHVISION = Table('torchvision_efficientnet', _torchvision(), ignored=COUNTER,
                    shown_by=r'features\.1\.0\.block\.1\.fc1\.weight')
TIMM = Table('timm_efficientnet', _timm(), shown_by=r'blocks\.0\.0\.se\.conv_reduce\.weight',
             ignored=COUNTER)


def shown(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns the fields of an EfficientNet that its parameters show."""
  stages = range(trees.numbers(flat, r'stage(\d+)/'))
  kernels = [flat.get(f'stage{s}/block0/project/conv/kernel') for s in stages]
  if not kernels or any(kernel is None for kernel in kernels) or 'last/conv/kernel' not in flat:
    return None
  return dict(stem_width=flat['stem/conv/kernel'].shape[3],
              widths=tuple(kernel.shape[3] for kernel in kernels),
              depths=tuple(trees.numbers(flat, rf'stage{s}/block(\d+)/') for s in stages),
              last_width=flat['last/conv/kernel'].shape[3])


def fields(model: efficientnet.EfficientNet, source: Source) -> dict[str, Any]:
  """Returns what torchvision's files imply: other padding, and for B0 to B4 other norms."""
  if source.table is not TORCHVISION:
    return {}
  small = dict(epsilon=1e-5, momentum=.9) if model.last_width < 2048 else {}  # smaller than B5
  return dict(padding='symmetric', **small)


def formats(model: efficientnet.EfficientNet, to: str) -> Table | None:
  """Returns the table of a format; torchvision builds no network with the paper's padding."""
  return dict(timm=TIMM, **(dict(torchvision=TORCHVISION) if model.padding == 'symmetric' else {})
              ).get(to)


def notes(model: efficientnet.EfficientNet, to: str) -> list[str]:
  """Returns which of timm's models reads a written file."""
  kind = "'tf_efficientnet_...'" if model.padding == 'same' else "'efficientnet_...'"
  told_ = f'create {kind}: the padding is {model.padding!r}, with bn_eps={model.epsilon:g}'
  return [told_] * (to == 'timm')


PUBLISHED = Published(efficientnet.FAMILY, (TORCHVISION, TIMM), shown, formats, fields=fields,
                      notes=notes)
