"""Files of Swin: the authors' classifiers and backbones, timm's, torchvision's, Hugging Face's."""

import functools
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vit_jax import trees
from vit_jax.errors import UserError
from vit_jax.layers import positions
from vit_jax.models import swin
from vit_jax.models.swin import Swin
from vit_jax.weights.families.base import Facts, Published, Refit, Source, attributes, facts_of
from vit_jax.weights.families.rows import CONV, dense, norm
from vit_jax.weights.fit import CLASSIFIER, Report
from vit_jax.weights.table import Row, Table

_BLOCK, _FIRST = 'stage{s}/block{b}/', 'stage0/block0/'
_NORMS = tuple(f'norm{i}/' for i in range(4))  # of dense use
TABLE = 'attention/relative_position_bias_table'
BUFFERS = r'(.*\.)?(relative_position_index|attn_mask)'  # the code makes them anew
IMAGENET22K = 21_841  # classes


def _conv(theirs: str) -> tuple[Row, ...]:
  return (Row(f'{theirs}.weight', 'patch_embed/conv/kernel', CONV),
          Row(f'{theirs}.bias', 'patch_embed/conv/bias'))


def _fused(theirs: str, first: str, second: str, ours: str = _BLOCK) -> tuple[Row, ...]:
  """Returns the rows of a block whose query, key and value are one matrix; the MLP's two layers."""
  parts = ours + 'attention/{query|key|value}/'
  return (
      *norm(theirs + 'norm{n}', ours + 'norm{n}'),
      Row(theirs + 'attn.relative_position_bias_table', ours + TABLE),
      Row(theirs + 'attn.qkv.weight', parts + 'kernel', '(n o) i -> n i o'),
      Row(theirs + 'attn.qkv.bias', parts + 'bias', '(n o) -> n o'),
      *dense(theirs + 'attn.proj', ours + 'attention/out'),
      *dense(theirs + first, ours + 'mlp/Dense_0'), *dense(theirs + second, ours + 'mlp/Dense_1'))


def _merging(theirs: str, ours: str) -> tuple[Row, ...]:
  return (Row(f'{theirs}.reduction.weight', f'{ours}/downsample/reduction/kernel', 'o i -> i o'),
          *norm(f'{theirs}.norm', f'{ours}/downsample/norm'))


def _table(name: str, rows: tuple[Row, ...], shown_by: str) -> Table:
  return Table(name, rows, shown_by, ignored=BUFFERS, resampling='bicubic')


# Swin-Transformer: of classifiers, and below `backbone.` of detectors and segmenters.
AUTHORS = _table('swin', (
    *_conv('patch_embed.proj'), *norm('patch_embed.norm', 'patch_embed/norm'),
    Row('absolute_pos_embed', 'absolute_pos_embed'),
    *_fused('layers.{s}.blocks.{b}.', 'mlp.fc1', 'mlp.fc2'),
    *_merging('layers.{s}.downsample', 'stage{s+1}'),
    *norm('norm', 'norm'), *norm('norm{i}', 'norm{i}'), *dense('head', 'head'),
), r'layers\.0\.downsample\.reduction\.weight')

TIMM = _table('timm_swin', (
    *_conv('patch_embed.proj'), *norm('patch_embed.norm', 'patch_embed/norm'),
    *_fused('layers.{s}.blocks.{b}.', 'mlp.fc1', 'mlp.fc2'),
    *_merging('layers.{s}.downsample', 'stage{s}'), *norm('norm', 'norm'), *dense('head.fc', 'head'),
), r'layers\.1\.downsample\.reduction\.weight')

TORCHVISION = _table('torchvision_swin', (
    *_conv('features.0.0'), *norm('features.0.2', 'patch_embed/norm'),
    *(row for s in range(4) for row in _fused(
        f'features.{2 * s + 1}.{{b}}.', 'mlp.0', 'mlp.3', f'stage{s}/block{{b}}/')),
    *(row for s in (1, 2, 3) for row in _merging(f'features.{2 * s}', f'stage{s}')),
    *norm('norm', 'norm'), *dense('head', 'head'),
), r'features\.1\.0\.attn\.relative_position_bias_table')


def _huggingface(name: str, root: str) -> Table:
  block = root + 'encoder.layers.{s}.blocks.{b}.'
  return _table(name, (
      *_conv(root + 'embeddings.patch_embeddings.projection'),
      *norm(root + 'embeddings.norm', 'patch_embed/norm'),
      *norm(block + 'layernorm_before', _BLOCK + 'norm1'),
      *norm(block + 'layernorm_after', _BLOCK + 'norm2'),
      Row(block + 'attention.self.relative_position_bias_table', _BLOCK + TABLE),
      *dense(block + 'attention.output.dense', _BLOCK + 'attention/out'),
      *dense(block + 'attention.self.{part}', _BLOCK + 'attention/{part}'),
      *dense(block + 'intermediate.dense', _BLOCK + 'mlp/Dense_0'),
      *dense(block + 'output.dense', _BLOCK + 'mlp/Dense_1'),
      *_merging(root + 'encoder.layers.{s}.downsample', 'stage{s+1}'),
      *norm(root + 'layernorm', 'norm'), *dense('classifier', 'head'),
      *norm('hidden_states_norms.stage{i+1}', 'norm{i}'),
  ), root.replace('.', r'\.')
      + r'encoder\.layers\.0\.blocks\.0\.attention\.self\.relative_position_bias_table')


