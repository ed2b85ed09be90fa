"""Files of weights: which container one is, by what it holds and not by its name."""

import os
import zipfile

import numpy as np

from vit_jax.errors import UserError
from vit_jax.weights import npz, safetensors, torch_file

SUFFIXES = ('.npz', '.safetensors', '.pth', '.pt', '.th', '.bin')


def read(path: str) -> dict[str, np.ndarray]:
  """Returns {name: array} of an `.npz`, `.safetensors` or PyTorch file; executes nothing from it.

  Raises:
    UserError: when the file is missing, empty, damaged, of no known kind, or holds NaN or infinity.
  """
  if not os.path.isfile(path) or not os.path.getsize(path):
    what = 'empty' if os.path.isfile(path) else 'missing'
    raise UserError(f'no weights in {path!r}: the file is {what}')
  arrays = _reader(path).read(path)
  for name, array in arrays.items():
    if not _finite(array):
      raise UserError(f'{path}: {name} holds NaN or infinity; the weights are of a run that failed')
  return arrays


def _finite(array: np.ndarray) -> bool:
  if array.dtype.kind not in 'fV':  # V: bfloat16
    return True
  with np.errstate(all='ignore'):  # the sum is one pass, and finite where all is well
    return bool(np.isfinite(array.sum(dtype=np.float32)) or np.isfinite(array).all())


def _reader(path: str):
  with open(path, 'rb') as file:
    start = file.read(9)
  if start[:2] == b'PK':
    try:
      names = zipfile.ZipFile(path).namelist()
    except npz.DAMAGED as error:
      raise UserError(f'{path} is not a readable archive ({error}); fetch or copy it again') from None
    return torch_file if any(name.endswith('/data.pkl') for name in names) else npz
  if start[8:9] == b'{':
    return safetensors
  if start[:1] == b'\x80':
    return torch_file
  raise UserError(f'{path} is no .npz, .safetensors or PyTorch file, by its first bytes')
