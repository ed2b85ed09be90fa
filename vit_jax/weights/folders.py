"""Folders of weights as `save_pretrained` and the Hugging Face hub leave them, and files in parts.

A folder holds `model.safetensors` or `pytorch_model.bin`, or parts `model-00001-of-00003.safetensors`
with an index `model.safetensors.index.json` that says which part has which array.
"""

import json
import os
import re
from typing import NoReturn

from vit_jax import files
from vit_jax.errors import UserError
from vit_jax.files import HUB, PART, hub_file
from vit_jax.weights import raw

SUFFIXES = ('.npz', '.safetensors', '.pth', '.pt', '.th', '.bin')

_INDEX = '.index.json'
_MAX_INDEX = 1 << 26  # bytes; that of 10^5 arrays has 10^7


def home(path: str) -> str | None:
  """Returns the folder whose `config.json` describes the weights at a path; None for any other file."""
  if os.path.isdir(path):
    return path
  name = os.path.basename(path)
  return (os.path.dirname(path) or '.') if name in HUB or PART.fullmatch(name) else None


def parts(path: str) -> tuple[list[str], dict[str, str] | None]:
  """Returns the files that a path of weights stands for.

  Args:
    path: a folder of `files.hub_file`, a file, an index, or any part of several: it stands for all.

  Returns:
    (paths of the files, {name of an array: path of the file that has it}, or None without an index).

  Raises:
    UserError: for a part that is not there, or an index that is damaged or names a file elsewhere.
  """
  if os.path.isdir(path):
    path = os.path.join(path, hub_file(path) or _complain(path))
  part = PART.fullmatch(path)
  if part and os.path.exists(part['stem'] + part['suffix'] + _INDEX):
    path = part['stem'] + part['suffix'] + _INDEX
  if path.endswith(_INDEX):
    where = {name: os.path.join(os.path.dirname(path), file) for name, file in _index(path).items()}
    found = sorted(set(where.values()))
  else:
    where, found = None, _numbered(path, part) if part else [path]
  missing = [os.path.basename(file) for file in found if not os.path.exists(file)]
  if missing and (where or part):
    raise UserError(f'{path} is of a model in {len(found)} files, of which {len(missing)} are missing '
                    f'({", ".join(missing[:3])}); put them into the same folder')
  return found, where


def _complain(folder: str) -> NoReturn:
  """Raises the error for a folder without weights; names the files in it that may have some."""
  found = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIXES))[:4]
  raise UserError(f'no weights in {folder!r}: the folder holds no checkpoints/STEP of a run and no '
                  f'{HUB[0]} or {HUB[2]}' + (
                      f'; give one of its files ({", ".join(found)})' if found else ''))


def _numbered(path: str, part: re.Match) -> list[str]:
  """Returns all parts of the model of which a file, without an index beside it, is one."""
  count, there = int(part['count']), len(os.listdir(os.path.dirname(path) or '.'))
  if not 1 <= int(part['number']) <= count or count > there:
    raise UserError(f'{path} is named as part {int(part["number"])} of {count} of a model, of which '
                    f'the folder has fewer; put all parts into it')
  return [f'{part["stem"]}-{i:05}-of-{part["count"]}{part["suffix"]}' for i in range(1, count + 1)]


def _index(path: str) -> dict[str, str]:
  """Returns {name of an array: name of the file beside the index that has it}."""
  try:
    raw.check_start(path)
    if os.path.getsize(path) > _MAX_INDEX:
      raise ValueError(f'it has more than {_MAX_INDEX} bytes')
    content = json.loads(files.read_text(path), object_pairs_hook=_unique)
    where = content['weight_map']
    if not where or not all(isinstance(file, str) for file in where.values()):
      raise ValueError('its weight_map names no files')
  except OSError as error:
    raise UserError(f'cannot read {path}: {error.strerror}') from None
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
    raise UserError(f'{path} is not a readable index of weights ({error}); fetch or copy it again'
                    ) from None
  for file in where.values():
    if file in ('', '.', '..') or re.search(r'[/\\\0]', file):
      raise UserError(f'{path} names {file!r}, which is not a file beside it; only files in the same '
                      'folder are read')
  return where


def _unique(pairs: list[tuple[str, object]]) -> dict:
  """Returns the dict of a JSON object; ValueError where a key stands twice."""
  out = dict(pairs)
  if len(out) != len(pairs):
    keys = [key for key, _ in pairs]
    raise ValueError(f'{next(key for key in keys if keys.count(key) > 1)!r} stands in it twice')
  return out
