"""Files of NAT and DiNAT: the authors' classifiers and backbones, and Hugging Face's."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax

from vit_jax import trees
from vit_jax.errors import UserError
from vit_jax.layers import positions
from vit_jax.models import nat
from vit_jax.models.nat import NAT
from vit_jax.weights.families.base import Facts, Published, Refit, Source, attributes, facts_of
from vit_jax.weights.families.rows import CONV, dense, norm
from vit_jax.weights.fit import CLASSIFIER, Report
from vit_jax.weights.table import Row, Table

_LAYER, _FIRST = 'level{s}/layer{b}/', 'level0/layer0/'
_NORMS = tuple(f'norm{i}/' for i in range(4))  # of dense use


def _rows(tokens: str, last: str, maps: str, head: str, downsample: str) -> tuple[Row, ...]:
  """Returns the rows of what stands around the layers, by the names of the parts."""
  return (
      Row(f'{tokens}.{{i}}.weight', 'tokenizer/conv_{i}/kernel', CONV),
      Row(f'{tokens}.{{i}}.bias', 'tokenizer/conv_{i}/bias'),
      Row(downsample + '.reduction.weight', 'level{s+1}/downsample/conv/kernel', CONV),
      *norm(downsample + '.norm', 'level{s+1}/downsample/norm'),
      *norm(last, 'norm'), *norm(maps, 'norm{i}'), *dense(head, 'head'))


def _authors() -> tuple[Row, ...]:
  theirs = 'levels.{s}.blocks.{b}.'
  return (
      *norm('patch_embed.norm', 'tokenizer/norm'),
      *norm(theirs + 'norm{n}', _LAYER + 'norm{n}'),
      Row(theirs + 'attn.rpb', _LAYER + 'attention/relative_bias'),
      Row(theirs + 'attn.qkv.weight', _LAYER + 'attention/{query|key|value}/kernel', '(n o) i -> n i o'),
      Row(theirs + 'attn.qkv.bias', _LAYER + 'attention/{query|key|value}/bias', '(n o) -> n o'),
      *dense(theirs + 'attn.proj', _LAYER + 'attention/out'),
      *dense(theirs + 'mlp.fc1', _LAYER + 'mlp/Dense_0'),
      *dense(theirs + 'mlp.fc2', _LAYER + 'mlp/Dense_1'),
      Row(theirs + 'gamma{n}', _LAYER + 'gamma_{n}'),
      *_rows('patch_embed.proj', 'norm', 'norm{i}', 'head', 'levels.{s}.downsample'))


# Neighborhood-Attention-Transformer: of classifiers, and below `backbone.` of detectors and segmenters.
AUTHORS = Table('nat', _authors(), shown_by=r'levels\.0\.blocks\.0\.attn\.rpb', resampling='bicubic')


def _huggingface(root: str) -> tuple[Row, ...]:
  theirs = root + 'encoder.levels.{s}.layers.{b}.'
  return (
      *norm(root + 'embeddings.norm', 'tokenizer/norm'),
      *norm(theirs + 'layernorm_before', _LAYER + 'norm1'),
      *norm(theirs + 'layernorm_after', _LAYER + 'norm2'),
      Row(theirs + 'attention.self.rpb', _LAYER + 'attention/relative_bias'),
      *dense(theirs + 'attention.output.dense', _LAYER + 'attention/out'),
      *dense(theirs + 'attention.self.{part}', _LAYER + 'attention/{part}'),
      *dense(theirs + 'intermediate.dense', _LAYER + 'mlp/Dense_0'),
      *dense(theirs + 'output.dense', _LAYER + 'mlp/Dense_1'),
      Row(theirs + 'layer_scale_parameters', _LAYER + 'gamma_{1|2}', 'n c -> n c'),
      *_rows(root + 'embeddings.patch_embeddings.projection', root + 'layernorm',
             'hidden_states_norms.stage{i+1}', 'classifier', root + 'encoder.levels.{s}.downsample'))


_SHOWN = r'encoder\.levels\.0\.layers\.0\.attention\.self\.rpb'
# transformers' classifiers (its `nat` was removed in version 5), and its backbones and bare models.
DINAT = Table('dinat', _huggingface('dinat.'), shown_by=r'dinat\.' + _SHOWN, resampling='bicubic')
HUGGINGFACE_NAT = Table('huggingface_nat', _huggingface('nat.'), shown_by=r'nat\.' + _SHOWN,
                        resampling='bicubic')
BACKBONE = Table('dinat_backbone', _huggingface(''), shown_by=_SHOWN, resampling='bicubic')


def shown(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns the fields of a NAT that its parameters show; none shows the dilations."""
  biases = [flat.get(f'level{s}/layer0/attention/relative_bias') for s in range(
      trees.numbers(flat, r'level(\d+)/'))]
  hidden = flat.get(_FIRST + 'mlp/Dense_0/kernel')
  if not biases or hidden is None or any(bias is None for bias in biases):
    return None
  return dict(width=hidden.shape[0], mlp_ratio=hidden.shape[1] / hidden.shape[0],
              depths=tuple(trees.numbers(flat, rf'level{s}/layer(\d+)/') for s in range(len(biases))),
              num_heads=tuple(bias.shape[0] for bias in biases),
              kernel_size=(biases[0].shape[1] + 1) // 2, layer_scale=_FIRST + 'gamma_1' in flat)


def told(model: NAT, names: Iterable[str]) -> dict[str, Any]:
  """Returns the fields that `shown` gives, of a model."""
  return {**attributes(model, names), 'layer_scale': model.layer_scale is not None}


def fields(model: NAT, source: Source) -> dict[str, Any]:
  """Returns the fields of a NAT that a file shows beside those that tell its variant."""
  scaled = _FIRST + 'gamma_1' in source.flat
  return dict(qkv_bias=_FIRST + 'attention/query/bias' in source.flat,
              map_norms='norm0/scale' in source.flat,
              layer_scale=(model.layer_scale or 1e-5) if scaled else None)


def refit(source: Source, target: Mapping[str, jax.ShapeDtypeStruct], asked: Refit, report: Report
          ) -> trees.Flat:
  """Returns the parameters with the relative biases of the model's kernel size.

  Raises:
    UserError: for a request to resize patches: there are none.
  """
  if asked.resize_patches:
    raise UserError('resize_patches is for a model that cuts its image into patches')
  flat, rule = dict(source.flat), asked.resampling or source.table.resampling
  for path, bias in source.flat.items():
    new = target[path].shape if path.endswith('/relative_bias') and path in target else bias.shape
    if new != bias.shape and new[0] == bias.shape[0]:
      table = positions.RESAMPLING[rule](bias.transpose(1, 2, 0), new[1:])
      flat[path] = table.transpose(2, 0, 1).astype(bias.dtype)
      report.resampled.append('{} {}x{} -> {}x{} by {}'.format(path, *bias.shape[1:], *new[1:], rule))
  return flat


def formats(model: NAT, to: str) -> Table | None:
  """Returns the table of a format; Hugging Face's dense models are backbones."""
  return dict(authors=AUTHORS, huggingface=BACKBONE if model.num_classes is None else DINAT).get(to)


def described(config: Mapping, processor: Mapping) -> Facts:
  """Returns what transformers' DinatConfig or NatConfig says, and its image processor."""
  dilations = config.get('dilations')
  fields = dict(dilations=tuple(map(tuple, dilations))) if dilations else {}
  return facts_of(config, processor, **fields)


PUBLISHED = Published(
    nat.FAMILY, (AUTHORS, DINAT, HUGGINGFACE_NAT, BACKBONE), shown, formats, told, fields, refit=refit,
    described=dict(dinat=described, nat=described),
    rules=CLASSIFIER.extended(optional=_NORMS, of_head=('norm/',)))
