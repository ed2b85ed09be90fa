"""Fitting weights to a model of any family."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models.family import Size
from vit_jax.weights import families
from vit_jax.weights.families import Refit, Source
from vit_jax.weights.fit import CLASSIFIER, Report, fit
from vit_jax.weights.table import Table


def fit_model(source: Source, model: nn.Module, target: Mapping[str, Any], image_size: Size, *,
              resampling: str = '', resize_patches: bool = False, reset_head: bool = False,
              trained_size: Size = (0, 0)) -> tuple[dict[str, np.ndarray], Report]:
  """Makes weights fit a model of another resolution, head or number of channels.

  Args:
    source: the weights.
    model: of their family.
    target: shapes of its parameters: our paths, layers one by one.
    image_size: (height, width) of its images.
    resampling: rule for position tables, one of `layers.positions.RESAMPLING`; '' for that of the
      weights' code base.
    resize_patches: resize the kernel of the patch embedding, see `positions.resize_kernel`.
    reset_head: start the head anew even where it would fit.
    trained_size: (height, width) of the images that the weights were trained at; (0, 0): not known.

  Returns:
    (the arrays that could be loaded, Report), as `fit`.

  Raises:
    UserError: lists missing, unexpected and misshapen parameters.
  """
  known, report, flat = families.of(model), Report(), source.flat
  if known and known.refit:
    asked = Refit(model, image_size, resampling, resize_patches, trained_size)
    flat = known.refit(source, target, asked, report)
  elif resize_patches:
    raise UserError('resize_patches is for a model that cuts its image into patches')
  return fit(flat, target, known.rules if known else CLASSIFIER, reset_head=reset_head, report=report,
             kernel=models.family(model).image_kernel(target))


def differences(model: nn.Module, table: Table) -> list[str]:
  """Returns a sentence on each field in which a model differs from those whose files have such names."""
  return [f'files with names as in {table.name} are of models with {field}={value!r}, this one has '
          f'{getattr(model, field)!r} (config.model.{field})' for field, value in table.fields.items()
          if getattr(model, field, value) != value]