# transformers' classifiers, and its backbones and bare models.
HUGGINGFACE = _huggingface('huggingface_swin', 'swin.')
BACKBONE = _huggingface('huggingface_swin_backbone', '')


def window(table: np.ndarray) -> int:
  """Returns the side of the windows that a bias table `[(2 side - 1)**2, heads]` is for."""
  return (math.isqrt(table.shape[0]) + 1) // 2


def shown(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns the fields of a Swin that its parameters show."""
  tables = [flat.get(f'stage{s}/block0/{TABLE}') for s in range(trees.numbers(flat, r'stage(\d+)/'))]
  if not tables or any(table is None for table in tables):
    return None
  width, hidden = flat[_FIRST + 'mlp/Dense_0/kernel'].shape
  return dict(width=width, mlp_ratio=hidden / width,
              depths=tuple(trees.numbers(flat, rf'stage{s}/block(\d+)/') for s in range(len(tables))),
              num_heads=tuple(table.shape[1] for table in tables), window_size=window(tables[0]))


def fields(model: Swin, source: Source) -> dict[str, Any]:
  """Returns the fields of a Swin that a file shows beside those that tell its variant."""
  return dict(qkv_bias=_FIRST + 'attention/query/bias' in source.flat,
              patch_norm='patch_embed/norm/scale' in source.flat,
              absolute_positions='absolute_pos_embed' in source.flat,
              map_norms='norm0/scale' in source.flat)


@functools.cache
def imagenet22k_rows() -> np.ndarray:
  """Returns int `[1000]`: the class of ImageNet-22k that each class of ImageNet-1k is."""
  path = os.path.join(os.path.dirname(__file__), '..', '..', 'pretrained', 'imagenet22k_to_1k.txt')
  return np.loadtxt(path, np.int32)


def refit(source: Source, target: Mapping[str, jax.ShapeDtypeStruct], asked: Refit, report: Report
          ) -> trees.Flat:
  """Returns the parameters with biases of the model's windows and the classes of ImageNet-1k.

  Tables are resampled bicubically, and of a head for ImageNet-22k the rows of the model's 1000 classes
  are taken, both as the authors' `load_pretrained` does.

  Raises:
    UserError: for a request to resize patches.
  """
  if asked.resize_patches:
    raise UserError('resize_patches is for a model with one grid of patches, such as a ViT')
  flat, rule = dict(source.flat), asked.resampling or source.table.resampling
  for path, table in source.flat.items():
    new = target[path].shape if path.endswith(TABLE) and path in target else table.shape
    if new != table.shape and new[1] == table.shape[1]:
      old, side = math.isqrt(table.shape[0]), math.isqrt(new[0])
      out = positions.RESAMPLING[rule](table.reshape(old, old, -1), (side, side))
      flat[path] = out.reshape(new).astype(table.dtype)
      report.resampled.append(f'{path} {old}x{old} -> {side}x{side} by {rule}')
  kernel, wanted = flat.get('head/kernel'), target.get('head/kernel')
  if kernel is not None and wanted is not None and (
      kernel.shape[1], wanted.shape[1]) == (IMAGENET22K, 1000):
    flat |= {path: flat[path][..., imagenet22k_rows()] for path in ('head/kernel', 'head/bias')}
    report.resampled.append('head 21841 -> 1000 classes: those of ImageNet-1k among ImageNet-22k')
  return flat


def formats(model: Swin, to: str) -> Table | None:
  """Returns the table of a format; Hugging Face's dense models are backbones."""
  if to == 'huggingface':
    return BACKBONE if model.num_classes is None else HUGGINGFACE
  classifier = {} if model.num_classes is None else dict(timm=TIMM, torchvision=TORCHVISION)
  return dict(classifier, authors=AUTHORS).get(to)


def described(config: Mapping, processor: Mapping) -> Facts:
  """Returns what transformers' SwinConfig says, and its image processor."""
  return facts_of(config, processor)


PUBLISHED = Published(
    swin.FAMILY, (HUGGINGFACE, BACKBONE, AUTHORS, TIMM, TORCHVISION), shown, formats, attributes, fields,
    refit=refit, described=dict(swin=described),
    rules=CLASSIFIER.extended(optional=_NORMS, of_head=('norm/',)))
