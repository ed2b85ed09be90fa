"""Published files: which model one is of, and how its images are made."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from vit_jax import models, pretrained, trees
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.models.variant import Preprocessing
from vit_jax.models.vit import ViT
from vit_jax.weights import containers, formats, guess, hub
from vit_jax.weights.fit import POSITIONS, Grid, guess_grid, has_grid, image_kernel
from vit_jax.weights.table import Table, to_ours


class Source(NamedTuple):
  """Weights before they are fitted to a model."""
  flat: trees.Flat            # our paths, layers one by one
  grid: Grid | None           # of the position table; None: not known
  table: Table                # the format they come from, with its rule for resampling
  classes: tuple[str, ...]    # of a run; () for a published file
  size: tuple[int, int] | None = None  # (height, width) of its images; None: not known


def arrays(path: str, tables: Sequence[Table] = formats.TABLES,
           known: Mapping[str, pretrained.Pretrained] = pretrained.PRETRAINED
           ) -> tuple[dict[str, np.ndarray], Table]:
  """Returns the parameters in a file, and the format that their names are in.

  Args:
    path: of the file, its address, or the name of a published checkpoint.
    tables: of the formats that are read.
    known: the published checkpoints.

  Raises:
    UserError: when it is missing, damaged, or of no format that is read.
  """
  listed, path = pretrained.find(path, known), pretrained.resolve(path, known)
  if not os.path.exists(path):
    other = '; detectors are read by detr_jax' * path.startswith('detr')
    raise UserError(f'no weights at {path!r}: neither a workdir nor a file{other}')
  found = formats.parameters(containers.read(path), tables)
  table = formats.guess(found, tables)
  shown = hub.facts(path).fields
  if shown:
    table = dataclasses.replace(table, fields={**table.fields, **shown})
  if listed and listed.resampling:  # DeiT's authors and timm have the same names, and other rules
    table = dataclasses.replace(table, resampling=listed.resampling)
  return found, table


def said_size(path: str) -> tuple[int, int] | None:
  """Returns the size of the images that a published file was trained at, if anything but it tells."""
  listed = pretrained.find(path)
  return listed.image_size if listed else hub.facts(pretrained.resolve(path)).image_size


def candidates(path: str) -> list[str]:
  """Returns the names of the models that a published file may be of; UserError as `arrays`."""
  found, table = arrays(path)
  return guess.candidates(to_ours(table, found, 1), table)


class Published(NamedTuple):
  """A published file that was read."""
  name: str         # of its model
  source: Source
  model: nn.Module  # with the fields that the file shows
  info: Info        # with the size of its images, if the file tells, and how they are made


def read(path: str, name: str | None, size: tuple[int, int] | None, overrides: Mapping[str, Any],
         resize_patches: bool = False, trained_size: tuple[int, int] = (0, 0)) -> Published:
  """Reads a published file.

  Args:
    path: as of `arrays`.
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
  listed, said = pretrained.find(path), hub.facts(pretrained.resolve(path))
  found, table = arrays(path)
  name = name or (listed.model if listed else guess.only(path, to_ours(table, found, 1), table))
  heads = {key: value for key, value in table.fields.items() if key == 'num_heads'}
  model, made = models.create_model(name, **{**heads, **overrides}), models.variant(name).image_size
  source = Source(to_ours(table, found, getattr(model, 'num_heads', None)), None, table, ())
  if isinstance(model, ViT):
    own = _with_patches_of(source.flat, model, name, path, resize_patches)
    sizes = size, listed and listed.image_size, said.image_size
    made = trained_size if any(trained_size) else made
    grid, made = source_grid(source, own, trained_size, sizes) or (None, made)
    source = source._replace(grid=grid)
  model = models.create_model(name, **{**_fields(model, source), **overrides})
  rule = dataclasses.replace((listed or models.variant(name)).preprocessing, **said.preprocessing)
  info = _info(source.flat, listed.image_size if listed else made, rule)
  if len(said.classes) == info.num_classes:
    info = dataclasses.replace(info, classes=said.classes)
  return Published(name, source, model, info)


