"""What `config.json` beside weights says of the model: files of transformers and of timm on the hub.

It tells what no file of weights does: the form of GELU, the epsilon, the heads of the attention, the
size of the images, names of classes, and how images are made.
"""

import os
from collections.abc import Mapping

from vit_jax import files
from vit_jax.errors import UserError
from vit_jax.weights import families, folders
from vit_jax.weights.families import Facts

_RESAMPLE = ('bilinear', 'bicubic')


def facts(path: str) -> Facts:
  """Returns what the files beside weights say of a model.

  Args:
    path: as of `folders.parts`; a file of another name than the hub's has nothing beside it.

  Raises:
    UserError: when `config.json` is damaged, or of a model that is not read.
  """
  folder = folders.home(path)
  config = _read(folder, 'config.json') if folder else {}
  try:
    for known in families.FAMILIES:
      if config.get('model_type') in known.described:
        described = known.described[config['model_type']]
        return described(config, _read(folder, 'preprocessor_config.json'))
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


def _timm(config: Mapping, own: Mapping) -> Facts:
  """Returns what timm's `pretrained_cfg` says of how images are made, and how its model pools."""
  rule = {key: tuple(map(float, own[key])) for key in ('mean', 'std') if key in own}
  if own.get('interpolation') in _RESAMPLE:
    rule['interpolation'] = own['interpolation']
  if 'crop_pct' in own:
    rule['crop_ratio'] = float(own['crop_pct'])
  if own.get('crop_mode') == 'squash':
    rule['crop'] = 'squash'
  size = (config.get('model_args') or {}).get('img_size') or own.get('input_size')
  fields = dict(pool='mean') if config.get('global_pool') == 'avg' else {}
  return Facts(fields, _size(size), tuple(map(str, config.get('label_names') or ())), rule)
