"""Files of weights: which container one is, by what it holds and not by its name."""

import os
import zipfile

import numpy as np

from vit_jax.errors import UserError
from vit_jax.weights import folders, npz, raw, safetensors, torch_file


def read(path: str) -> dict[str, np.ndarray]:
  """Returns {name: array} of `.npz`, `.safetensors` or PyTorch files; executes nothing from them.

  Args:
    path: of a file, or of a folder, index or part, see `folders.parts`.

  Raises:
    UserError: when a file is missing, empty, damaged, of no known kind, or holds NaN or infinity.
  """
  found, where = folders.parts(path)
  if where is None and len(found) == 1:
    return _read(found[0])
  out, origin = {}, {}
  for file in found:
    for name, array in _read(file).items():
      if name in out:
        raise UserError(f'{path}: two of its files have {name}; fetch them again into an empty folder')
      out[name], origin[name] = array, file
  wrong = sorted(name for name in {*where, *out} if where.get(name) != origin.get(name)) if where else []
  if wrong:
    raise UserError(f'{path}: {len(wrong)} arrays are not in the file that the index says, or the index '
                    f'lacks them ({", ".join(wrong[:3])}); fetch all files again into an empty folder')
  return out


def _read(path: str) -> dict[str, np.ndarray]:
  """Returns {name: array} of one file."""
  if not os.path.isfile(path) or not os.path.getsize(path):
    what = 'empty' if os.path.isfile(path) else 'missing'
    raise UserError(f'no weights in {path!r}: the file is {what}')
  try:
    arrays = _reader(path).read(path)
  except OSError as error:
    raise UserError(f'cannot read {path}: {error.strerror}') from None
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
  start = raw.check_start(path)
  if raw.is_safetensors(start):
    return safetensors
  if start[:2] == b'PK':
    try:
      names = zipfile.ZipFile(path).namelist()
    except npz.DAMAGED as error:
      raise raw.unreadable(path, 'archive', error) from None
    return torch_file if any(name.endswith('/data.pkl') for name in names) else npz
  if start[:1] == b'\x80':
    return torch_file
  raise UserError(f'{path} is no .npz, .safetensors or PyTorch file, by its first bytes')
