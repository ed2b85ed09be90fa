"""NumPy archives, read without executing anything from them and written whole or not at all."""

import os
import zipfile
from collections.abc import Mapping

import numpy as np

from vit_jax.errors import UserError


def read(path: str) -> dict[str, np.ndarray]:
  """Returns {name: array} of an `.npz` file.

  Raises:
    UserError: when the file is missing, no archive, damaged, or holds pickled objects.
  """
  if not os.path.isfile(path):
    raise UserError(f'no weight file {path!r}')
  try:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
      raise UserError(f'{path} holds a single array, not an .npz archive of parameters')
    with archive:
      return {name: archive[name] for name in archive.files}
  except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
    raise UserError(f'{path} is not a readable .npz archive of plain arrays ({error}); '
                    'fetch or copy it again') from None


def write(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes {name: array} as an `.npz` file that appears only when it is complete."""
  part = f'{path}.part'
  try:
    with open(part, 'wb') as file:
      np.savez(file, **arrays)
    os.replace(part, path)
  except OSError as error:
    raise UserError(f'cannot write {path}: {error.strerror}') from None
