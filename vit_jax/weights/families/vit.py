"""Files of ViTs, hybrids and DeiTs: what they show of the model, and how they are read and written."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from vit_jax import trees
from vit_jax.errors import UserError
from vit_jax.layers.positions import sincos_2d
from vit_jax.models import vit
from vit_jax.models.vit import ViT
from vit_jax.weights import positions
from vit_jax.weights.families import google, huggingface, timm
from vit_jax.weights.families.base import Asked, Facts, Published, Refit, Source, attributes
from vit_jax.weights.families.resnet import units
from vit_jax.weights.fit import CLASSIFIER, Report
from vit_jax.weights.positions import POSITIONS
from vit_jax.weights.table import Table

_FIRST = 'Transformer/encoderblock_0/'
_GELU = dict(gelu='erf', gelu_python='erf', gelu_pytorch_tanh='tanh', gelu_new='tanh', gelu_fast='tanh',
             gelu_tanh='tanh')
_RESAMPLE = {2: 'bilinear', 3: 'bicubic'}  # numbers of PIL


def shown(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns the fields of a ViT that its parameters show."""
  if 'embedding/kernel' not in flat:
    return None
  hybrid, kernel = 'conv_root/kernel' in flat, flat['embedding/kernel'].shape
  hidden = flat.get(_FIRST + 'MlpBlock_0/Dense_0/kernel', np.zeros((0, 0))).shape[1]
  return dict(kernel=kernel[:2], width=kernel[3], mlp_dim=hidden,
              depth=trees.numbers(flat, r'Transformer/encoderblock_(\d+)/'),
              stem_depths=units(flat) if hybrid else None,
              stem_width=flat['conv_root/kernel'].shape[3] if hybrid else 0,
              distillation_token='dist' in flat, layer_scale=_FIRST + 'gamma_1' in flat)


def told(model: ViT, names: Iterable[str]) -> dict[str, Any]:
  """Returns the fields that `shown` gives, of a model."""
  return {**attributes(model, names), 'layer_scale': model.layer_scale is not None,
          'stem_width': 0 if model.stem_depths is None else model.stem_width}


def fields(model: ViT, source: Source) -> dict[str, Any]:
  """Returns the fields of a ViT that a file shows beside those that tell its variant.

  What no name tells stays as it is: a mean over patches that no `fc_norm` follows, for one.
  """
  flat, grid, out = source.flat, source.grid, {}
  if 'pre_logits/kernel' in flat:
    out['representation_size'] = flat['pre_logits/kernel'].shape[1]
  if 'MAPHead_0/probe' in flat:
    out['pool'] = 'attention'
  elif 'cls' not in flat or 'fc_norm/scale' in flat:
    out['pool'] = 'mean'
  pool = {**source.table.fields, **out}.get('pool', model.pool)
  if 'cls' in flat and pool != 'token':
    out['class_token'] = True  # it stays among the tokens, whatever is pooled
  if grid is None:
    out['position'] = source.table.no_positions
  elif grid.tokens:
    out['class_position'] = bool(grid.positions)
  if 'dist' in flat and 'head/kernel' in flat and 'head_dist/kernel' not in flat:
    out['fusion'] = 'class'  # Hugging Face's DeiT without its teacher
  scaled = _FIRST + 'gamma_1' in flat
  return dict(out, norm_pooled='fc_norm/scale' in flat, distillation_token='dist' in flat,
              layer_scale=(model.layer_scale or 1e-4) if scaled else None)


def with_patches(model: ViT, flat: trees.Flat) -> ViT:
  """Returns the model with the patches that weights are for."""
  kernel = flat['embedding/kernel'].shape[:2] if 'embedding/kernel' in flat else model.kernel
  return model.clone(patch_size=kernel)


def placed(source: Source, model: ViT, asked: Asked) -> tuple[Source, tuple[int, int] | None]:
  """Returns the weights with the grid of their table, and the size of the images of the file.

  Raises:
    UserError: for patches of another size, or a table that fits no size.
  """
  own = with_patches(model, source.flat)
  if own.kernel != model.kernel and not asked.resize_patches:
    raise UserError('{} has patches of {}x{} pixels, the model {} of {}x{}; name the model it belongs '
                    'to, or let them be resized (resize_patches of vit_jax.load, '
                    'config.init_resize_patches)'.format(
                        asked.path, *own.kernel, asked.name, *model.kernel))
  trained = asked.trained_size if any(asked.trained_size) else None
  grid, size = positions.source_grid(source, own, asked.trained_size, asked.sizes) or (None, trained)
  return source._replace(grid=grid), size


def side(flat: trees.Flat, table: Table, model: ViT) -> int:
  """Returns the height of the images that a position table belongs to; 0 where that is not known."""
  try:
    grid = positions.guess_grid(flat, table.class_position)
  except UserError:  # not square
    return 0
  return grid.size[0] * model.patch[0] if grid else 0


def refit(source: Source, target: Mapping[str, jax.ShapeDtypeStruct], asked: Refit, report: Report
          ) -> trees.Flat:
  """Returns the parameters with their positions, and their patches if asked, of the model's size."""
  flat, model = source.flat, asked.model
  if POSITIONS in flat and POSITIONS in target:
    old = source.grid or positions.source_grid(
        source, with_patches(model, flat), asked.trained_size, (source.size, asked.image_size))[0]
    new = vit.FAMILY.grid(model, asked.image_size)
    flat = positions.fit_positions(flat, target[POSITIONS].shape, old, new,
                                   asked.resampling or source.table.resampling, report)
  return _with_patches_of(target, flat, report) if asked.resize_patches else flat


