"""What proves that a checkpoint is damaged: a file that is absent, cut, or lacks its checksum."""

import json
import os
import sys
from collections.abc import Mapping

import google_crc32c

from vit_jax import files
from vit_jax.errors import UserError

CHECKSUMS = 'checksums.json'
ITEM = 'default'  # Orbax's name for the state in the folder of a step
DAMAGE = ('NOT_FOUND:', 'DATA_LOSS:', 'OUT_OF_RANGE:')  # what TensorStore says of absent, altered, cut


def causes(error: BaseException | None):
  """Yields an error and what it arose from."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


def first_line(error: Exception) -> str:
  """Returns what an error says, in at most 200 characters."""
  return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def is_damage(error: Exception) -> bool:
  """Tells whether an error proves that a file of a checkpoint is absent, cut or altered."""
  return any(isinstance(e, (FileNotFoundError, json.JSONDecodeError))
             or any(code in str(e) for code in DAMAGE) for e in causes(error))


def files_below(folder: str) -> list[str]:
  """Returns the files that hold the state in the folder of a step, relative to it."""
  return sorted(os.path.relpath(os.path.join(place, name), folder)
                for place, _, names in os.walk(os.path.join(folder, ITEM)) for name in names
                if name != 'commit_success.txt')


def checksum(path: str) -> list[int]:
  """Returns [bytes, CRC-32C] of a file."""
  size, crc = 0, 0
  with open(path, 'rb') as file:
    while block := file.read(1 << 22):
      size, crc = size + len(block), google_crc32c.extend(crc, block)
  return [size, crc]


def write_checksums(folder: str) -> None:
  """Writes the checksums of a step that is complete beside its state."""
  found = {path: checksum(os.path.join(folder, path)) for path in files_below(folder)}
  files.write_json(os.path.join(folder, CHECKSUMS), dict(files=found, own=own_checksum(found)))


def own_checksum(found: Mapping[str, list[int]]) -> int:
  """Returns the CRC-32C of a table of checksums."""
  return google_crc32c.value(json.dumps(found, sort_keys=True).encode())


def read_checksums(folder: str) -> dict[str, list[int]]:
  """Returns {file: [bytes, CRC-32C]} of a step; {} where they are not there, or damaged themselves.

  So they are of a run that was killed between two writes; TensorStore still notices most damage.
  """
  path = os.path.join(folder, CHECKSUMS)
  try:
    saved = files.read_json(path, '')
    if own_checksum(saved['files']) == saved['own']:
      return saved['files']
  except FileNotFoundError:
    return {}
  except (UserError, KeyError, TypeError):
    pass
  print(f'{path} is damaged; the checkpoint is read without it', file=sys.stderr, flush=True)
  return {}


def damage(folder: str, part: int = 0, parts: int = 1, contents: bool = True) -> str:
  """Returns what proves that a step is damaged, or ''.

  Args:
    folder: of the step.
    part, parts: which share of the files is read; all are counted.
    contents: whether files are read, or only looked for.

  Raises:
    UserError: a file that is there cannot be read.
  """
  if not os.path.isfile(os.path.join(folder, ITEM, '_METADATA')):
    return f'it holds no {ITEM}/_METADATA'
  for i, (name, known) in enumerate(sorted(read_checksums(folder).items())):
    path = os.path.join(folder, name)
    try:
      if os.path.getsize(path) != known[0]:
        return f'{name} has {os.path.getsize(path):,} bytes, not {known[0]:,}'
      if contents and i % parts == part and checksum(path) != known:
        return f'{name} does not have its checksum'
    except FileNotFoundError:
      return f'{name} is missing'
    except OSError as error:
      raise UserError(f'cannot read {path}: {error.strerror}; nothing was changed') from None
  return ''
