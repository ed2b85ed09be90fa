"""Weights in: from a run or a published file, fitted to the detector that is to use them."""

import dataclasses

import flax.linen as nn

from detr_jax import models
from detr_jax.data.info import DetectionInfo
from detr_jax.pretrained import DETECTORS
from detr_jax.weights import families
from detr_jax.weights.fitting import backbone, fit_detector
from vit_jax import trees, weights
from vit_jax.errors import UserError
from vit_jax.pretrained import PRETRAINED
from vit_jax.weights import (File, Loaded, Run, Source, complete, flatten, pair, runs, variable_shapes)
from vit_jax.weights import families as classifiers
from vit_jax.weights import origin as classifier_origin
from vit_jax.weights.loading import OWN
from vit_jax.weights.published import arrays
from vit_jax.weights.table import to_ours

PACKAGE = 'detr_jax'


def origin(text: str | Run | File) -> Run | File:
  """Returns what a user typed for weights, as `vit_jax.weights.origin`; published detectors too."""
  return classifier_origin(text, {**PRETRAINED, **DETECTORS})


def read(path: str | Run | File, num_heads: int = 8, backbone_heads: int | None = None) -> Source:
  """Reads the weights of a run, of either package, or of a published file.

  Args:
    path: workdir, checkpoint, file, address, or the name of a published detector or classifier.
    num_heads: of the transformer; files do not tell.
    backbone_heads: of the attention of a backbone that has some.

  Raises:
    UserError: when it is neither, or damaged.
  """
  from_ = origin(path)
  if isinstance(from_, Run):
    if from_.package != PACKAGE:
      return weights.read(from_, backbone_heads)
    flat = trees.unstack(runs.read_params(from_.folder))
    return Source(flat, None, OWN, DetectionInfo.load(from_.workdir).classes)
  found, table = arrays(from_, (*families.tables(), *classifiers.tables()))
  heads = num_heads if table.name in {own.name for own in families.tables()} else backbone_heads
  return Source(to_ours(table, found, heads), None, table)


def candidates(path: str | File) -> list[str]:
  """Returns the names of the detectors that a published file may be of; UserError as `read`."""
  from_ = origin(path)
  if from_.listed and from_.listed.model in models.variants():
    return [from_.listed.model]
  source = read(from_)
  known = families.known(source.flat)
  if not known:
    raise UserError(f'{from_} holds the weights of a classifier; use vit_jax in place of detr_jax, or '
                    'give it as init_from of a detector')
  shown = known.shown(source.flat)
  return sorted((name for name in models.list_models()
                 if models.variant(name).module is known.family.module
                 and known.told(models.create_model(name), shown) == shown), key=len)


def load(name: str, path: str | None = None, *, image_size: int | tuple[int, int] | None = None,
         num_classes: int | None = None, channels: int | None = None, seed: int = 0,
         trained_image_size: int | tuple[int, int] = (0, 0), verbose: bool = True,
         **overrides) -> Loaded:
  """Returns a detector with its parameters.

  Args:
    name: workdir of a run (or a checkpoint in it), a name of `detr_jax.pretrained.list_pretrained()`, or
      a model's name with `path`.
    path: a published file, its name or address, or the workdir of a run, when `name` is a model's
      name. Of a classifier, the backbone is made.
    image_size: pixels, a number or (height, width), of a backbone with a table of positions.
    num_classes: another number of classes; what belongs to them then starts anew.
    channels: of the images; the kernel that reads them is adapted.
    seed: of what starts anew.
    trained_image_size: of the images that a classifier was trained at, as of `vit_jax.load`.
    verbose: print what was changed, started anew or ignored.
    **overrides: other fields of the model, such as `num_queries=300` or `mask_padding=False`.

  Returns:
    `vit_jax.weights.Loaded(model, params, info)`.

  Raises:
    UserError: unknown model, no or damaged weights, or weights that do not fit the model.
  """
  if path is None and name in models.variants():
    raise UserError(f'{name!r} is a detector without weights; give the file: detr_jax.load({name!r}, '
                    "'detr.pth'), or detr_jax.create_model for a fresh one")
  if num_classes is not None:
    overrides['num_classes'] = num_classes
  from_ = origin(path or name)
  if isinstance(from_, Run) and from_.package == PACKAGE:
    source, model, info = _from_run(from_, None if path is None else name, overrides)
  else:
    source, model, info = _from_file(from_, name if path else None, overrides)
  size = pair(image_size or info.image_size)
  channels = channels or info.channels
  shapes = variable_shapes(model, size, channels)
  flat, report = fit_detector(source, model, trees.unstack(flatten(shapes)), size,
                              trained_size=pair(trained_image_size))
  if verbose:
    print('\n'.join(report.lines()))
  info = dataclasses.replace(info, image_size=size, channels=channels)
  if model.num_classes != info.num_classes:
    info = _other_classes(info, model.num_classes)
  state = complete(flat, model, shapes, size, channels, seed)
  return Loaded(model, state.pop('params'), info, state, report)


def _from_run(run: Run, name: str | None, overrides: dict) -> tuple[Source, nn.Module, DetectionInfo]:
  """Returns the weights of a run, its model (or the one of that name), and its facts."""
  info = DetectionInfo.load(run.workdir)
  own = dict(run.config['model']) if name is None else {'name': name}
  model = models.create_model(own.pop('name'), **{'num_classes': info.num_classes, **own, **overrides})
  return read(run), model, info


def _from_file(from_: File | Run, name: str | None, overrides: dict
               ) -> tuple[Source, nn.Module, DetectionInfo]:
  """Returns the weights of a file, the model with the fields that it shows, and its facts."""
  name = name or _only(from_)
  model = models.create_model(name, **overrides)
  source = read(from_, getattr(model, 'num_heads', None), getattr(backbone(model), 'num_heads', None))
  known = families.known(source.flat)
  if known:
    model = models.create_model(name, **{**known.fields(model, source), **overrides})
  return source, model, _info(name, model, from_)


def _only(from_: File) -> str:
  """Returns the one detector that a file is of; UserError when there are several, or none."""
  names = candidates(from_)
  if len(names) == 1:
    return names[0]
  remedy = f"name it: detr_jax.load({(names or ['NAME'])[0]!r}, {from_.text!r}), or --model"
  if names:
    raise UserError(f'{from_} may be of {" or ".join(names)}, which differ in what no file of weights '
                    f'says; {remedy}')
  raise UserError(f'{from_} is not of a named detector; {remedy}')


def _info(name: str, model: nn.Module, from_: File | Run) -> DetectionInfo:
  """Returns the facts that a published file implies; as many classes as COCO's have their names."""
  rule, count, known = models.variant(name).preprocessing, model.num_classes, families.of(model)
  same = [listed for listed in DETECTORS.values() if listed.num_classes == count]
  own = getattr(from_, 'listed', None)
  listed = own if own in same else next(iter(same), None)
  masks = getattr(model, 'masks', False)
  return DetectionInfo(
      source='', classes=listed.classes if listed else tuple(map(str, range(count))), channels=3,
      image_size=known.canvases[0], mean=rule.mean, std=rule.std, category_ids=tuple(range(count)),
      is_thing=listed.is_thing if listed else (), canvases=known.canvases,
      test_canvases=known.canvases, test_transforms=known.test_transforms, masks=masks, panoptic=masks)


def _other_classes(info: DetectionInfo, count: int) -> DetectionInfo:
  """Returns facts with as many classes, which have numbers for names."""
  return dataclasses.replace(info, classes=tuple(map(str, range(count))), is_thing=(),
                             category_ids=tuple(range(count)))
