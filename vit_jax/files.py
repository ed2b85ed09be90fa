"""Files that appear whole or not at all, and text that is read whatever system wrote it."""

import contextlib
import json
import os
import re
from collections.abc import Iterator

from vit_jax.errors import FULL, UserError


# Names of weights as transformers and timm save them, in the order in which they are looked for; and of
# parts of one model.
HUB = ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin',
       'pytorch_model.bin.index.json')
PART = re.compile(r'(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.(safetensors|bin))')


def hub_file(folder: str) -> str | None:
  """Returns the name of the file by which a folder of weights is read; None for any other folder.

  A folder with checkpoints is the workdir of a run, whatever else lies in it.
  """
  names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
  if 'checkpoints' in names:
    return None
  parts = sorted(name for name in names if PART.fullmatch(name))
  return next((name for name in (*HUB, *parts) if name in names), None)


def home(text: str) -> str:
  """Returns the text with the home directory for `~`, where a path or another part of a word begins.

  No shell expands it in `--workdir=~/x`, `--config=FILE:dataset=~/x` or `~/x.json:~/images`.
  """
  return re.sub(r'(^|[=:,+])~(?=$|[/:,+])', lambda found: found[1] + os.path.expanduser('~'), text)


def read_text(path: str) -> str:
  """Returns a text file: UTF-8, with or without a byte order mark; bytes that are none are kept.

  Raises:
    OSError: as `open`.
  """
  with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
    return file.read()


def read_json(path: str, remedy: str) -> object:
  """Returns the content of a JSON file.

  Args:
    path: of the file.
    remedy: ends the sentence for a damaged file: what the user can do.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: names a file that cannot be read, or is no JSON.
  """
  try:
    return json.loads(read_text(path))
  except FileNotFoundError:
    raise
  except OSError as error:
    raise UserError(f'cannot read {path}: {error.strerror}') from None
  except (ValueError, RecursionError) as error:
    raise UserError(f'{path} is damaged ({error}); {remedy}') from None


def read_object(path: str, remedy: str, *keys: str) -> dict:
  """Returns the JSON object in a file that has all of the keys; raises as `read_json`."""
  found = read_json(path, remedy)
  if not isinstance(found, dict):
    raise UserError(f'{path} is damaged (it holds no JSON object); {remedy}')
  if missing := [key for key in keys if key not in found]:
    raise UserError(f'{path} is damaged (it has no {", ".join(map(repr, missing))}); {remedy}')
  return found


@contextlib.contextmanager
def replacing(path: str, mode: str = 'w') -> Iterator:
  """Gives a file to write that takes the place of `path` when all of it is on disk.

  Where the writing fails, whatever stood at `path` stays and nothing is left beside it.

  Args:
    path: of the file.
    mode: 'w' for text in UTF-8 (names that UTF-8 cannot write stand with an escape), or 'wb'.
  """
  part = f'{path}.part'
  text = {} if 'b' in mode else dict(encoding='utf-8', errors='backslashreplace', newline='')
  try:
    with open(part, mode, **text) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(part, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(part)
    raise


def write_json(path: str, content: object, indent: int | None = 1) -> None:
  """Writes JSON that appears whole or not at all."""
  text = json.dumps(content, indent=indent)  # at once: json.dump to a file takes many times as long
  with replacing(path) as file:
    file.write(text)


def cannot_write(error: OSError, what: str = '') -> UserError:
  """Returns the error for a file that could not be written: names it, the cause and the remedy.

  Args:
    error: of the system.
    what: was written; '' for the name that the error carries.
  """
  remedy = 'free some space, or write elsewhere' if error.errno in FULL else 'write elsewhere'
  name = what or error.filename or 'the output'
  return UserError(f'cannot write {str(name).removesuffix(".part")}: '
                   f'{error.strerror or error}; {remedy}')
