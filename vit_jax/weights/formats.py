"""All published formats, and which of them a file is in."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from vit_jax import trees
from vit_jax.errors import UserError
from vit_jax.weights.huggingface import HUGGINGFACE, HUGGINGFACE_BACKBONE, HUGGINGFACE_DEIT
from vit_jax.weights.mixer import MIXER
from vit_jax.weights.resnet import BIG_VISION_RESNET, BIT, TORCHVISION
from vit_jax.weights.table import Table
from vit_jax.weights.timm import DEIT, TIMM, TIMM_BIT, TIMM_MIXER
from vit_jax.weights.vit import BIG_VISION, GOOGLE

# The first that a name shows counts: a hybrid has the layers of a ResNet too.
TABLES: tuple[Table, ...] = (
    GOOGLE, BIG_VISION, MIXER, BIG_VISION_RESNET, BIT, DEIT, TIMM, TIMM_MIXER, TIMM_BIT,
    TORCHVISION, HUGGINGFACE, HUGGINGFACE_DEIT, HUGGINGFACE_BACKBONE)

# Files that hold more than a model name the parameters below one of these.
_PREFIXES = ('params/img/', 'params/', 'opt/target/', 'optimizer/target/', 'module.')

# TensorFlow numbers equal layers of one scope where a file was saved by a second session.
_NUMBERED = re.compile(r'\b(standardized_conv2d|group_norm)_\d+/')


def parameters(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the parameters alone, layers one by one, of what an archive holds."""
  for prefix in _PREFIXES:
    inner = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    if inner:
      arrays = inner
      break
  return trees.unstack({_NUMBERED.sub(r'\1/', k): v for k, v in arrays.items()})


def guess(arrays: Mapping[str, np.ndarray], tables: Sequence[Table] = TABLES) -> Table:
  """Returns the one of the formats that the names show.

  Raises:
    UserError: for names of no format that is read.
  """
  for table in tables:
    if any(re.fullmatch(table.shown_by, name) for name in arrays):
      return table
  shown = ', '.join(sorted(arrays)[:4])
  raise UserError(f'these are not the parameters of a model that is read ({shown}, ...); known formats: '
                  + ', '.join(table.name for table in tables))