def _with_patches_of(target, flat: trees.Flat, report: Report) -> trees.Flat:
  """Returns the parameters with the patch embedding's kernel resized to the model's."""
  path = 'embedding/kernel'
  if path not in flat or path not in target or 'conv_root/kernel' in target:
    raise UserError('resize_patches is for a model that cuts its image into patches')
  old, new = flat[path].shape[:2], target[path].shape[:2]
  if old == new:
    return flat
  report.resampled.append('{} {}x{} -> {}x{} by the pseudo-inverse'.format(path, *old, *new))
  return {**flat, path: positions.resize_kernel(flat[path], new)}


def formats(model: ViT, to: str) -> Table | None:
  """Returns the table of a format; UserError for a model that no published format has."""
  if to == 'npz':
    return _google(model)
  if to == 'huggingface':  # theirs reads the class token alone
    return huggingface.table(model) if model.pool == 'token' else None
  return dict(timm=timm.TIMM_ROOT if model.stem_depths == () else timm.TIMM, deit=timm.DEIT).get(to)


def _google(model: ViT) -> Table:
  with_position = model.num_prefix and model.class_position
  if model.pool == 'attention' and with_position:
    raise UserError('no published format has attention pooling beside a class token with a position; '
                    'train with class_token=False')
  new = model.pool == 'attention' or (model.num_prefix and not with_position)
  return google.BIG_VISION if new else google.GOOGLE


def written(model: ViT, flat: trees.Flat, to: str, image_size: tuple[int, int] | None) -> trees.Flat:
  """Returns what is written: with sin-cos positions as a table, without a head that theirs lacks."""
  if to == 'huggingface' and model.fusion == 'class':
    flat = {k: v for k, v in flat.items() if not k.startswith('head_dist/')}  # theirs has one head too
  if model.position != 'sincos' or to == 'npz':
    return flat
  if image_size is None:
    raise UserError('sin-cos positions are written as a table for one image_size; give it')
  table = sincos_2d(model.grid(image_size), model.width)
  extra = model.num_prefix * model.class_position
  return {**flat, POSITIONS: np.pad(table, ((0, 0), (extra, 0), (0, 0)))}


def notes(model: ViT, to: str) -> list[str]:
  """Returns which arguments the other code base's model needs beside its name."""
  if to == 'npz':
    said = ["position='none'"] * (model.position == 'none')
    said += ["pool='mean'"] * (model.pool == 'mean' and model.num_prefix > 0)
    return [f'no file in this format tells it: load it with {", ".join(said)}'] if said else []
  hugging, out = to == 'huggingface', []
  if model.gelu == 'tanh':
    argument = "hidden_act='gelu_pytorch_tanh'" if hugging else "act_layer='gelu_tanh'"
    out.append(f'the model was trained with the tanh form of GELU: create theirs with {argument}')
  if model.position == 'none':
    out.append("the model has no positions: create theirs with pos_embed='none'")
  return out + ([f'create theirs with layer_norm_eps={model.layer_norm_eps}'] if hugging
                else _pooling(model))


def _pooling(model: ViT) -> list[str]:
  """Returns what timm's model must be told of the pooling; its own is the class token."""
  mean = model.pool == 'mean'
  said = ["global_pool='avg'"] * mean + ['class_token=False'] * (mean and not model.num_prefix)
  said += [f'fc_norm={model.norm_pooled}'] * (mean != model.norm_pooled)
  return [f'create theirs with {", ".join(said)}'] if said else []


def described(config: Mapping, processor: Mapping) -> Facts:
  """Returns what transformers' ViTConfig or DeiTConfig says, and its image processor."""
  out = {}
  if 'hidden_act' in config:
    if config['hidden_act'] not in _GELU:
      raise UserError(f'config.json says hidden_act={config["hidden_act"]!r}, which no model here has; '
                      f'those with {", ".join(_GELU)} are read')
    out['gelu'] = _GELU[config['hidden_act']]
  if 'layer_norm_eps' in config:
    out['layer_norm_eps'] = float(config['layer_norm_eps'])
  if 'num_attention_heads' in config:
    out['num_heads'] = int(config['num_attention_heads'])
  names = config.get('id2label') or {}
  classes = tuple(str(names[key]) for key in sorted(names, key=int))
  rule = {key: tuple(map(float, processor[name])) for key, name in (
      ('mean', 'image_mean'), ('std', 'image_std')) if name in processor}
  if processor.get('resample') in _RESAMPLE:
    rule['interpolation'] = _RESAMPLE[processor['resample']]
  if processor and not processor.get('do_center_crop'):
    rule['crop'] = 'squash'
  size = config.get('image_size')
  return Facts(out, size and ((size, size) if isinstance(size, int) else (int(size[-2]), int(size[-1]))),
               () if classes and classes[0] == 'LABEL_0' else classes, rule)


PUBLISHED = Published(
    vit.FAMILY, (google.GOOGLE, google.BIG_VISION, timm.DEIT, timm.TIMM, huggingface.HUGGINGFACE,
                 huggingface.HUGGINGFACE_DEIT, huggingface.HUGGINGFACE_BACKBONE),
    shown, formats, told, fields, placed, side, refit, written, notes,
    described=dict(vit=described, deit=described),
    rules=CLASSIFIER.extended(
        classes=('head_dist/',), heads=('head_dist/', 'pre_logits/'),
        optional=('head_dist/', 'pre_logits/', 'MAPHead_0/', 'cls', 'dist', POSITIONS),
        of_head=('fc_norm/',),
        remedies={'fc_norm/scale': "their last norm stands elsewhere: set model.pool='mean', "
                                   'model.class_token=true where they have one, and '
                                   'model.norm_pooled=true',
                  'Transformer/encoder_norm/scale': 'their last norm stands elsewhere: set '
                                                    'model.norm_pooled=false'}))
