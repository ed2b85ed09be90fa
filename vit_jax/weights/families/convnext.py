"""Files of ConvNeXt: the authors' classifiers and backbones, timm's, torchvision's, Hugging Face's."""

from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax import trees
from vit_jax.models import convnext
from vit_jax.models.convnext import ConvNeXt
from vit_jax.weights.families.base import Facts, Published, Source, attributes, facts_of
from vit_jax.weights.families.rows import CONV, dense, norm
from vit_jax.weights.fit import CLASSIFIER
from vit_jax.weights.table import Row, Table

_FIRST = 'stage0/block0/'
_NORMS = tuple(f'norm{i}/' for i in range(4))  # of dense use
DEPTHWISE = 'c 1 h w -> h w c'  # of PyTorch's kernels


def _conv(theirs: str, ours: str) -> tuple[Row, ...]:
  return Row(f'{theirs}.weight', f'{ours}/kernel', CONV), Row(f'{theirs}.bias', f'{ours}/bias')


def _block(theirs: str, ours: str, dwconv: str, norm_: str, first: str, second: str, gamma: str,
           axes: str = '') -> tuple[Row, ...]:
  """Returns the rows of a block, by the names of its parts; `axes` of the layer scale."""
  return (
      Row(f'{theirs}{dwconv}.weight', f'{ours}dwconv/kernel', DEPTHWISE),
      Row(f'{theirs}{dwconv}.bias', f'{ours}dwconv/bias'), *norm(theirs + norm_, f'{ours}norm'),
      *dense(theirs + first, f'{ours}mlp/Dense_0'), *dense(theirs + second, f'{ours}mlp/Dense_1'),
      Row(theirs + gamma, f'{ours}gamma', axes))


def _between(theirs: str, first: str = '0', second: str = '1', step: int = 1) -> tuple[Row, ...]:
  """Returns the rows of the downsamplers; `theirs` with the number of the stage for {}."""
  return tuple(row for s in (1, 2, 3) for row in (
      *norm(f'{theirs.format(s * step)}.{first}', f'stage{s}/downsample/norm'),
      *_conv(f'{theirs.format(s * step)}.{second}', f'stage{s}/downsample/conv')))


_PARTS = ('dwconv', 'norm', 'pwconv1', 'pwconv2', 'gamma')

# ConvNeXt: of classifiers, and below `backbone.` of detectors and segmenters.
AUTHORS = Table('convnext', (
    *_conv('downsample_layers.0.0', 'stem/conv'), *norm('downsample_layers.0.1', 'stem/norm'),
    *_between('downsample_layers.{}'), *_block('stages.{s}.{b}.', 'stage{s}/block{b}/', *_PARTS),
    *norm('norm', 'norm'), *norm('norm{i}', 'norm{i}'), *dense('head', 'head'),
), shown_by=r'downsample_layers\.0\.0\.weight')

AUTHORS_ISOTROPIC = Table('convnext_isotropic', (
    *_conv('stem', 'stem/conv'), *_block('blocks.{b}.', 'stage0/block{b}/', *_PARTS),
    *norm('norm', 'norm'), *dense('head', 'head'),
), shown_by=r'blocks\.0\.dwconv\.weight')

TIMM = Table('timm_convnext', (
    *_conv('stem.0', 'stem/conv'), *norm('stem.1', 'stem/norm'), *_between('stages.{}.downsample'),
    *_block('stages.{s}.blocks.{b}.', 'stage{s}/block{b}/', 'conv_dw', 'norm', 'mlp.fc1', 'mlp.fc2',
            'gamma'),
    *norm('head.norm', 'norm'), *dense('head.fc', 'head'),
), shown_by=r'stages\.0\.blocks\.0\.conv_dw\.weight')

