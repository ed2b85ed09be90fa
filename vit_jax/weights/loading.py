"""Weights in: from a run or a published file, fitted to the model that is to use them."""

import dataclasses
import json
import os
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import checkpoint, models, trees
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.weights import npz, vit
from vit_jax.weights.fit import Grid, Report, fit, guess_grid
from vit_jax.weights.table import Table, to_ours, to_theirs


class Source(NamedTuple):
  """Weights before they are fitted to a model."""
  flat: trees.Flat            # our paths, layers one by one
  grid: Grid | None           # of the position table; None: not known
  table: Table                # the format they come from, with its rule for resampling
  classes: tuple[str, ...]    # of a run; () for a published file


class Loaded(NamedTuple):
  """A model with its parameters: `logits = model.apply({'params': params}, images)`."""
  model: nn.Module
  params: dict
  info: Info


def read(path: str) -> Source:
  """Reads the weights of a run (workdir or one of its checkpoints) or of a published `.npz` file.

  Raises:
    UserError: when it is neither, or damaged.
  """
  if os.path.isdir(path):
    workdir, folder = checkpoint.find(path)
    flat = trees.unstack(checkpoint.read_params(folder))
    model, info = run_model(workdir), Info.load(workdir)
    return Source(flat, model_grid(model, info.image_size), vit.GOOGLE, info.classes)
  if not os.path.exists(path):
    raise UserError(f'no weights at {path!r}: neither a workdir nor a file')
  arrays = vit.parameters(npz.read(path))
  table = vit.guess_table(arrays)
  flat = to_ours(table, arrays)
  return Source(flat, None, table, ())


def run_config(workdir: str) -> dict:
  """Returns the config that a run saved; UserError when there is none."""
  try:
    with open(os.path.join(workdir, 'config.json')) as file:
      return json.load(file)
  except (OSError, ValueError) as error:
    raise UserError(f'{workdir!r} is no workdir of a run: config.json is missing or damaged '
                    f'({error})') from None


def run_model(workdir: str, **overrides) -> nn.Module:
  """Returns the model of a run, with other fields where asked."""
  fields = dict(run_config(workdir)['model'])
  info = Info.load(workdir)
  return models.create_model(fields.pop('name'),
                             **{'num_classes': info.num_classes, **fields, **overrides})


def model_grid(model: nn.Module, image_size: tuple[int, int]) -> Grid:
  """Returns the grid of a ViT at an image size, in pixels."""
  size = tuple(n // p for n, p in zip(image_size, model.patch))
  return Grid(size, model.num_prefix, int(model.num_prefix and model.class_position))


def init_shapes(model: nn.Module, image_size: tuple[int, int], channels: int):
  """Returns the tree of shapes of a model's parameters."""
  image = jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), image)['params']


def load(name: str, path: str | None = None, *, image_size: int | tuple[int, int] | None = None,
         num_classes: int | None = None, channels: int | None = None, seed: int = 0,
         verbose: bool = True, **overrides) -> Loaded:
  """Returns a model with its parameters.

  Args:
    name: workdir of a run (or a checkpoint in it), or a model's name with `path`.
    path: a published `.npz` file, or the workdir of a run, when `name` is a model's name.
    image_size: pixels, a number or (height, width); the position table is resampled to it.
    num_classes: another number of classes; the head then starts anew.
    channels: of the images; the patch kernel is adapted.
    seed: for what starts anew.
    verbose: print what was resampled, re-initialised or ignored.
    **overrides: other fields of the model, such as `dtype='bfloat16'` or `scan=True`.

  Returns:
    Loaded(model, params, info).

  Raises:
    UserError: unknown model, no or damaged weights, or weights that do not fit the model.
  """
  if path is None and name in models.MODELS:
    raise UserError(f'{name!r} is a model without weights; give the file: vit_jax.load({name!r}, '
                    "'weights.npz'), or vit_jax.create_model for a fresh one")
  if path is None and name.endswith('.npz'):
    raise UserError(f"say which model {name} belongs to: vit_jax.load('vit_b16', {name!r})")
  source = read(path or name)
  size = (image_size,) * 2 if isinstance(image_size, int) else image_size and tuple(image_size)
  if num_classes is not None:
    overrides['num_classes'] = num_classes
  if os.path.isdir(path or name):
    workdir, _ = checkpoint.find(path or name)
    info = Info.load(workdir)
    model = run_model(workdir, **overrides) if path is None else models.create_model(
        name, **{'num_classes': info.num_classes, **overrides})
  else:
    grid = guess_grid(source.flat, source.table.class_position,
                      size and Grid(_patches(size, source.flat)))
    info = _published_info(name, source.flat, grid)
    model = models.create_model(name, **{**_fields(source.flat, grid), **overrides})
    source = source._replace(grid=grid)
    patch = source.flat['embedding/kernel'].shape[:2]
    if patch != model.patch:
      raise UserError('{} has patches of {}x{} pixels, the model {} of {}x{}; name the model it belongs '
                      'to'.format(path, *patch, name, *model.patch))
  size, channels = size or info.image_size, channels or info.channels
  shapes = init_shapes(model, size, channels)
  flat, report = fit(source.flat, trees.unstack(trees.flatten(shapes)), old=source.grid,
                     new=model_grid(model, size), resampling=source.table.resampling)
  if verbose:
    print('\n'.join(report.lines()))
  classes = info.classes if model.num_classes in (None, info.num_classes) else tuple(
      str(i) for i in range(model.num_classes))
  info = dataclasses.replace(info, image_size=size, channels=channels, classes=classes)
  return Loaded(model, complete(flat, model, shapes, size, channels, seed), info)


