"""`variant.yml`, which Segmenter's authors keep beside a checkpoint: what its weights do not tell."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from vit_jax.errors import UserError
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

NAME = 'variant.yml'
NORMALIZATION = dict(vit=Preprocessing(), deit=Preprocessing(IMAGENET_MEAN, IMAGENET_STD))


@dataclasses.dataclass(frozen=True)
class VariantFile:
  """What the file says.

  Attributes:
    num_heads, depth, width: of the encoder, by which the weights are read and checked.
    inference: fields of `detr_jax.ops.windows.Inference`.
    rule: mean and standard deviation of the images.
  """
  num_heads: int
  depth: int
  width: int
  inference: dict[str, int]
  rule: Preprocessing


def find(path: str) -> VariantFile | None:
  """Returns what the `variant.yml` beside a checkpoint says; None where there is none.

  Raises:
    UserError: for a file that is damaged or says something unknown.
  """
  place = os.path.join(os.path.dirname(path), NAME)
  if not os.path.isfile(place):
    return None
  import yaml
  try:
    with open(place, encoding='utf-8') as file:
      said = yaml.safe_load(file)
    return _parsed(said)
  except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
    raise UserError(f'{place} is not what Segmenter writes ({type(error).__name__}: '
                    f'{str(error).splitlines()[0]}); mend it, or move it away to load {path} without '
                    'it') from None


def _parsed(said: Mapping[str, Any]) -> VariantFile:
  net, how = said['net_kwargs'], said['inference_kwargs']
  inference = dict(short_side=int(how['im_size']), max_size=4 * int(how['im_size']),
                   window=int(how['window_size']), stride=int(how['window_stride']))
  return VariantFile(int(net['n_heads']), int(net['n_layers']), int(net['d_model']), inference,
                     NORMALIZATION[net.get('normalization') or said['dataset_kwargs']['normalization']])
