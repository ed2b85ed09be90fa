"""Published files: which model one is of, and how its images are made."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from vit_jax import models, trees
from vit_jax.data.info import Info
from vit_jax.models.family import Size
from vit_jax.models.variant import Preprocessing
from vit_jax.weights import containers, families, formats, guess, hub
from vit_jax.weights.families import Asked, Source
from vit_jax.weights.origin import File
from vit_jax.weights.table import Table, to_ours


def arrays(file: File, tables: Sequence[Table] | None = None) -> tuple[dict[str, np.ndarray], Table]:
  """Returns the parameters in a file, and the format that their names are in.

  Args:
    file: of weights.
    tables: of the formats that are read; None: of all classifiers.

  Raises:
    UserError: when it is damaged, or of no format that is read.
  """
  found = formats.parameters(containers.read(file.path), tables)
  table = formats.guess(found, tables)
  said = hub.facts(file.path).fields
  if said:
    table = dataclasses.replace(table, fields={**table.fields, **said})
  if file.listed and file.listed.resampling:  # DeiT's authors and timm have the same names, not rules
    table = dataclasses.replace(table, resampling=file.listed.resampling)
  return found, table


def said_size(file: File) -> Size | None:
  """Returns the size of the images that a file was trained at, if anything but it tells."""
  return file.listed.image_size if file.listed else hub.facts(file.path).image_size


def candidates(file: File) -> list[str]:
  """Returns the names of the models that a published file may be of; UserError as `arrays`."""
  found, table = arrays(file)
  return guess.candidates(to_ours(table, found, 1), table)


class Published(NamedTuple):
  """A published file that was read.

  Attributes:
    name: of its model.
    source: its weights.
    model: with the fields that the file shows.
    info: with the size of its images, if the file tells, and how they are made.
  """
  name: str
  source: Source
  model: nn.Module
  info: Info


def read(file: File, name: str | None, size: Size | None, overrides: Mapping[str, Any],
         resize_patches: bool = False, trained_size: Size = (0, 0)) -> Published:
  """Reads a published file.

  Args:
    file: of weights.
    name: of the model it belongs to; None: the one that the list of published checkpoints or the file
      tells.
    size: of the images that the model is for, if known: also those of the file, where its position
      table has as many patches.
    overrides: fields of the model.
    resize_patches: whether the file may have patches of another size.
    trained_size: of the images that the file was trained at; (0, 0): not known.

  Raises:
    UserError: as `arrays`, or when the file is of another model or may be of several.
  """
  listed, said = file.listed, hub.facts(file.path)
  found, table = arrays(file)
  name = name or (listed.model if listed else guess.only(file.text, to_ours(table, found, 1), table))
  heads = {key: value for key, value in table.fields.items() if key == 'num_heads'}
  model, variant = models.create_model(name, **{**heads, **overrides}), models.variant(name)
  source = Source(to_ours(table, found, getattr(model, 'num_heads', None)), None, table)
  known, made = families.of(model), None
  if known:
    asked = Asked(file.text, name, (size, listed and listed.image_size, said.image_size), trained_size,
                  resize_patches)
    source, made = known.placed(source, model, asked)
  model = models.create_model(name, **{**_fields(model, source), **overrides})
  rule = dataclasses.replace((listed or variant).preprocessing, **said.preprocessing)
  made = listed.image_size if listed else made or variant.image_size
  info = _info(source.flat, made, rule, models.family(model).image_kernel(source.flat))
  for classes in (said.classes, listed.classes if listed else ()):
    if len(classes) == info.num_classes:
      return Published(name, source, model, dataclasses.replace(info, classes=classes))
  return Published(name, source, model, info)


def _fields(model: nn.Module, source: Source) -> dict[str, Any]:
  """Returns the fields of a model that a published file shows by what it holds."""
  known, head = families.of(model), source.flat.get('head/kernel')
  own = {key: value for key, value in source.table.fields.items() if hasattr(model, key)}
  return {**own, 'num_classes': None if head is None else head.shape[1],
          **(known.fields(model, source) if known else {})}


def protocol(rule: Preprocessing, channels: int = 3) -> dict[str, Any]:
  """Returns how images are made for published weights, as fields of `Info`."""
  crop = dict(name=rule.crop, **(dict(ratio=rule.crop_ratio) if rule.crop == 'center' else {}))
  return dict(mean=per_channel(rule.mean, channels), std=per_channel(rule.std, channels),
              eval_crop=crop, interpolation=rule.interpolation)


def per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
  """Returns the values, or their mean for images with another number of channels."""
  return values if len(values) in (1, channels) else (sum(values) / len(values),)


def _info(flat: trees.Flat, size: Size, rule: Preprocessing, kernel: str | None = None) -> Info:
  """Returns the facts that a published file implies."""
  head, channels = flat.get('head/bias', np.zeros(0)), flat[kernel].shape[2] if kernel else 3
  return Info(source='', classes=tuple(str(i) for i in range(head.shape[0])), channels=channels,
              image_size=tuple(size), **protocol(rule, channels))
