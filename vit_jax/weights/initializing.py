"""Weights into a run: what it starts from, or what it evaluates."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vit_jax import models, sharding, trees
from vit_jax.data.info import Info
from vit_jax.errors import UserError, unknown
from vit_jax.weights import published
from vit_jax.weights.fit import Report, completed
from vit_jax.weights.fitting import differences, fit_model
from vit_jax.weights.loading import read
from vit_jax.weights.origin import Run, origin
from vit_jax.weights.shapes import flatten, unflatten

PROTOCOLS = ('weights', 'config')


def initialize(model: nn.Module, variables: Mapping[str, Any], info: Info, path: str, *,
               resampling: str = '', resize_patches: bool = False, reset_head: bool = False,
               trained_size: tuple[int, int] = (0, 0)) -> tuple[dict, Report]:
  """Starts a run's variables from other weights (`config.init_from`).

  Args:
    model: of the run.
    variables: its fresh ones, placed on the mesh; what cannot be loaded stays as it is.
    info: of the run's data.
    path: workdir, checkpoint or published file.
    resampling: rule for the position table; '' for that of the weights' code base.
    resize_patches: whether the patch embedding may be resized.
    reset_head: start the head anew even where it would fit.
    trained_size: (height, width) of the images that a file was trained at; (0, 0): not known.

  Returns:
    (variables with the same shardings, Report).

  Raises:
    UserError: as `read` and `fit`.
  """
  source = read(path, getattr(model, 'num_heads', None))
  flat = flatten(variables)
  shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in flat.items()}
  other_classes = bool(source.classes) and source.classes != info.classes
  loaded, report = fit_model(
      source, model, trees.unstack(shapes), info.image_size, resampling=resampling,
      resize_patches=resize_patches, reset_head=reset_head or other_classes, trained_size=trained_size)
  report.note += differences(model, source.table)
  return replaced(variables, loaded), report


def replaced(variables: Mapping[str, Any], loaded: Mapping[str, np.ndarray]) -> dict:
  """Returns variables with loaded arrays, of our paths, layers one by one, placed as the fresh ones."""
  flat = flatten(variables)
  loaded = trees.stack(loaded) if trees.is_stacked(flat) else loaded
  out = {}
  for path, fresh in flat.items():
    array = completed(np.asarray(loaded[path], fresh.dtype), fresh) if path in loaded else fresh
    out[path] = sharding.place(array, fresh.sharding) if isinstance(array, np.ndarray) else array
  return {**variables, **unflatten(out)}


def follow_protocol(config) -> tuple[Any, list[str]]:
  """Returns a config that evaluates a published file as it wants to be, and lines for the log.

  Where `config.init_from` is a file and `config.evaluate.protocol` is 'weights', images are cut,
  resized and normalised as the named variant's were, and the model has the fields that the file shows;
  what `config.model` says beside its name stays. Runs are evaluated as the config says.

  Raises:
    UserError: for an unknown protocol, or as `read`.
  """
  if config.evaluate.protocol not in PROTOCOLS:
    raise unknown('protocol', config.evaluate.protocol, PROTOCOLS)
  if config.evaluate.protocol == 'config' or isinstance(origin(config.init_from), Run):
    return config, []
  config = config.copy_and_resolve_references().unlock()
  fields = {k: v for k, v in config.model.items() if k not in ('name', 'num_classes')}
  found = published.read(
      origin(config.init_from), config.model.name, tuple(config.data.resolution), fields,
      config.init_resize_patches, tuple(config.init_image_size))
  own = models.create_model(found.name, **fields)
  for field in dataclasses.fields(own):
    shown = getattr(found.model, field.name)
    if field.name not in ('name', 'parent', 'num_classes') and shown != getattr(own, field.name):
      config.model[field.name] = shown
  config.data.channels = config.data.channels or found.info.channels
  wanted = {key: getattr(found.info, key) for key in ('mean', 'std', 'eval_crop', 'interpolation')}
  for key in ('mean', 'std'):
    wanted[key] = published.per_channel(wanted[key], config.data.channels)
  config.data.update(wanted)
  said = ', '.join(f'{key}={value}' for key, value in wanted.items())
  return config.lock(), [f'images are made as for {found.name}: {said} (config.evaluate.protocol)']


def check_head(path: str, info: Info, report: Report) -> None:
  """Raises UserError when the head of what `initialize` gave starts anew."""
  fresh = report.fresh('head/')
  if fresh and report.reset:
    raise UserError(f'there is nothing to evaluate: reset_head starts the head of {path} anew; set '
                    'reset_head=false')
  if fresh:
    raise UserError(f'{path} has no head for the {info.num_classes} classes of the data {info.source!r} '
                    f'(reinitialised: {fresh[0]}); fine-tune it on them first, by training with '
                    'init_from')


def check_classes(path: str, info: Info) -> None:
  """Raises UserError when the classes of a run's weights are not those of the data."""
  from_ = origin(path)
  own = type(info).load(from_.workdir).classes if isinstance(from_, Run) else info.classes
  if own != info.classes:
    raise UserError(f'the checkpoint {path} knows {len(own)} classes ({", ".join(own[:3])}, ...), '
                    f'the data {info.source!r} has {info.num_classes} ({", ".join(info.classes[:3])}, '
                    '...); evaluate it on its own data (data.source), or fine-tune it on these by '
                    'training with init_from')
