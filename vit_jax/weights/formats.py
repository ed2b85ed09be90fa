"""Which of the published formats a file is in."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vit_jax import trees
from vit_jax.errors import UserError
from vit_jax.weights import families
from vit_jax.weights.table import Table

# Files that hold more than a model name the parameters below one of these.
_PREFIXES = ('params/img/', 'params/', 'opt/target/', 'optimizer/target/')

# What wrappers keep beside the parameters: the number of averages in torch.optim's AveragedModel.
_COUNTERS = ('n_averaged',)

# TensorFlow numbers equal layers of one scope where a file was saved by a second session.
_NUMBERED = re.compile(r'\b(standardized_conv2d|group_norm)_\d+/')

# Names that only the models of the other package have.
_DETECTOR = re.compile(r'(.*\.)?(class_embed|class_labels_classifier|query_embed|'
                       r'query_position_embeddings|bbox_embed)\b.*')


class UnknownFormat(UserError):
  """Names of no format that is read: perhaps another task has it."""


def parameters(arrays: Mapping[str, np.ndarray], tables: Sequence[Table] | None = None
               ) -> dict[str, np.ndarray]:
  """Returns the parameters alone, layers one by one, of what an archive holds.

  Prefixes that all names share, as wrappers leave them (`module.`, `_orig_mod.`, `model.`), are taken
  off where a format has the names behind them.

  Args:
    arrays: {name in the archive: array}.
    tables: of the formats that are read; None: of all classifiers.
  """
  tables = families.tables() if tables is None else tables
  for prefix in _PREFIXES:
    inner = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    if inner:
      arrays = inner
      break
  arrays = trees.unstack({_NUMBERED.sub(r'\1/', k): v for k, v in arrays.items()})
  prefix = _prefix([name for name in arrays if name not in _COUNTERS], tables)
  return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _shows(names: Iterable[str], tables: Sequence[Table]) -> Table | None:
  """Returns the first format that one of the names shows."""
  return next((t for t in tables if any(re.fullmatch(t.shown_by, name) for name in names)), None)


def _prefix(names: Sequence[str], tables: Sequence[Table]) -> str:
  """Returns what all names begin with, if only without it they show a format; else ''."""
  prefix, rest = '', names
  while rest and not _shows(rest, tables):
    first = re.match(r'[^./]+[./]', rest[0])
    if not first or not all(name.startswith(first[0]) for name in rest):
      return ''
    prefix, rest = prefix + first[0], [name.removeprefix(first[0]) for name in rest]
  return prefix if rest else ''


def guess(arrays: Mapping[str, np.ndarray], tables: Sequence[Table] | None = None) -> Table:
  """Returns the one of the formats that the names show.

  Raises:
    UnknownFormat: for names of no format that is read.
  """
  tables = families.tables() if tables is None else tables
  if table := _shows(arrays, tables):
    return table
  if any(map(_DETECTOR.fullmatch, arrays)):
    raise UnknownFormat('these are the parameters of a detector, and not of a classifier; give them to '
                        'a detector (a model of detr_jax.list_models())')
  raise UnknownFormat(f'these are not the parameters of a model that is read ({_some(arrays)}); '
                      + _below(arrays, tables)
                      + 'known formats: ' + ', '.join(table.name for table in tables))


def _some(names: Iterable[str]) -> str:
  names = sorted(names)
  return ', '.join(names[:4]) + ', ...' * (len(names) > 4)


def _below(names: Iterable[str], tables: Sequence[Table]) -> str:
  """Returns a remedy for names of a format that stand below a prefix which others do not have."""
  shown = re.compile('(.+?[./])(' + '|'.join(f'(?:{table.shown_by})' for table in tables) + ')')
  for prefix in [found[1] for found in map(shown.fullmatch, names) if found]:
    others = [name for name in names if not name.startswith(prefix)]
    return (f'those below the prefix {prefix!r} are, but {len(others)} others stand beside them '
            f'({_some(others)}): save what lies below the prefix alone; ')
  return ''
