"""Weights in: from a run or a published file, fitted to the model that is to use them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax import models, trees
from vit_jax.data.augment import normalize
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.weights import published, runs
from vit_jax.weights.families import Source
from vit_jax.weights.fit import Report
from vit_jax.weights.fitting import fit_model
from vit_jax.weights.origin import Origin, Run, origin
from vit_jax.weights.shapes import complete, flatten, variable_shapes
from vit_jax.weights.table import Table, to_ours

# The names of a run are ours, and so is the rule by which its positions are resampled.
OWN = Table('run', (), '(?!)')
# As many classes as the weights have.
AS_SAVED: Any = 'as saved'


@dataclasses.dataclass(frozen=True)
class Loaded:
  """A model with its parameters; unpacks into `model, params, info`.

      logits = loaded.model.apply(loaded.variables, loaded.normalize(images))

  Attributes:
    model: takes images that were normalised as those it was trained on.
    params: its parameters.
    info: facts of its data, such as the size, mean and standard deviation of its images.
    state: what else it keeps, such as running statistics under `batch_stats`.
    report: what became of each parameter.
  """
  model: nn.Module
  params: dict
  info: Info
  state: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  report: Report = dataclasses.field(default_factory=Report)

  @property
  def variables(self) -> dict:
    """All that `model.apply` takes."""
    return {'params': self.params, **self.state}

  def normalize(self, images) -> jax.Array:
    """Returns what the model takes: (images - info.mean) / info.std, float32.

    Args:
      images: uint8 `[batch, height, width, channels]`, or floats in [0, 1].
    """
    images = jnp.asarray(images)
    whole = jnp.issubdtype(images.dtype, jnp.integer)
    return normalize(images.astype(jnp.float32) / (255. if whole else 1.), self.info.mean,
                     self.info.std)

  def described(self, as_: str) -> str:
    """Returns 'NAME(MODEL with N parameters, images HxWxC, K classes)', in place of all arrays."""
    size = 'x'.join(map(str, (*self.info.image_size, self.info.channels)))
    return (f'{as_}({type(self.model).__name__} with {trees.count(self.params):,} parameters, images '
            f'{size}, {self.info.num_classes} classes)')

  def __iter__(self) -> Iterator:
    return iter((self.model, self.params, self.info))

  def __repr__(self) -> str:
    return self.described(type(self).__name__)


def read(path: str | Origin, num_heads: int | None = None) -> Source:
  """Reads the weights of a run (workdir or one of its checkpoints) or of a published file.

  Args:
    path: of the run or file, an address, or the name of a published checkpoint.
    num_heads: of the attention; files that pack the heads into one axis do not tell.

  Raises:
    UserError: when it is neither, or damaged.
  """
  from_ = origin(path)
  if isinstance(from_, Run):
    return _run_source(from_)
  found, table = published.arrays(from_)
  return Source(to_ours(table, found, num_heads), None, table, (), published.said_size(from_))


def _run_source(run: Run) -> Source:
  model, info = run_model(run), Info.load(run.workdir)
  flat = trees.unstack(runs.read_params(run.folder))
  return Source(flat, models.family(model).grid(model, info.image_size), OWN, info.classes)


def run_model(run: Run, **overrides) -> nn.Module:
  """Returns the model of a run, with other fields where asked."""
  fields, info = dict(run.config['model']), Info.load(run.workdir)
  if run.package != 'vit_jax':
    raise UserError(f'{run.workdir} is a run of a detector, and a classifier is needed; give the '
                    'workdir of a classifier, or its file')
  return models.create_model(fields.pop('name'),
                             **{'num_classes': info.num_classes, **fields, **overrides})


def load(name: str, path: str | None = None, *, image_size: int | tuple[int, int] | None = None,
         num_classes: int | None = AS_SAVED, channels: int | None = None, seed: int = 0,
         resampling: str | None = None, resize_patches: bool = False,
         trained_image_size: int | tuple[int, int] = (0, 0), verbose: bool = True,
         **overrides) -> Loaded:
  """Returns a model with its parameters.

  Args:
    name: workdir of a run (or a checkpoint in it), a name of `vit_jax.list_pretrained()`, a published
      file that shows which model it is of, or a model's name with `path`.
    path: a published file, its name or address, or the workdir of a run, when `name` is a model's name.
    image_size: pixels, a number or (height, width); the position table is resampled to it.
    num_classes: another number of classes; the head then starts anew. None: a backbone, which returns
      `Features`; the head is left out.
    channels: of the images; the patch kernel is adapted.
    seed: for what starts anew.
    resampling: rule for the position table, one of `layers.positions.RESAMPLING`; None: that of the
      code base in whose names the file is. DeiT's own files without a distillation token have timm's
      names, and want 'bicubic'.
    resize_patches: let `patch_size=` be another than in the file: the patch embedding is resized by
      the pseudo-inverse (FlexiViT, arXiv:2212.08013).
    trained_image_size: of the images that a file was trained at, where they were not square and
      `image_size` is another; (0, 0): not known. No file of weights tells it.
    verbose: print what was resampled, re-initialised or ignored.
    **overrides: other fields of the model, such as `dtype='bfloat16'` or `scan=True`.

  Returns:
    Loaded(model, params, info); images are normalised by `Loaded.normalize`.

  Raises:
    UserError: unknown model, no or damaged weights, or weights that do not fit the model.
  """
  if path is None and name in models.variants():
    raise UserError(f'{name!r} is a model without weights; give the file: vit_jax.load({name!r}, '
                    f"'weights.npz'), or weights.npz --model={name} to a command; vit_jax.create_model "
                    'makes a fresh one')
  size, trained = image_size and pair(image_size), pair(trained_image_size)
  if num_classes != AS_SAVED:
    overrides['num_classes'] = num_classes
  from_ = origin(path or name)
  if isinstance(from_, Run):
    source, model, info = _from_run(from_, None if path is None else name, overrides)
  else:
    _, source, model, info = published.read(from_, name if path else None, size, overrides,
                                            resize_patches, trained)
  size, channels = size or info.image_size, channels or info.channels
  shapes = variable_shapes(model, size, channels)
  flat, report = fit_model(source, model, trees.unstack(flatten(shapes)), size,
                           resampling=resampling or '', resize_patches=resize_patches)
  del source  # so that each array is freed when it is on the device
  if verbose:
    print('\n'.join(report.lines()))
  classes = info.classes if model.num_classes in (None, info.num_classes) else tuple(
      str(i) for i in range(model.num_classes))
  info = dataclasses.replace(
      info, image_size=size, channels=channels, classes=classes,
      mean=published.per_channel(info.mean, channels), std=published.per_channel(info.std, channels))
  state = complete(flat, model, shapes, size, channels, seed)
  return Loaded(model, state.pop('params'), info, state, report)


def pair(size: int | Sequence[int]) -> tuple[int, int]:
  """Returns (height, width) of a size, which is square where it is one number."""
  return (size, size) if isinstance(size, int) else tuple(size)


def _from_run(run: Run, name: str | None, overrides: dict) -> tuple[Source, nn.Module, Info]:
  """Returns the weights of a run, its model (or the one of that name), and its facts."""
  source, info = _run_source(run), Info.load(run.workdir)
  if name is None:
    return source, run_model(run, **overrides), info
  return source, models.create_model(name, **{'num_classes': info.num_classes, **overrides}), info