TORCHVISION = Table('torchvision_convnext', (
    *_conv('features.0.0', 'stem/conv'), *norm('features.0.1', 'stem/norm'),
    *_between('features.{}', step=2),
    *(row for s in range(4) for row in _block(
        f'features.{2 * s + 1}.{{b}}.', f'stage{s}/block{{b}}/', 'block.0', 'block.2', 'block.3',
        'block.5', 'layer_scale', 'c 1 1 -> c')),
    *norm('classifier.0', 'norm'), *dense('classifier.2', 'head'),
), shown_by=r'features\.1\.0\.layer_scale')


def _huggingface(name: str, root: str) -> Table:
  stage = root + 'encoder.stages.{s}.'
  return Table(name, (
      *_conv(root + 'embeddings.patch_embeddings', 'stem/conv'),
      *norm(root + 'embeddings.layernorm', 'stem/norm'),
      *_between(root + 'encoder.stages.{}.downsampling_layer'),
      *_block(stage + 'layers.{b}.', 'stage{s}/block{b}/', 'dwconv', 'layernorm', 'pwconv1', 'pwconv2',
              'layer_scale_parameter'),
      *norm(root + 'layernorm', 'norm'), *dense('classifier', 'head'),
      *norm('hidden_states_norms.stage{i+1}', 'norm{i}'),
  ), shown_by=root.replace('.', r'\.') + r'encoder\.stages\.0\.layers\.0\.dwconv\.weight')


# transformers' classifiers, and its backbones and bare models.
HUGGINGFACE = _huggingface('huggingface_convnext', 'convnext.')
BACKBONE = _huggingface('huggingface_convnext_backbone', '')


def shown(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns the fields of a ConvNeXt that its parameters show."""
  kernels = [flat.get(f'stage{s}/block0/dwconv/kernel') for s in range(
      trees.numbers(flat, r'stage(\d+)/'))]
  needed = 'stem/conv/kernel' in flat and _FIRST + 'mlp/Dense_0/kernel' in flat
  if not needed or not kernels or any(kernel is None for kernel in kernels):
    return None
  return dict(widths=tuple(kernel.shape[-1] for kernel in kernels),
              depths=tuple(trees.numbers(flat, rf'stage{s}/block(\d+)/') for s in range(len(kernels))),
              patch_size=flat['stem/conv/kernel'].shape[0], stem_norm='stem/norm/scale' in flat)


def told(model: ConvNeXt, names: Iterable[str]) -> dict[str, Any]:
  """Returns the fields that `shown` gives, of a model."""
  return attributes(model, names)


def fields(model: ConvNeXt, source: Source) -> dict[str, Any]:
  """Returns the fields of a ConvNeXt that a file shows beside those that tell its variant."""
  scaled = _FIRST + 'gamma' in source.flat
  return dict(map_norms='norm0/scale' in source.flat,
              layer_scale=(model.layer_scale or 1e-6) if scaled else None)


def formats(model: ConvNeXt, to: str) -> Table | None:
  """Returns the table of a format; Hugging Face's dense models are backbones."""
  if not model.stem_norm:
    return dict(authors=AUTHORS_ISOTROPIC).get(to)
  return dict(authors=AUTHORS, timm=TIMM, torchvision=TORCHVISION,
              huggingface=BACKBONE if model.num_classes is None else HUGGINGFACE).get(to)


def notes(model: ConvNeXt, to: str) -> list[str]:
  """Returns what the reader of a written file must know."""
  huggingface = to == 'huggingface' and model.num_classes is not None
  return ['create theirs with layer_norm_eps=1e-6: its own default, 1e-12, is for the last norm'
          ] * huggingface


def described(config: Mapping, processor: Mapping) -> Facts:
  """Returns what transformers' ConvNextConfig says, and its image processor."""
  return facts_of(config, processor)


PUBLISHED = Published(
    convnext.FAMILY, (AUTHORS, AUTHORS_ISOTROPIC, TIMM, TORCHVISION, HUGGINGFACE, BACKBONE), shown,
    formats, told, fields, notes=notes, described=dict(convnext=described),
    rules=CLASSIFIER.extended(optional=_NORMS, of_head=('norm/',)))