def source_grid(source: Source, model: ViT, trained_size: tuple[int, int],
                sizes: Sequence[tuple[int, int] | None] = ()
                ) -> tuple[Grid, tuple[int, int]] | None:
  """Returns the grid of a position table, and the size of its images; None without a table.

  Args:
    source: with the table.
    model: with the file's patches.
    trained_size: of the images; (0, 0): not known.
    sizes: that they may have: the first whose grid has as many patches counts; without one the grid
      is square.

  Raises:
    UserError: when the table does not fit `trained_size`, or is not square and fits no size.
  """
  hints = [(Grid(model.grid(trained_size)), trained_size)] if any(trained_size) else [
      (Grid(grid), size) for size in sizes if size for grid in [_grid_or_none(model, size)] if grid]
  for hint, size in hints:
    if POSITIONS in source.flat and has_grid(source.flat, source.table.class_position, hint):
      return guess_grid(source.flat, source.table.class_position, hint), size
  if any(trained_size) and POSITIONS in source.flat:
    raise UserError('the position table has {} entries, and images of {}x{} pixels give {}x{} patches; '
                    'give the size that the weights were trained at'.format(
                        source.flat[POSITIONS].shape[1], *trained_size, *hints[0][0].size))
  grid = guess_grid(source.flat, source.table.class_position)
  return grid and (grid, tuple(n * p for n, p in zip(grid.size, model.patch, strict=True)))


def _grid_or_none(model: ViT, size: tuple[int, int]) -> tuple[int, int] | None:
  """Returns the grid of a size of images, if they can be cut into patches."""
  try:
    return model.grid(size)
  except UserError:
    return None


def with_patches(model: ViT, flat: trees.Flat) -> ViT:
  """Returns the model with the patches that weights are for."""
  kernel = flat['embedding/kernel'].shape[:2] if 'embedding/kernel' in flat else model.kernel
  return model.clone(patch_size=kernel)


def _with_patches_of(flat: trees.Flat, model: ViT, name: str, path: str, resize_patches: bool) -> ViT:
  """Returns the model with the file's patches; UserError when they differ and may not be resized."""
  own = with_patches(model, flat)
  if own.kernel != model.kernel and not resize_patches:
    raise UserError('{} has patches of {}x{} pixels, the model {} of {}x{}; name the model it belongs '
                    'to, or let them be resized (resize_patches of vit_jax.load, '
                    'config.init_resize_patches)'.format(
                        path, *own.kernel, name, *model.kernel))
  return own


def _fields(model: nn.Module, source: Source) -> dict[str, Any]:
  """Returns the fields of a model that a published file shows by what it holds.

  What no name tells stays as it is: a mean over patches that no `fc_norm` follows, for one.
  """
  flat = source.flat
  fields = {key: value for key, value in source.table.fields.items() if hasattr(model, key)}
  fields['num_classes'] = flat['head/kernel'].shape[1] if 'head/kernel' in flat else None
  if not isinstance(model, ViT):
    return fields
  if 'pre_logits/kernel' in flat:
    fields['representation_size'] = flat['pre_logits/kernel'].shape[1]
  if 'MAPHead_0/probe' in flat:
    fields['pool'] = 'attention'
  elif 'cls' not in flat or 'fc_norm/scale' in flat:
    fields['pool'] = 'mean'
  if 'cls' in flat and fields.get('pool', model.pool) != 'token':
    fields['class_token'] = True  # it stays among the tokens, whatever is pooled
  grid = source.grid
  if grid is None:
    fields['position'] = source.table.no_positions
  elif grid.tokens:
    fields['class_position'] = bool(grid.positions)
  if 'dist' in flat and 'head/kernel' in flat and 'head_dist/kernel' not in flat:
    fields['fusion'] = 'class'  # Hugging Face's DeiT without its teacher
  scaled = 'Transformer/encoderblock_0/gamma_1' in flat
  return dict(fields, norm_pooled='fc_norm/scale' in flat,
              distillation_token='dist' in flat,
              layer_scale=(model.layer_scale or 1e-4) if scaled else None)


def protocol(rule: Preprocessing, channels: int = 3) -> dict[str, Any]:
  """Returns how images are made for published weights, as fields of `Info`."""
  crop = dict(name=rule.crop, **(dict(ratio=rule.crop_ratio) if rule.crop == 'center' else {}))
  return dict(mean=per_channel(rule.mean, channels), std=per_channel(rule.std, channels),
              eval_crop=crop, interpolation=rule.interpolation)


def per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
  """Returns the values, or their mean for images with another number of channels."""
  return values if len(values) in (1, channels) else (sum(values) / len(values),)


def _info(flat: trees.Flat, size: tuple[int, int], rule: Preprocessing) -> Info:
  """Returns the facts that a published file implies."""
  head, first = flat.get('head/bias', np.zeros(0)), image_kernel(flat)
  channels = flat[first].shape[2] if first else 3
  return Info(source='', classes=tuple(str(i) for i in range(head.shape[0])), channels=channels,
              image_size=tuple(size), **protocol(rule, channels))
