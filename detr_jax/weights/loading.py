"""Weights in: from a run or a published file, fitted to the detector that is to use them."""

import dataclasses

import flax.linen as nn

from detr_jax import models
from detr_jax.data.info import DetectionInfo
from detr_jax.pretrained import DETECTORS, PretrainedDetector
from detr_jax.weights.detr import TABLES
from detr_jax.weights.fitting import fields, fit_detector, is_detector, units
from vit_jax.weights import runs
from vit_jax import trees, weights
from vit_jax import models as backbones
from vit_jax.errors import UserError
from vit_jax.models.variant import Preprocessing
from vit_jax.pretrained import PRETRAINED, find
from vit_jax.weights import Loaded, complete, flatten, pair, variable_shapes
from vit_jax.weights.formats import TABLES as CLASSIFIERS
from vit_jax.weights.published import Source, arrays
from vit_jax.weights.table import to_ours
from vit_jax.weights.vit import GOOGLE

# What a published detector expects of its images (section 4, and the code's `--dilation` models too).
TEST = (dict(name='resize', size=800, max_size=1333),)
CANVASES = ((800, 1344), (1344, 800))


def read(path: str, num_heads: int = 8, backbone_heads: int | None = None) -> Source:
  """Reads the weights of a run, of either package, or of a published file.

  Args:
    path: workdir, checkpoint, file, address, or the name of a published detector or classifier.
    num_heads: of the transformer; files do not tell.
    backbone_heads: of the attention of a backbone that has some.

  Raises:
    UserError: when it is neither, or damaged.
  """
  if runs.is_run(path):
    workdir, folder = runs.find(path)
    if not _of_detector(workdir):
      return weights.read(path, backbone_heads)
    flat = trees.unstack(runs.read_params(folder))
    return Source(flat, None, GOOGLE, DetectionInfo.load(workdir).classes)
  found, table = arrays(path, (*TABLES, *CLASSIFIERS), {**PRETRAINED, **DETECTORS})
  heads = num_heads if table in TABLES else backbone_heads
  return Source(to_ours(table, found, heads), None, table, ())


def _of_detector(workdir: str) -> bool:
  return weights.run_config(workdir)['task']['name'].startswith('detr_jax.')


def candidates(path: str) -> list[str]:
  """Returns the names of the detectors that a published file may be of; UserError as `read`."""
  listed = find(path, DETECTORS)
  if listed:
    return [listed.model]
  source = read(path)
  if not is_detector(source):
    raise UserError(f'{path} holds the weights of a classifier; use vit_jax in place of detr_jax, or '
                    'give it as init_from of a detector')
  depths, bottleneck = units(source.flat)
  shown = fields(source.flat)
  out = []
  for name in models.list_models():
    model = models.create_model(name)
    trunk = backbones.create_model(model.backbone)
    if (trunk.depths, trunk.bottleneck, model.masks) == (depths, bottleneck, shown['masks']):
      out.append(name)
  return sorted(out, key=len)


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
  if path is None and name in models.MODELS:
    raise UserError(f'{name!r} is a detector without weights; give the file: detr_jax.load({name!r}, '
                    "'detr.pth'), or detr_jax.create_model for a fresh one")
  if num_classes is not None:
    overrides['num_classes'] = num_classes
  if runs.is_run(path or name) and _of_detector(runs.find(path or name)[0]):
    source, model, info = _from_run(path or name, None if path is None else name, overrides)
  else:
    source, model, info = _from_file(path or name, name if path else None, overrides)
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


def _from_run(path: str, name: str | None, overrides: dict) -> tuple[Source, nn.Module, DetectionInfo]:
  """Returns the weights of a run, its model (or the one of that name), and its facts."""
  workdir, _ = runs.find(path)
  info = DetectionInfo.load(workdir)
  own = dict(weights.run_config(workdir)['model']) if name is None else {'name': name}
  model = models.create_model(own.pop('name'), **{'num_classes': info.num_classes, **own, **overrides})
  return read(path), model, info


def _from_file(path: str, name: str | None, overrides: dict) -> tuple[Source, nn.Module, DetectionInfo]:
  """Returns the weights of a file, the model with the fields that it shows, and its facts."""
  listed = find(path, DETECTORS)
  name = name or _only(path)
  model = models.create_model(name, **overrides)
  trunk = backbones.create_model(model.backbone, **model.backbone_fields)
  source = read(path, model.num_heads, getattr(trunk, 'num_heads', None))
  if is_detector(source):
    # A mask head that the file has not starts anew where one is asked for.
    shown = fields(source.flat, model.classifier)
    shown['masks'] = shown['masks'] or model.masks
    model = models.create_model(name, **{**shown, **overrides})
  return source, model, _info(model, models.variant(name).preprocessing, listed)


def _only(path: str) -> str:
  """Returns the one detector that a file is of; UserError when there are several, or none."""
  names = candidates(path)
  if len(names) == 1:
    return names[0]
  remedy = f"name it: detr_jax.load({(names or ['NAME'])[0]!r}, {path!r}), or --model"
  if names:
    raise UserError(f'{path} may be of {" or ".join(names)}, which differ in what no file of weights '
                    f'says; {remedy}')
  raise UserError(f'{path} is of no named detector; {remedy}')


def _info(model: nn.Module, rule: Preprocessing, listed: PretrainedDetector | None) -> DetectionInfo:
  """Returns the facts that a published file implies; as many classes as COCO's have their names."""
  count = model.num_classes
  same = [known for known in DETECTORS.values() if known.num_classes == count]
  known = listed if listed in same else next(iter(same), None)
  return DetectionInfo(
      source='', classes=known.classes if known else tuple(map(str, range(count))), channels=3,
      image_size=CANVASES[0], mean=rule.mean, std=rule.std, category_ids=tuple(range(count)),
      is_thing=known.is_thing if known else (), canvases=CANVASES, test_canvases=CANVASES,
      test_transforms=TEST, masks=model.masks, panoptic=model.masks)


def _other_classes(info: DetectionInfo, count: int) -> DetectionInfo:
  """Returns facts with as many classes, which have numbers for names."""
  return dataclasses.replace(info, classes=tuple(map(str, range(count))), is_thing=(),
                             category_ids=tuple(range(count)))
