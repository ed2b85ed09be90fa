"""Weights out: files that other tools read."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from vit_jax import trees
from vit_jax.errors import UserError, unknown
from vit_jax.layers.positions import sincos_2d
from vit_jax.models.bit import BiT
from vit_jax.models.mixer import Mixer
from vit_jax.models.resnet import ResNet
from vit_jax.models.vit import ViT
from vit_jax.weights import huggingface, npz, resnet, safetensors, timm, vit
from vit_jax.weights.fit import POSITIONS
from vit_jax.weights.loading import flatten
from vit_jax.weights.mixer import MIXER
from vit_jax.weights.table import Table, to_theirs

# Whose names are written, and in which container.
FORMATS = dict(npz='.npz', timm='.safetensors', deit='.safetensors', torchvision='.safetensors',
               huggingface='.safetensors')


def check_format(path: str, to: str) -> None:
  """Raises UserError for an unknown format, or a path that does not end as its files do."""
  if to not in FORMATS:
    raise unknown('format', to, FORMATS)
  if not path.endswith(FORMATS[to]):
    raise UserError(f'{path!r} does not end with {FORMATS[to]}, as files in the format {to!r} do')


def export(path: str, model: nn.Module, variables: Mapping[str, Any], to: str = 'npz',
           image_size: tuple[int, int] | None = None) -> list[str]:
  """Writes what a model keeps as a file in the names of another code base.

  Args:
    path: ends as `FORMATS` says.
    model: that the variables belong to.
    variables: `params`, and `batch_stats` if any; layers stacked or one by one.
    to: one of `FORMATS`. 'npz' is what the family was published in: of a ViT vision_transformer's
      names, or big_vision's for what those have none for (attention pooling, positions without the
      class token).
    image_size: (height, width) for which sin-cos positions are written as a table; in the format 'npz'
      no table stands for them.

  Returns:
    Sentences on what the reader must be told for equal logits, since a file of weights cannot say it.

  Raises:
    UserError: for a model that the format has no names for.
  """
  check_format(path, to)
  flat = {k: np.asarray(v) for k, v in trees.unstack(flatten(variables)).items()}
  if to == 'huggingface' and getattr(model, 'fusion', '') == 'class':
    flat = {k: v for k, v in flat.items() if not k.startswith('head_dist/')}  # theirs has one head too
  if getattr(model, 'position', '') == 'sincos' and to != 'npz':
    flat[POSITIONS] = _sincos(model, image_size)
  theirs = to_theirs(_table(model, to), flat)
  (npz if to == 'npz' else safetensors).write(path, theirs)
  return _notes(model, to)


def _sincos(model: ViT, image_size: tuple[int, int] | None) -> np.ndarray:
  """Returns sin-cos positions as other code bases keep them: a table, zeros for the extra tokens."""
  if image_size is None:
    raise UserError('sin-cos positions are written as a table for one image_size; give it')
  table = sincos_2d(model.grid(image_size), model.width)
  return np.pad(table, ((0, 0), (model.num_prefix * model.class_position, 0), (0, 0)))


def _notes(model: nn.Module, to: str) -> list[str]:
  """Returns which arguments the other code base's model needs beside its name."""
  if to == 'npz':
    return _unsaid(model) if isinstance(model, ViT) else []
  if not isinstance(model, (ViT, Mixer)):
    return []
  hugging, notes = to == 'huggingface', []
  if model.gelu == 'tanh':
    argument = "hidden_act='gelu_pytorch_tanh'" if hugging else (
        "act_layer='gelu_tanh'" if isinstance(model, ViT) else
        "act_layer=timm.layers.get_act_layer('gelu_tanh')")
    notes.append(f'the model was trained with the tanh form of GELU: create theirs with {argument}')
  if getattr(model, 'position', '') == 'none':
    notes.append("the model has no positions: create theirs with pos_embed='none'")
  if isinstance(model, ViT) and not hugging:
    notes += _pooling(model)
  if hugging:
    notes.append(f'create theirs with layer_norm_eps={model.layer_norm_eps}')
  return notes


def _unsaid(model: ViT) -> list[str]:
  """Returns what `vit_jax.load` must be told of a file in Google's names."""
  told = ["position='none'"] * (model.position == 'none')
  told += ["pool='mean'"] * (model.pool == 'mean' and model.num_prefix > 0)
  return [f'no file in this format tells it: load it with {", ".join(told)}'] if told else []


def _pooling(model: ViT) -> list[str]:
  """Returns what timm's model must be told of the pooling; its own is the class token."""
  mean = model.pool == 'mean'
  told = ["global_pool='avg'"] * mean + ['class_token=False'] * (mean and not model.num_prefix)
  told += [f'fc_norm={model.norm_pooled}'] * (mean != model.norm_pooled)
  return [f'create theirs with {", ".join(told)}'] if told else []


def _table(model: nn.Module, to: str) -> Table:
  """Returns the table of a format for a model's family."""
  wrong = UserError(f'{type(model).__name__} has no names in the format {to!r}')
  if isinstance(model, ViT):
    if to == 'npz':
      return _google(model)
    root = model.stem_depths == ()
    tables = dict(timm=timm.TIMM_ROOT if root else timm.TIMM, deit=timm.DEIT)
    if model.pool == 'token':  # theirs reads the class token alone
      tables['huggingface'] = huggingface.table(model)
  elif isinstance(model, ResNet) and model.norm == 'group':
    tables = dict(npz=resnet.BIG_VISION_RESNET)
  elif isinstance(model, ResNet):
    tables = dict(timm=resnet.TORCHVISION, torchvision=resnet.TORCHVISION)
  else:
    tables = {Mixer: dict(npz=MIXER, timm=timm.TIMM_MIXER),
              BiT: dict(npz=resnet.BIT, timm=timm.TIMM_BIT)}.get(type(model), {})
  if to not in tables:
    raise wrong
  return tables[to]


def _google(model: ViT) -> Table:
  with_position = model.num_prefix and model.class_position
  if model.pool == 'attention' and with_position:
    raise UserError('no published format has attention pooling beside a class token with a position; '
                    'train with class_token=False')
  new = model.pool == 'attention' or (model.num_prefix and not with_position)
  return vit.BIG_VISION if new else vit.GOOGLE
