"""Fitting weights to a detector: those of a detector, or of a classifier to its backbone."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from detr_jax.weights import families
from vit_jax import models
from vit_jax.weights import Source, differences, fit_model
from vit_jax.weights import families as classifiers
from vit_jax.weights.families.base import Refit
from vit_jax.weights.fit import Report, fit
from vit_jax.weights.shapes import STATE

BACKBONE = 'backbone/'


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
  of = backbone(model)
  if families.known(source.flat):
    kernel, report = models.family(of).image_kernel(_inside(target)), Report()
    flat, known = source.flat, classifiers.of(of)
    if known and known.refit:  # tables of positions, for images of another size
      own = known.refit(source._replace(flat=_inside(flat)), _inside(target),
                        Refit(of, image_size, resampling, trained_size=trained_size), report)
      flat = {**flat, **{_within(path): array for path, array in own.items()}}
    return fit(flat, target, families.of(model).rules, reset_head=reset_head, report=report,
               kernel=kernel and BACKBONE + kernel)
  out, report = fit_model(source, of, _inside(target), image_size, resampling=resampling,
                          trained_size=trained_size)
  report.note += differences(of, source.table)
  report.note.append('these are weights of a classifier: the backbone has them, all else starts anew')
  report.reinitialised |= dict.fromkeys((path for path in target if not _without(path)), '')
  return {_within(path): array for path, array in out.items()}, report


def _inside(target: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what lies in the backbone, by its own paths."""
  return {short: leaf for path, leaf in target.items() if (short := _without(path))}


def _without(path: str) -> str:
  """Returns the backbone's own path of a parameter in it, '' for any other."""
  state = STATE * path.startswith(STATE)
  inner = path.removeprefix(STATE)
  return state + inner.removeprefix(BACKBONE) if inner.startswith(BACKBONE) else ''


def _within(path: str) -> str:
  """The inverse of `_without`."""
  state = STATE * path.startswith(STATE)
  return f'{state}{BACKBONE}{path.removeprefix(STATE)}'
