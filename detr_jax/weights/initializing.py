"""Weights into a run of a detector: what it starts from, or what it evaluates."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from detr_jax.data.info import DetectionInfo
from detr_jax.data.sources import BUILT_IN
from detr_jax.data.sources.base import UNUSED
from detr_jax.pretrained import DETECTORS
from detr_jax.weights import families
from detr_jax.weights.fitting import backbone, fit_detector
from detr_jax.weights.loading import origin, read
from vit_jax import trees
from vit_jax import weights as classifier_weights
from vit_jax.errors import UserError
from vit_jax.weights import Run, Source, flatten, replaced
from vit_jax.weights.fit import Report

SLOTS = 'data.id_slots='


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
  other = bool(families.known(source.flat) and source.classes
               and not same_classes(source.classes, info))
  loaded, report = fit_detector(source, model, target, info.image_size, resampling=resampling,
                                reset_head=reset_head or other, trained_size=trained_size)
  report.note += _class_notes(source, model, info, path)
  return replaced(variables, loaded), report


def same_classes(classes: Sequence[str], info: DetectionInfo) -> bool:
  """Tells whether every class that the data uses has its name and its place in the weights."""
  return len(classes) == info.num_classes and all(
      ours in (UNUSED, theirs) for ours, theirs in zip(info.classes, classes))


def fits_slots(count: int, classes: Sequence[str], info: DetectionInfo) -> bool:
  """Tells whether `data.id_slots=count` makes the classes of the data those of the weights.

  Args:
    count: of the classes of the weights.
    classes: their names; () where the weights do not tell.
    info: of the data.
  """
  ids = info.category_ids
  return (info.source not in BUILT_IN and count > info.num_classes and bool(ids)
          and 0 <= min(ids) <= max(ids) < count
          and all(name in (UNUSED, classes[i]) for i, name in zip(ids, info.classes) if classes))


def _class_notes(source: Source, model: nn.Module, info: DetectionInfo, path: str) -> list[str]:
  """Returns what the log says of the classes that detector weights have."""
  of = families.known(source.flat)
  count = of and of.num_classes(model, source.flat)
  if count is None:
    return []
  if fits_slots(count, source.classes, info):
    return [f'the weights have {count} class slots, and every category id of the data is below that: '
            f'{SLOTS}{count} makes the ids the labels, and keeps the head']
  if count != info.num_classes or source.classes:
    return []
  known = next((known.classes for known in DETECTORS.values() if known.num_classes == count), ())
  if not known:
    return [f'{path} does not name its {count} classes; they are taken for those of the data, in their '
            f'order: 0 is {info.classes[0]!r}, {count - 1} is {info.classes[-1]!r}']
  differ = [i for i, name in enumerate(info.classes) if name not in (UNUSED, known[i])]
  return [f'{len(differ)} of the {count} classes of the data have other names than in the published '
          f'detectors of as many classes: {i} is {info.classes[i]!r} here and {known[i]!r} there; if '
          f'{path} is one of those, set reset_head=true' for i in differ[:1]]


def check_classes(path: str, info: DetectionInfo) -> None:
  """Raises UserError when the classes of a run's weights are not those of the data."""
  from_ = origin(path)
  own = DetectionInfo.load(from_.workdir) if isinstance(from_, Run) else info
  if own.classes == info.classes:
    return
  for slots, there, here in ((own.num_classes, own, info), (0, info, own)):
    if fits_slots(there.num_classes, there.classes, here):
      raise UserError(f'the checkpoint {path} knows {own.num_classes} classes, the data {info.source!r} '
                      f'has {info.num_classes}, which differ only in how they are numbered; set '
                      f'{SLOTS}{slots}')
  classifier_weights.check_classes(path, info)


def follow_protocol(config) -> tuple[Any, list[str]]:
  """Returns the config as it is: how images are resized is in its data, whatever the weights."""
  return config, []


def check_head(path: str, info: DetectionInfo, report: Report) -> None:
  """Raises UserError when some part of the detector that `initialize` gave starts anew."""
  if not report.reinitialised:
    return
  remedy = 'fine-tune it on them first, by training with init_from'
  if all(path.startswith(report.classes) for path in report.reinitialised):
    remedy = next((note for note in report.note if SLOTS in note), remedy)
  raise UserError(f'{path} lacks what detects the {info.num_classes} classes of the data '
                  f'{info.source!r} (reinitialised: {", ".join(report.fresh()[:3])}); {remedy}')
