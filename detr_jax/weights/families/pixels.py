"""Files of segmenters: what they show, and how they are read and written."""

from collections.abc import Iterable
from typing import Any

from detr_jax.models.pixels import segmenter, upernet
from detr_jax.weights.families.base import PublishedDetector
from detr_jax.weights.families.pixel_names import SEGMENTER, UPERNET_SWIN
from vit_jax import trees
from vit_jax.weights.fit import Rules
from vit_jax.weights.table import Table

_CLASSES = ('decoder/head/', 'decoder/cls_emb', 'decoder/mask_norm/')
_SEGMENTS = ('conv_seg/', 'auxiliary_seg/')


def shown_segmenter(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns what the parameters of a Segmenter show of its variant: decoder, patches, width, layers."""
  mask, linear = 'decoder/cls_emb' in flat, 'decoder/head/kernel' in flat
  if not (mask or linear) or 'backbone/embedding/kernel' not in flat:
    return {} if mask or linear else None
  kernel = flat['backbone/embedding/kernel']
  return dict(decoder='mask' if mask else 'linear', patch_size=kernel.shape[0], width=kernel.shape[-1],
              depth=trees.numbers(flat, r'backbone/Transformer/encoderblock_(\d+)/'),
              distillation_token='backbone/dist' in flat)


def told_segmenter(model: segmenter.Segmenter, names: Iterable[str]) -> dict[str, Any]:
  """Returns the fields that `shown_segmenter` gives, of a model on a ViT."""
  trunk = model.trunk()
  return {name: model.decoder if name == 'decoder' else getattr(trunk, name, None) for name in names}


def num_classes(model, flat: trees.Flat) -> int | None:
  """Returns the number of classes of weights."""
  for name in ('decoder/head/bias', 'decoder/mask_norm/bias', 'conv_seg/bias'):
    if name in flat:
      return flat[name].size
  return None


def fields(model, source) -> dict[str, Any]:
  """Returns the fields that a file shows beside those that tell its variant."""
  return dict(num_classes=num_classes(model, source.flat))


def shown_upernet(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns what the parameters of an UperNet over Swin show of its variant."""
  if 'fpn_bottleneck/conv/kernel' not in flat:
    return None
  stages = range(trees.numbers(flat, r'backbone/stage(\d+)/'))
  return dict(depths=tuple(trees.numbers(flat, rf'backbone/stage{s}/block(\d+)/') for s in stages))


def told_upernet(model: upernet.UperNet, names: Iterable[str]) -> dict[str, Any]:
  """Returns the fields that `shown_upernet` gives, of a model."""
  trunk = model.trunk()
  return {name: getattr(trunk, name, None) for name in names}


def _formats(table: Table, word: str):
  return lambda model, to: table if to == word else None


SEGMENTER_FILES = PublishedDetector(
    segmenter.FAMILY, (SEGMENTER,), shown_segmenter, _formats(SEGMENTER, 'authors'), told_segmenter,
    fields, num_classes=num_classes, rules=Rules(
        classes=_CLASSES, heads=_CLASSES, optional=('decoder/', 'backbone/head')))
UPERNET_FILES = PublishedDetector(
    upernet.FAMILY, (UPERNET_SWIN,), shown_upernet, _formats(UPERNET_SWIN, 'authors'), told_upernet,
    fields, num_classes=num_classes, rules=Rules(
        classes=_SEGMENTS, heads=_SEGMENTS, optional=('auxiliary', *_SEGMENTS, 'backbone/head')))
