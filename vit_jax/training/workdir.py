"""A run's folder: whose it is, what may change in it between starts, and how its tables are written."""

import contextlib
import csv
import os
import re
import socket
from collections.abc import Iterator

import jax

from vit_jax.training import processes
from vit_jax.weights import runs
from vit_jax import config as config_lib, files
from vit_jax.data.info import Info
from vit_jax.errors import UserError

# What changes no result may differ when a run is continued: where, how and how often. The data may have
# moved: its classes and its number of examples are compared instead.
_MAY_CHANGE = re.compile(
    r'(mesh|log|evaluate|checkpoint|explore|init_from|accumulate|model\.remat|task\.teacher\.init_from'
    r'|data\.(on_error|data_dir|source|classes|real|mixture\[\d+\]\.source))(\..*)?')
LOCK = '.lock'
_OF_A_RUN = ('metrics.jsonl', 'constants.json', 'results.json')


def check_path(workdir: str) -> None:
  """Raises UserError for an address: only files that the system can open are written."""
  if '://' in workdir:
    raise UserError(f'the workdir {workdir!r} is an address; runs are written to local or mounted '
                    'folders: mount the bucket (gcsfuse, s3fs) and give the path of the mount')


def check_free(workdir: str) -> None:
  """Raises UserError, in every process, for an address, or a workdir that another run writes."""
  check_path(workdir)

  def check() -> str:
    if os.path.exists(os.path.join(workdir, LOCK)):
      with _lock(workdir):
        pass
    return ''
  processes.first(check)


@contextlib.contextmanager
def locked(workdir: str) -> Iterator[None]:
  """Makes the workdir and keeps other runs out of it; the first process does.

  Raises:
    UserError: in every process, when another run writes it, or it cannot be made.
  """
  with contextlib.ExitStack() as stack:
    def lock() -> str:
      stack.enter_context(_lock(workdir))
      return ''
    processes.first(lock)
    yield


@contextlib.contextmanager
def _lock(workdir: str) -> Iterator[None]:
  import fcntl  # here: not every system has it
  try:
    os.makedirs(workdir, exist_ok=True)
    file = open(os.path.join(workdir, LOCK), 'a+', encoding='utf-8')
  except OSError as error:
    raise UserError(f'cannot write the workdir {workdir!r}: {error.strerror}; choose another '
                    '--workdir') from None
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise UserError(f'the workdir {workdir!r} is in use by {file.read().strip() or "another run"}; '
                      'wait until it ends, or choose another --workdir') from None
    except OSError as error:  # a file system without locks
      print(f'the workdir {workdir} cannot be locked ({error.strerror}): see that no second run '
            'writes it', flush=True)
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    yield


def open_workdir(workdir: str, config, info: Info | None = None) -> list[str]:
  """Writes what the workdir belongs to, or checks that the run in it is this config's.

  A workdir without a checkpoint has no past: any config may take it.

  Returns:
    Lines that say what is different from the run's last start.

  Raises:
    UserError: in every process, when it cannot be written, or holds another config's run; names what
      differs.
  """
  return processes.first(lambda: '\n'.join(_open(workdir, config, info))).splitlines()


def _open(workdir: str, config, info: Info | None) -> list[str]:
  path, said = os.path.join(workdir, 'config.json'), []
  new = config_lib.to_dict(config)
  names = [stage['name'] for stage in new.get('stages', ())] or ['']
  past = any(runs.exists(os.path.join(workdir, name)) for name in names)
  try:
    if past and os.path.exists(path):
      old = files.read_object(path, 'remove it to go on with the config that is given with --config')
      said = _compare(dict(config_lib.leaves(old)), dict(config_lib.leaves(new)), workdir)
    if past and info and os.path.exists(os.path.join(workdir, 'info.json')):
      _compare_data(Info.load(workdir), info, workdir)
    if not past:
      for name in _OF_A_RUN:  # of a run that kept nothing
        with contextlib.suppress(FileNotFoundError):
          os.remove(os.path.join(workdir, name))
    os.makedirs(workdir, exist_ok=True)
    files.write_json(path, new)
    if info:
      info.save(workdir)
  except OSError as error:
    raise files.cannot_write(error, f'the workdir {workdir!r}') from None
  return said


def _compare(old: dict, new: dict, workdir: str) -> list[str]:
  differ = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
  wrong = [k for k in differ if not _MAY_CHANGE.fullmatch(re.sub(r'^stages\[\d+\]\.', '', k))]
  shown = lambda keys: ', '.join(f'{k} {old.get(k)!r} -> {new.get(k)!r}' for k in keys)
  if wrong:
    raise UserError(f'{workdir!r} holds the run of another config ({shown(wrong[:4])}'
                    f'{", ..." if len(wrong) > 4 else ""}); choose another --workdir, or remove it')
  return [f'goes on with another {shown([key])}' for key in differ]


def _compare_data(old: Info, new: Info, workdir: str) -> None:
  """Raises UserError when a run would go on in data that changed: its order would be another."""
  if (old.num_train, old.classes) != (new.num_train, new.classes):
    raise UserError(f'{workdir!r} was trained on {old.num_train:,} examples of {old.num_classes} '
                    f'classes, {new.source} now has {new.num_train:,} of {new.num_classes}; to go on '
                    'would repeat some and miss others: restore the data, or choose another --workdir')


def check_constants(workdir: str, found: dict[str, str]) -> None:
  """Keeps the fingerprints of what a task reads in every step.

  Raises:
    UserError: in every process, when the run in the workdir began with others.
  """
  def compare() -> str:
    path = os.path.join(workdir, 'constants.json')
    try:
      old = files.read_object(path, 'remove it if the run shall go on with what is given now')
    except FileNotFoundError:
      if found:
        files.write_json(path, found)
      return ''
    for name in found:
      if found[name] != old.get(name):
        raise UserError(f'the run in {workdir!r} began with another {name} (fingerprint '
                        f'{old.get(name)}, now {found[name]}); give it that one, or choose another '
                        '--workdir')
    return ''
  processes.first(compare)


def write_tables(workdir: str, tables: dict[str, list[dict]]) -> None:
  """Writes each table of an evaluation as `NAME.csv`, or as JSON where the name ends with `.json`.

  The first process does, into a workdir that exists; a table without rows becomes an empty file.
  """
  if jax.process_index() or not os.path.isdir(workdir):
    return
  for name, rows in tables.items():
    if name.endswith('.json'):
      files.write_json(os.path.join(workdir, name), rows, indent=None)
      continue
    with files.replacing(os.path.join(workdir, f'{name}.csv')) as file:
      writer = csv.DictWriter(file, rows[0] if rows else ())
      writer.writeheader()
      writer.writerows(rows)
