"""Weights in: from a run or a published file, fitted to the model that is to use them."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import checkpoint, models, pretrained, trees
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.models.vit import ViT
from vit_jax.weights import containers, formats
from vit_jax.weights.fit import Grid, Report, fit, guess_grid, image_kernel
from vit_jax.weights.table import Table, to_ours
from vit_jax.weights.vit import GOOGLE


STATE = 'batch_stats/'  # where running statistics lie among our paths


class Source(NamedTuple):
  """Weights before they are fitted to a model."""
  flat: trees.Flat            # our paths, layers one by one
  grid: Grid | None           # of the position table; None: not known
  table: Table                # the format they come from, with its rule for resampling
  classes: tuple[str, ...]    # of a run; () for a published file


@dataclasses.dataclass(frozen=True)
class Loaded:
  """A model with its parameters; unpacks into `model, params, info`.

  Attributes:
    model: `logits = model.apply(loaded.variables, images)`.
    params: its parameters.
    info: facts of its data.
    state: what else it keeps, such as running statistics under `batch_stats`.
  """
  model: nn.Module
  params: dict
  info: Info
  state: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def variables(self) -> dict:
    """All that `model.apply` takes."""
    return {'params': self.params, **self.state}

  def __iter__(self) -> Iterator:
    return iter((self.model, self.params, self.info))


def read(path: str, num_heads: int | None = None) -> Source:
  """Reads the weights of a run (workdir or one of its checkpoints) or of a published file.

  Args:
    path: of the run or file, an address, or the name of a published checkpoint.
    num_heads: of the attention; files that pack the heads into one axis do not tell.

  Raises:
    UserError: when it is neither, or damaged.
  """
  path = pretrained.resolve(path)
  if os.path.isdir(path):
    workdir, folder = checkpoint.find(path)
    flat = trees.unstack(checkpoint.read_params(folder))
    model, info = run_model(workdir), Info.load(workdir)
    return Source(flat, model_grid(model, info.image_size), GOOGLE, info.classes)
  if not os.path.exists(path):
    raise UserError(f'no weights at {path!r}: neither a workdir nor a file')
  arrays = formats.parameters(containers.read(path))
  table = formats.guess(arrays)
  return Source(to_ours(table, arrays, num_heads), None, table, ())


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


def model_grid(model: nn.Module, image_size: tuple[int, int]) -> Grid | None:
  """Returns the grid of a ViT at an image size, in pixels; None for a model without positions."""
  if not isinstance(model, ViT):
    return None
  return Grid(model.grid(image_size), model.num_prefix, model.num_prefix * model.class_position)


def variable_shapes(model: nn.Module, image_size: tuple[int, int], channels: int) -> dict:
  """Returns the tree of shapes of all that a model keeps: `params`, and `batch_stats` if any."""
  image = jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)
  shapes = lambda model: dict(jax.eval_shape(model.init, jax.random.key(0), image))
  if getattr(model, 'scan', True):
    return shapes(model)
  # One layer is traced for all: of a deep model, half the time of loading it.
  return unflatten(trees.unstack(flatten(shapes(model.clone(scan=True)))))


def init_shapes(model: nn.Module, image_size: tuple[int, int], channels: int):
  """Returns the tree of shapes of a model's parameters."""
  return variable_shapes(model, image_size, channels)['params']


def flatten(variables: Mapping[str, Any]) -> trees.Flat:
  """Returns our paths: parameters without a prefix, running statistics below `STATE`."""
  state = trees.flatten({k: v for k, v in variables.items() if k != 'params'})
  return {**trees.flatten(variables['params']), **state}


def unflatten(flat: trees.Flat) -> dict:
  """The inverse of `flatten`."""
  prefixed = {k if k.startswith(STATE) else f'params/{k}': v for k, v in flat.items()}
  return trees.unflatten(prefixed)