def complete(flat: trees.Flat, model: nn.Module, shapes, image_size: tuple[int, int],
             channels: int, seed: int) -> dict:
  """Returns the whole tree: loaded arrays where there are any, else the model's own start."""
  flat = trees.stack(flat) if trees.is_stacked(trees.flatten(shapes)) else flat
  if set(flat) != set(trees.flatten(shapes)):
    image = jnp.zeros((1, *image_size, channels))
    fresh = trees.flatten(jax.jit(model.init)(jax.random.key(seed), image)['params'])
    flat = {**fresh, **flat}
  return trees.unflatten({path: jnp.asarray(flat[path]) for path in trees.flatten(shapes)})


def _patches(image_size: tuple[int, int], flat: trees.Flat) -> tuple[int, int]:
  """Returns the grid of an image under the patch kernel of the weights."""
  return tuple(n // p for n, p in zip(image_size, flat['embedding/kernel'].shape[:2]))


def _fields(flat: trees.Flat, grid: Grid | None) -> dict:
  """Returns the fields of a ViT that a published file shows by what it holds."""
  fields = dict(num_classes=flat['head/kernel'].shape[1] if 'head/kernel' in flat else None)
  if 'pre_logits/kernel' in flat:
    fields['representation_size'] = flat['pre_logits/kernel'].shape[1]
  if 'MAPHead_0/probe' in flat:
    fields['pool'] = 'attention'
  elif 'cls' not in flat:
    fields['pool'] = 'mean'
  if grid is None:
    fields['position'] = 'sincos'
  elif grid.tokens and not grid.positions:
    fields['class_position'] = False
  return fields


def _published_info(name: str, flat: trees.Flat, grid: Grid | None) -> Info:
  """Returns the facts that a published file implies: its size, channels and preprocessing."""
  found = models.variant(name)
  kernel, head = flat['embedding/kernel'], flat.get('head/bias', np.zeros(0))
  size = found.image_size
  if grid is not None:
    size = tuple(n * p for n, p in zip(grid.size, kernel.shape[:2]))
  rule = found.preprocessing
  crop = dict(name=rule.crop, **(dict(ratio=rule.crop_ratio) if rule.crop == 'center' else {}))
  return Info(source='', classes=tuple(str(i) for i in range(head.shape[0])),
              channels=kernel.shape[2], image_size=size, mean=rule.mean, std=rule.std,
              eval_crop=crop, interpolation=rule.interpolation)


def initialize(model: nn.Module, params, info: Info, path: str, *, reset_head: bool = False
               ) -> tuple[dict, Report]:
  """Starts a run's parameters from other weights (config.init_from).

  Args:
    model: of the run.
    params: its fresh parameters, placed on the mesh; what cannot be loaded stays as it is.
    info: of the run's data.
    path: workdir, checkpoint or `.npz` file.
    reset_head: start the head anew even where it would fit.

  Returns:
    (params with the same shardings, Report).

  Raises:
    UserError: as `read` and `fit`.
  """
  source = read(path)
  flat = trees.flatten(params)
  shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in flat.items()}
  other_classes = bool(source.classes) and source.classes != info.classes
  loaded, report = fit(
      source.flat, trees.unstack(shapes), old=source.grid, new=model_grid(model, info.image_size),
      class_position=source.table.class_position, resampling=source.table.resampling,
      reset_head=reset_head or other_classes)
  loaded = trees.stack(loaded) if trees.is_stacked(flat) else loaded
  placed = {k: _like(loaded[k], v) if k in loaded else v for k, v in flat.items()}
  return trees.unflatten(placed), report


def check_classes(path: str, info: Info) -> None:
  """Raises UserError when the classes of a run's weights are not those of the data."""
  if not os.path.isdir(path):
    return
  own = Info.load(checkpoint.find(path)[0]).classes
  if own != info.classes:
    raise UserError(f'the checkpoint {path} knows {len(own)} classes ({", ".join(own[:3])}, ...), '
                    f'the data {info.source!r} has {info.num_classes} ({", ".join(info.classes[:3])}, '
                    '...); evaluate it on its own data (data.source), or fine-tune it on these by '
                    'training with init_from')


def _like(array: np.ndarray, placed: jax.Array) -> jax.Array:
  """Returns the host array placed as another array lies, on any number of processes."""
  array = np.asarray(array, placed.dtype)
  return jax.make_array_from_callback(array.shape, placed.sharding, lambda index: array[index])


def export(path: str, model: nn.Module, params) -> None:
  """Writes parameters as a published `.npz` file: vision_transformer's names, or big_vision's for
  what those have no name for (attention pooling, positions without the class token).

  Args:
    path: ends with `.npz`.
    model: that the parameters belong to.
    params: tree, layers stacked or one by one.

  Raises:
    UserError: for attention pooling beside a class token with a position, which neither can say.
  """
  flat = {k: np.asarray(v) for k, v in trees.unstack(trees.flatten(params)).items()}
  with_position = model.num_prefix and model.class_position
  if model.pool == 'attention' and with_position:
    raise UserError('no published format has attention pooling beside a class token with a position; '
                    'train with class_token=False')
  new = model.pool == 'attention' or (model.num_prefix and not with_position)
  table = vit.BIG_VISION if new else vit.GOOGLE
  npz.write(path, to_theirs(table, flat))
