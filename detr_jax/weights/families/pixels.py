"""Files of segmenters: what they show, and how they are read and written."""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn

from detr_jax.models.pixels import deeplab, ocrnet, segmenter, setr, upernet
from detr_jax.weights.families.base import PublishedDetector
from detr_jax.weights.families.pixel_names import (MMSEG, MMSEG_HRNET, MMSEG_PLAIN, MMSEG_SETR,
                                                   MMSEG_SETR_MLA, SEGMENTER)
from vit_jax import trees
from vit_jax.models.hrnet import HRNet
from vit_jax.models.vit import ViT
from vit_jax.weights import families as classifiers
from vit_jax.weights.fit import Rules
from vit_jax.weights.table import Table

_CLASSES = ('decoder/head/', 'decoder/cls_emb', 'decoder/mask_norm/')
_BIASES = ('decoder/head/bias', 'decoder/mask_norm/bias', 'conv_seg/bias', 'context_seg/bias',
           'decode/conv_seg/bias')


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
  for name in _BIASES:
    if name in flat:
      return flat[name].size
  return None


def fields(model, source) -> dict[str, Any]:
  """Returns the fields that a file shows beside those that tell its variant."""
  return dict(num_classes=num_classes(model, source.flat))


def inside(flat: trees.Flat) -> trees.Flat:
  """Returns the parameters of the backbone by its own paths."""
  return {path.removeprefix('backbone/'): leaf for path, leaf in flat.items()
          if path.startswith('backbone/')}


def _shown_by(mark: str):
  """Returns `shown` of the heads that have a parameter: what their backbone's parameters show."""
  def shown(flat: trees.Flat) -> dict[str, Any] | None:
    if mark not in flat:
      return None
    inner = inside(flat)
    for known in classifiers.FAMILIES:
      fields = known.shown(inner)
      if fields is not None:
        return dict(fields, backbone=known.family.module)
    return {}
  return shown


def told(model: nn.Module, names: Iterable[str]) -> dict[str, Any]:
  """Returns the fields that `_shown_by` gives, of a model; {} for a backbone of another family."""
  trunk, names = model.trunk(), set(names)
  if not names <= {'backbone', *trunk.__dataclass_fields__, *dir(type(trunk))}:
    return {}
  own = classifiers.of(trunk).told(trunk, names - {'backbone'})
  return dict(own, backbone=type(trunk)) if names else {}


def shown_setr(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns what the parameters of a SETR show of its variant."""
  if 'decode/enlarge_0_0/conv/kernel' in flat:
    decoder = 'mla'
  elif 'decode/conv_0/conv/kernel' in flat:
    decoder = 'naive' if flat['decode/conv_0/conv/kernel'].shape[0] == 1 else 'pup'
  else:
    return None
  return dict(decoder=decoder, width=flat['backbone/embedding/kernel'].shape[-1],
              depth=trees.numbers(flat, r'backbone/Transformer/encoderblock_(\d+)/'))


def _mmseg(model, to: str) -> Table | None:
  if to != 'authors':
    return None
  trunk = model.trunk()
  if isinstance(trunk, HRNet):
    return MMSEG_HRNET
  return MMSEG_PLAIN if not getattr(trunk, 'deep_root', True) else MMSEG


def _setr(model: setr.SETR, to: str) -> Table | None:
  return (MMSEG_SETR_MLA if model.decoder == 'mla' else MMSEG_SETR) if to == 'authors' else None


def _rules(*segments: str) -> Rules:
  return Rules(classes=segments, heads=segments, optional=('auxiliary', *segments, 'backbone/head'))


SEGMENTER_FILES = PublishedDetector(
    segmenter.FAMILY, (SEGMENTER,), shown_segmenter,
    lambda model, to: SEGMENTER if to == 'authors' and isinstance(model.trunk(), ViT) else None,
    told_segmenter, fields,
    num_classes=num_classes, rules=Rules(
        classes=_CLASSES, heads=_CLASSES, optional=('decoder/', 'backbone/head')))
UPERNET_FILES = PublishedDetector(
    upernet.FAMILY, (MMSEG_HRNET, MMSEG), _shown_by('fpn_bottleneck/conv/kernel'), _mmseg, told, fields,
    num_classes=num_classes, rules=_rules('conv_seg/', 'auxiliary_seg/'))
DEEPLAB_FILES = PublishedDetector(
    deeplab.FAMILY, (MMSEG_HRNET, MMSEG), _shown_by('aspp_0/conv/kernel'), _mmseg, told, fields,
    num_classes=num_classes, rules=_rules('conv_seg/', 'auxiliary_seg/'))
OCRNET_FILES = PublishedDetector(
    ocrnet.FAMILY, (MMSEG_HRNET, MMSEG), _shown_by('context_seg/kernel'), _mmseg, told, fields,
    num_classes=num_classes, rules=_rules('coarse_seg/', 'context_seg/'))
SETR_FILES = PublishedDetector(
    setr.FAMILY, (MMSEG_SETR_MLA, MMSEG_SETR), shown_setr, _setr, told_segmenter, fields,
    num_classes=num_classes, rules=_rules(
        'decode/conv_seg/', *(f'auxiliary_{i}/conv_seg/' for i in range(3)),
        *(f'auxiliary_seg_{i}/' for i in range(4)), 'backbone/cls'))
