"""Weights into a run of a detector: what it starts from, or what it evaluates."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from detr_jax.data.info import DetectionInfo
from detr_jax.weights.fitting import backbone, fit_detector, is_detector
from detr_jax.weights.loading import read
from vit_jax import trees
from vit_jax.errors import UserError
from vit_jax.weights import flatten, replaced
from vit_jax.weights.fit import Report


def initialize(model: nn.Module, variables: Mapping[str, Any], info: DetectionInfo, path: str, *,
               resampling: str = '', resize_patches: bool = False, reset_head: bool = False,
               trained_size: tuple[int, int] = (0, 0)) -> tuple[dict, Report]:
  """Starts a run's variables from other weights (`config.init_from`).

  Args:
    model: of the run.
    variables: its fresh ones, placed on the mesh; what cannot be loaded stays as it is.
    info: of the run's data.
    path: workdir, checkpoint or file of a detector, or of a classifier for its backbone.
    resampling: rule for a backbone's position table; '' for that of the weights' code base.
    resize_patches: not for detectors.
    reset_head: start what belongs to the classes anew even where it would fit.
    trained_size: (height, width) of the images that a classifier was trained at; (0, 0): not known.

  Returns:
    (variables with the same shardings, Report).

  Raises:
    UserError: as `read` and `fit_detector`.
  """
  if resize_patches:
    raise UserError('init_resize_patches is for a classifier that cuts its image into patches')
  source = read(path, model.num_heads, getattr(backbone(model), 'num_heads', None))
  target = trees.unstack({k: jax.ShapeDtypeStruct(v.shape, v.dtype)
                          for k, v in flatten(variables).items()})
  other = is_detector(source) and bool(source.classes) and source.classes != info.classes
  loaded, report = fit_detector(source, model, target, info.image_size, resampling=resampling,
                                reset_head=reset_head or other, trained_size=trained_size)
  return replaced(variables, loaded), report


def follow_protocol(config) -> tuple[Any, list[str]]:
  """Returns the config as it is: how images are resized is in its data, whatever the weights."""
  return config, []


def check_head(path: str, info: DetectionInfo, said: list[str]) -> None:
  """Raises UserError when the log of `initialize` says that some part of the detector started anew."""
  fresh = [line for line in said if line.startswith('reinitialised: ')]
  if fresh:
    raise UserError(f'{path} lacks what detects the {info.num_classes} classes of the data '
                    f'{info.source!r} ({fresh[0]}); fine-tune it on them first, by training with '
                    'init_from')
