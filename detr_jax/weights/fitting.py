"""Fitting weights to a detector: those of a detector, or of a classifier to its backbone."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from detr_jax.weights.detr import STATE
from vit_jax import models, trees
from vit_jax.weights import differences, model_grid, old_grid
from vit_jax.weights.fit import Report, Rules, fit
from vit_jax.weights.published import Source

BACKBONE = 'backbone/'

CLASSES = ('class_embed/', 'denoising_embed')
DETECTOR = Rules(
    classes=CLASSES, heads=CLASSES, rows=('query_embed', 'anchors', 'row_embed', 'col_embed'),
    # Masks, learned positions and denoising queries are there or not by the fields of the model.
    optional=(*CLASSES, 'bbox_attention/', 'mask_head/', 'row_embed', 'col_embed', 'backbone/head/'),
    backbone=BACKBONE)


def is_detector(source: Source) -> bool:
  """Tells whether weights are those of a detector, and not of a classifier."""
  return 'query_embed' in source.flat


def backbone(model: nn.Module) -> nn.Module:
  """Returns the backbone of a detector as a model of `vit_jax`."""
  return models.create_model(model.backbone, **{**model.backbone_fields, 'num_classes': None})


def fit_detector(source: Source, model: nn.Module, target: Mapping[str, Any],
                 image_size: tuple[int, int], *, resampling: str = '', reset_head: bool = False,
                 trained_size: tuple[int, int] = (0, 0)) -> tuple[dict[str, np.ndarray], Report]:
  """Makes weights fit a detector with other classes, queries or parts.

  Args:
    source: of a detector, or of a classifier, of which the backbone is made.
    model: the detector.
    target: shapes of its parameters: our paths, layers one by one.
    image_size: (height, width) of its images, for a backbone with a table of positions.
    resampling: rule for that table; '' for that of the weights' code base.
    reset_head: start what belongs to the classes anew even where it would fit.
    trained_size: (height, width) of the images that a classifier was trained at; (0, 0): not known.

  Returns:
    (the arrays that could be loaded, Report), as `vit_jax.weights.fit.fit` does.

  Raises:
    UserError: lists missing, unexpected and misshapen parameters.
  """
  if is_detector(source):
    out, report = fit(source.flat, target, new=None, reset_head=reset_head, rules=DETECTOR)
  else:
    out, report = _fit_backbone(source, model, target, image_size, resampling, trained_size)
  report.reinitialised = grouped(report.reinitialised)
  report.ignored = grouped(report.ignored)
  return out, report


def _fit_backbone(source, model, target, image_size, resampling, trained_size):
  """Fits a classifier's weights to the backbone; all else starts anew."""
  own = {short: leaf for path, leaf in target.items() for short in [_without(path)] if short}
  of = backbone(model)
  out, report = fit(source.flat, own, old=old_grid(source, of, image_size, trained_size),
                    new=model_grid(of, image_size),
                    class_position=source.table.class_position,
                    resampling=resampling or source.table.resampling)
  report.note += differences(of, source.table)
  report.note.append('these are weights of a classifier: the backbone has them, all else starts anew')
  report.reinitialised += [path for path in target if not _without(path)]
  return {_within(path): array for path, array in out.items()}, report


def _without(path: str) -> str:
  """Returns the backbone's own path of a parameter in it, '' for any other."""
  state = STATE * path.startswith(STATE)
  inner = path.removeprefix(STATE)
  return state + inner.removeprefix(BACKBONE) if inner.startswith(BACKBONE) else ''


def _within(path: str) -> str:
  """The inverse of `_without`."""
  state = STATE * path.startswith(STATE)
  return f'{state}{BACKBONE}{path.removeprefix(STATE)}'


def grouped(entries: list[str]) -> list[str]:
  """Returns one entry for all paths below the same module of the detector: 'mask_head (26 arrays)'."""
  top = [re.match(r'[^/ ]+', entry)[0] for entry in entries]
  count = Counter(top)
  out = [entry if count[name] < 3 else f'{name} ({count[name]} arrays)'
         for name, entry in zip(top, entries, strict=True)]
  return list(dict.fromkeys(out))


def fields(flat: trees.Flat, classifier: str = 'softmax') -> dict[str, Any]:
  """Returns the fields of a detector that its weights show; not its heads, backbone and dilation."""
  layers = lambda side: len({m[1] for path in flat if (m := re.match(rf'{side}/(layer_\d+)/', path))})
  shown = dict(
      num_queries=flat['query_embed'].shape[0], width=flat['query_embed'].shape[1],
      encoder_layers=layers('encoder'), decoder_layers=layers('decoder'),
      pre_norm='encoder/norm/scale' in flat, masks='mask_head/lay1/kernel' in flat)
  if 'class_embed/bias' in flat:
    shown['num_classes'] = flat['class_embed/bias'].size - (classifier == 'softmax')
  if 'decoder/layer_0/linear1/kernel' in flat:
    shown['mlp_dim'] = flat['decoder/layer_0/linear1/kernel'].shape[1]
  if 'row_embed' in flat:
    shown |= dict(encoder_positions='learned_attn', decoder_positions='learned_attn',
                  max_positions=flat['row_embed'].shape[0])
  return shown


def units(flat: trees.Flat) -> tuple[tuple[int, ...], bool]:
  """Returns the units per stage of a ResNet backbone, and whether they are bottlenecks."""
  found = {match.groups() for path in flat
           for match in [re.match(rf'{BACKBONE}block(\d+)/unit(\d+)/', path)] if match}
  depths = Counter(int(stage) for stage, _ in found)
  return tuple(depths[s] for s in sorted(depths)), f'{BACKBONE}block1/unit1/conv3/kernel' in flat
