"""Weights of segmenters in and out: runs, published segmenters, and classifiers as their backbones."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from detr_jax.data.info import SegmentationInfo
from detr_jax.models import pixels
from detr_jax.weights import exporting, families, variant_file
from detr_jax.weights.fitting import backbone, fit_detector
from detr_jax.weights.loading import PACKAGE, origin, read
from vit_jax import trees
from vit_jax import weights as classifier_weights
from vit_jax.errors import UserError
from vit_jax.weights import (File, Loaded, Run, complete, flatten, pair, replaced, variable_shapes)
from vit_jax.weights.fit import Report

__all__ = ['candidates', 'check_classes', 'check_format', 'check_head', 'export', 'follow_protocol',
           'initialize', 'load', 'origin', 'read']

FORMATS = ('authors',)


def check_format(path: str, to: str) -> None:
  """Raises UserError for an unknown format, or a path that does not end as its files do."""
  exporting.check_format(path, to, FORMATS)


def export(path: str, model: nn.Module, variables: Mapping[str, Any], to: str = 'authors',
           image_size: tuple[int, int] | None = None) -> list[str]:
  """Writes a segmenter in its authors' names; arguments and errors as `detr_jax.weights.export`."""
  check_format(path, to)
  return exporting.write(path, model, variables, to, image_size)


def candidates(path: str | File) -> list[str]:
  """Returns the names of the segmenters that a published file may be of."""
  source = read(origin(path))
  known = families.known(source.flat)
  shown = known and known.shown(source.flat)
  return [name for name in pixels.list_models()
          if known and pixels.variant(name).module is known.family.module
          and known.told(pixels.create_model(name), shown) == shown]


def load(name: str, path: str | None = None, *, image_size=None, num_classes: int | None = None,
         channels: int | None = None, seed: int = 0, trained_image_size=(0, 0), verbose: bool = True,
         **overrides) -> Loaded:
  """Returns a segmenter with its parameters; arguments and errors as those of `detr_jax.weights.load`.

  `image_size` is that of a window, or of whole images where there are no windows.
  """
  if path is None and name in pixels.variants():
    raise UserError(f'{name!r} is a segmenter without weights; give the file: vit_jax.load({name!r}, '
                    "'checkpoint.pth')")
  if num_classes is not None:
    overrides['num_classes'] = num_classes
  from_ = origin(path or name)
  if isinstance(from_, Run) and from_.package == PACKAGE:
    info, own = SegmentationInfo.load(from_.workdir), dict(from_.config['model'])
    own = own if path is None else {'name': name}
    model = pixels.create_model(own.pop('name'),
                                **{'num_classes': info.num_classes, **own, **overrides})
    source = read(from_)
  else:
    source, model, info = _from_file(from_, name if path else None, overrides)
  window = info.inference.get('window', 0)
  size = pair(image_size or ((window, window) if window else info.image_size))
  channels = channels or info.channels
  shapes = variable_shapes(model, size, channels)
  flat, report = fit_detector(source, model, trees.unstack(flatten(shapes)), size,
                              trained_size=pair(trained_image_size))
  if verbose:
    print('\n'.join(report.lines()))
  info = dataclasses.replace(info, channels=channels)
  if model.num_classes != info.num_classes:
    info = dataclasses.replace(info, classes=tuple(map(str, range(model.num_classes))), colours=())
  state = complete(flat, model, shapes, size, channels, seed)
  return Loaded(model, state.pop('params'), info, state, report)


def _from_file(from_: File | Run, name: str | None, overrides: dict):
  """Returns the weights of a file, the model with the fields that it shows, and its facts."""
  names = [name] if name else candidates(from_)
  if len(names) != 1:
    raise UserError(f'{from_} is of {" or ".join(names) or "no named segmenter"}; name it: '
                    f"vit_jax.load('NAME', {from_.text!r}), or --model")
  model = pixels.create_model(names[0], **overrides)
  said = variant_file.find(from_.path) if isinstance(from_, File) else None
  if said:
    _check_said(said, from_, names[0], model)
  source = read(from_, model.num_heads or 8, getattr(backbone(model), 'num_heads', None))
  known = families.known(source.flat)
  if known:
    model = pixels.create_model(names[0], **{**known.fields(model, source), **overrides})
  variant = pixels.variant(names[0])
  rule, side = variant.preprocessing, variant.image_size[0]
  windows = dict(window=side, stride=side) if hasattr(model, 'decoder') else {}
  inference = dict(short_side=side, max_size=4 * side, **windows)
  if said:
    rule, inference = said.rule, said.inference
  info = SegmentationInfo(
      '', tuple(map(str, range(model.num_classes))), 3, (inference.get('window', side),) * 2,
      mean=rule.mean, std=rule.std, inference=inference)
  return source, model, info


def _check_said(said: variant_file.VariantFile, from_: File, name: str, model: nn.Module) -> None:
  """Raises UserError where `variant.yml` is of another model."""
  trunk = backbone(model)
  for field in ('num_heads', 'depth', 'width'):
    own, other = getattr(trunk, field, None), getattr(said, field)
    if own != other:
      raise UserError(f'{variant_file.NAME} beside {from_} says {field}={other}, the model {name!r} has '
                      f'{own}; name another model, or give backbone_fields=dict({field}={other})')


def initialize(model: nn.Module, variables: Mapping[str, Any], info: SegmentationInfo, path: str, *,
               resampling: str = '', resize_patches: bool = False, reset_head: bool = False,
               trained_size: tuple[int, int] = (0, 0)) -> tuple[dict, Report]:
  """Starts a run's variables from other weights (`config.init_from`), of a segmenter or a classifier.

  Arguments, result and errors as those of `detr_jax.weights.initialize`.
  """
  if resize_patches:
    raise UserError('init_resize_patches is for a classifier that cuts its image into patches')
  source = read(path, model.num_heads or 8, getattr(backbone(model), 'num_heads', None))
  target = trees.unstack({k: jax.ShapeDtypeStruct(v.shape, v.dtype)
                          for k, v in flatten(variables).items()})
  other = bool(families.known(source.flat) and source.classes and source.classes != info.classes)
  window = info.inference.get('window', 0)
  size = (window, window) if window else info.image_size
  loaded, report = fit_detector(source, model, target, size, resampling=resampling,
                                reset_head=reset_head or other, trained_size=trained_size)
  return replaced(variables, loaded), report


def check_classes(path: str, info: SegmentationInfo) -> None:
  """Raises UserError when the classes of a run's weights are not those of the data."""
  from_ = origin(path)
  if isinstance(from_, Run) and SegmentationInfo.load(from_.workdir).classes != info.classes:
    classifier_weights.check_classes(path, info)


def follow_protocol(config) -> tuple[Any, list[str]]:
  """Returns the config as it is: how images are resized is in its data, whatever the weights."""
  return config, []


def check_head(path: str, info: SegmentationInfo, report: Report) -> None:
  """Raises UserError when some part of the segmenter that `initialize` gave starts anew."""
  if report.reinitialised:
    raise UserError(f'{path} lacks what tells the {info.num_classes} classes of the data '
                    f'{info.source!r} (reinitialised: {", ".join(report.fresh()[:3])}); fine-tune it on '
                    'them first, by training with init_from')