def load(name: str, path: str | None = None, *, image_size: int | tuple[int, int] | None = None,
         num_classes: int | None = None, channels: int | None = None, seed: int = 0,
         resampling: str | None = None, verbose: bool = True, **overrides) -> Loaded:
  """Returns a model with its parameters.

  Args:
    name: workdir of a run (or a checkpoint in it), a name of `vit_jax.list_pretrained()`, or a model's
      name with `path`.
    path: a published file, its name or address, or the workdir of a run, when `name` is a model's name.
    image_size: pixels, a number or (height, width); the position table is resampled to it.
    num_classes: another number of classes; the head then starts anew.
    channels: of the images; the patch kernel is adapted.
    seed: for what starts anew.
    resampling: rule for the position table, one of `layers.positions.RESAMPLING`; None: that of the
      code base in whose names the file is. DeiT's own files without a distillation token have timm's
      names, and want 'bicubic'.
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
  if path is None and name.endswith(containers.SUFFIXES):
    raise UserError(f"say which model {name} belongs to: vit_jax.load('vit_b16', {name!r})")
  size = (image_size,) * 2 if isinstance(image_size, int) else image_size and tuple(image_size)
  published = pretrained.find(path or name)
  if published:
    name, path = name if path else published.model, path or name
    size = size or published.image_size
  if num_classes is not None:
    overrides['num_classes'] = num_classes
  if os.path.isdir(path or name):
    source, model, info = _from_run(path or name, None if path is None else name, overrides)
  else:
    source, model, info = _from_file(name, path or name, size, overrides, published)
  size, channels = size or info.image_size, channels or info.channels
  shapes = variable_shapes(model, size, channels)
  flat, report = fit(source.flat, trees.unstack(flatten(shapes)), old=source.grid,
                     new=model_grid(model, size), class_position=source.table.class_position,
                     resampling=resampling or source.table.resampling)
  del source  # so that each array is freed when it is on the device
  if verbose:
    print('\n'.join(report.lines()))
  classes = info.classes if model.num_classes in (None, info.num_classes) else tuple(
      str(i) for i in range(model.num_classes))
  info = dataclasses.replace(info, image_size=size, channels=channels, classes=classes)
  state = complete(flat, model, shapes, size, channels, seed)
  return Loaded(model, state.pop('params'), info, state)


def _from_run(path: str, name: str | None, overrides: dict) -> tuple[Source, nn.Module, Info]:
  """Returns the weights of a run, its model (or the one of that name), and its facts."""
  workdir, _ = checkpoint.find(path)
  info = Info.load(workdir)
  if name is None:
    return read(path), run_model(workdir, **overrides), info
  return read(path), models.create_model(name, **{'num_classes': info.num_classes, **overrides}), info


def _from_file(name: str, path: str, size: tuple[int, int] | None, overrides: dict,
               published: pretrained.Pretrained | None) -> tuple[Source, nn.Module, Info]:
  """Returns the weights of a published file, the model of that name as the file shows it, and facts."""
  model = models.create_model(name, **overrides)
  source = read(path, getattr(model, 'num_heads', None))
  grid = None
  if isinstance(model, ViT):
    grid = guess_grid(source.flat, source.table.class_position, size and Grid(model.grid(size)))
    kernel = source.flat['embedding/kernel'].shape[:2] if 'embedding/kernel' in source.flat else None
    if kernel and kernel != model.kernel:
      raise UserError('{} has patches of {}x{} pixels, the model {} of {}x{}; name the model it belongs '
                      'to'.format(path, *kernel, name, *model.kernel))
  model = models.create_model(name, **{**_fields(model, source, grid), **overrides})
  return source._replace(grid=grid), model, _published_info(name, model, source.flat, grid, published)


def complete(flat: trees.Flat, model: nn.Module, shapes: Mapping[str, Any],
             image_size: tuple[int, int], channels: int, seed: int) -> dict:
  """Returns all variables: loaded arrays where there are any, else the model's own start.

  Args:
    flat: our paths, layers one by one; emptied, so that no array is held twice.
    model: whose variables they are.
    shapes: of `variable_shapes`.
    image_size: (height, width) in pixels.
    channels: of the images.
    seed: of what starts anew.
  """
  wanted = flatten(shapes)
  if trees.is_stacked(wanted):
    flat = trees.stack(flat)
  fresh = {}
  if set(flat) != set(wanted):
    image = jnp.zeros((1, *image_size, channels))
    fresh = flatten(jax.jit(model.init)(jax.random.key(seed), image))
  return unflatten({path: jnp.asarray(flat.pop(path) if path in flat else fresh[path])
                    for path in wanted})


def _fields(model: nn.Module, source: Source, grid: Grid | None) -> dict:
  """Returns the fields of a model that a published file shows by what it holds."""
  flat = source.flat
  fields = dict(source.table.fields,
                num_classes=flat['head/kernel'].shape[1] if 'head/kernel' in flat else None)
  if not isinstance(model, ViT):
    return fields
  if 'pre_logits/kernel' in flat:
    fields['representation_size'] = flat['pre_logits/kernel'].shape[1]
  if 'MAPHead_0/probe' in flat:
    fields['pool'] = 'attention'
  elif 'cls' not in flat:
    fields['pool'] = 'mean'
  if grid is None:
    fields['position'] = 'sincos'
  elif grid.tokens:
    fields['class_position'] = bool(grid.positions)
  if 'dist' in flat and 'head/kernel' in flat and 'head_dist/kernel' not in flat:
    fields['fusion'] = 'class'  # Hugging Face's DeiT without its teacher
  scaled = 'Transformer/encoderblock_0/gamma_1' in flat
  return dict(fields, norm_pooled='fc_norm/scale' in flat,
              distillation_token='dist' in flat,
              layer_scale=(model.layer_scale or 1e-4) if scaled else None)


def _published_info(name: str, model: nn.Module, flat: trees.Flat, grid: Grid | None,
                    published: pretrained.Pretrained | None) -> Info:
  """Returns the facts that a published file implies: its size, channels and preprocessing."""
  found, head = models.variant(name), flat.get('head/bias', np.zeros(0))
  first = image_kernel(flat)
  size = found.image_size if grid is None else tuple(
      n * p for n, p in zip(grid.size, model.patch, strict=True))
  rule = (published or found).preprocessing
  crop = dict(name=rule.crop, **(dict(ratio=rule.crop_ratio) if rule.crop == 'center' else {}))
  return Info(source='', classes=tuple(str(i) for i in range(head.shape[0])),
              channels=flat[first].shape[2] if first else 3, image_size=size, mean=rule.mean,
              std=rule.std, eval_crop=crop, interpolation=rule.interpolation)


def initialize(model: nn.Module, variables: Mapping[str, Any], info: Info, path: str, *,
               reset_head: bool = False) -> tuple[dict, Report]:
  """Starts a run's variables from other weights (config.init_from).

  Args:
    model: of the run.
    variables: its fresh ones, placed on the mesh; what cannot be loaded stays as it is.
    info: of the run's data.
    path: workdir, checkpoint or published file.
    reset_head: start the head anew even where it would fit.

  Returns:
    (variables with the same shardings, Report).

  Raises:
    UserError: as `read` and `fit`.
  """
  source = read(path, getattr(model, 'num_heads', None))
  flat = flatten(variables)
  shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in flat.items()}
  other_classes = bool(source.classes) and source.classes != info.classes
  loaded, report = fit(
      source.flat, trees.unstack(shapes), old=source.grid, new=model_grid(model, info.image_size),
      class_position=source.table.class_position, resampling=source.table.resampling,
      reset_head=reset_head or other_classes)
  loaded = trees.stack(loaded) if trees.is_stacked(flat) else loaded
  placed = {k: _like(loaded[k], v) if k in loaded else v for k, v in flat.items()}
  return {**variables, **unflatten(placed)}, report


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
