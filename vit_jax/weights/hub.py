"""What `config.json` beside weights says of the model: files of transformers and of timm on the hub.

It tells what no file of weights does: the form of GELU, the epsilon, the heads of the attention, the
size of the images, names of classes, and how images are made.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from vit_jax import files
from vit_jax.errors import UserError
from vit_jax.weights import folders

_GELU = dict(gelu='erf', gelu_python='erf', gelu_pytorch_tanh='tanh', gelu_new='tanh', gelu_fast='tanh',
             gelu_tanh='tanh')
_RESAMPLE = {2: 'bilinear', 3: 'bicubic'}  # numbers of PIL


class Facts(NamedTuple):
  """What is said of a model; what is not said is empty.

  Attributes:
    fields: of the model.
    image_size: (height, width) in pixels.
    classes: their names.
    preprocessing: fields of `models.variant.Preprocessing`.
  """
  fields: Mapping[str, Any] = {}
  image_size: tuple[int, int] | None = None
  classes: tuple[str, ...] = ()
  preprocessing: Mapping[str, Any] = {}


def facts(path: str) -> Facts:
  """Returns what the files beside weights say of a ViT; of another model nothing.

  Args:
    path: as of `folders.parts`; a file of another name than the hub's has nothing beside it.

  Raises:
    UserError: when `config.json` is damaged, or of a model that is not read.
  """
  folder = folders.home(path)
  config = _read(folder, 'config.json') if folder else {}
  try:
    if config.get('model_type') in ('vit', 'deit'):
      return _transformers(config, _read(folder, 'preprocessor_config.json'))
    if isinstance(config.get('pretrained_cfg'), dict):
      return _timm(config, config['pretrained_cfg'])
  except (TypeError, ValueError, LookupError, AttributeError) as error:
    raise UserError(f'{folder}/config.json does not describe a model ({type(error).__name__}: {error}); '
                    'fetch it again, or give the file of weights under another name') from None
  return Facts()


def _read(folder: str, name: str) -> dict:
  try:
    found = files.read_json(os.path.join(folder, name), 'fetch or copy it again')
  except FileNotFoundError:
    return {}
  return found if isinstance(found, dict) else {}


def _size(value) -> tuple[int, int] | None:
  if value is None:
    return None
  return (value, value) if isinstance(value, int) else (int(value[-2]), int(value[-1]))


def _transformers(config: Mapping, processor: Mapping) -> Facts:
  """Returns what transformers' ViTConfig or DeiTConfig says, and its image processor."""
  fields = {}
  if 'hidden_act' in config:
    if config['hidden_act'] not in _GELU:
      raise UserError(f'config.json says hidden_act={config["hidden_act"]!r}, which no model here has; '
                      f'those with {", ".join(_GELU)} are read')
    fields['gelu'] = _GELU[config['hidden_act']]
  if 'layer_norm_eps' in config:
    fields['layer_norm_eps'] = float(config['layer_norm_eps'])
  if 'num_attention_heads' in config:
    fields['num_heads'] = int(config['num_attention_heads'])
  names = config.get('id2label') or {}
  classes = tuple(str(names[key]) for key in sorted(names, key=int))
  rule = {key: tuple(map(float, processor[name])) for key, name in (
      ('mean', 'image_mean'), ('std', 'image_std')) if name in processor}
  if processor.get('resample') in _RESAMPLE:
    rule['interpolation'] = _RESAMPLE[processor['resample']]
  if processor and not processor.get('do_center_crop'):
    rule['crop'] = 'squash'
  return Facts(fields, _size(config.get('image_size')),
               () if classes and classes[0] == 'LABEL_0' else classes, rule)


def _timm(config: Mapping, own: Mapping) -> Facts:
  """Returns what timm's `pretrained_cfg` says of how images are made, and how its model pools."""
  rule = {key: tuple(map(float, own[key])) for key in ('mean', 'std') if key in own}
  if own.get('interpolation') in _RESAMPLE.values():
    rule['interpolation'] = own['interpolation']
  if 'crop_pct' in own:
    rule['crop_ratio'] = float(own['crop_pct'])
  if own.get('crop_mode') == 'squash':
    rule['crop'] = 'squash'
  size = (config.get('model_args') or {}).get('img_size') or own.get('input_size')
  fields = dict(pool='mean') if config.get('global_pool') == 'avg' else {}
  return Facts(fields, _size(size), tuple(map(str, config.get('label_names') or ())), rule)
