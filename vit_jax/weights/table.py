"""Published formats as tables of names, read both ways."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Row:
  """A name in the published file and our path; `{x}` stands for the same one part in both."""
  theirs: str
  ours: str


@dataclasses.dataclass(frozen=True)
class Table:
  """A published format.

  Attributes:
    name: of the format.
    rows: of which the first whose pattern fits a name counts.
    resampling: the rule by which its code base resamples position tables.
    class_position: whether the position table has an entry for the class token, if there is one.
  """
  name: str
  rows: tuple[Row, ...]
  resampling: str = 'corner_aligned_linear'
  class_position: bool = True


def _translate(name: str, source: str, target: str) -> str | None:
  """Returns `target` filled with what `source` matches in `name`, or None."""
  pattern = re.sub(r'\\{(\w+)\\}', r'(?P<\1>[^/]+)', re.escape(source))
  match = re.fullmatch(pattern, name)
  return target.format(**match.groupdict()) if match else None


def _rename(arrays: Mapping[str, np.ndarray], pairs, what: str) -> dict[str, np.ndarray]:
  out, unexpected = {}, []
  for name, array in arrays.items():
    found = next(filter(None, (_translate(name, a, b) for a, b in pairs)), None)
    if found is None:
      unexpected.append(name)
    else:
      out[found] = array
  if unexpected:
    shown = ', '.join(sorted(unexpected)[:8]) + (', ...' if len(unexpected) > 8 else '')
    raise UserError(f'{len(unexpected)} parameter(s) that {what} does not know: {shown}')
  return out


def to_ours(table: Table, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the arrays of a published file under our paths, layers one by one.

  Raises:
    UserError: lists the names that the table does not know.
  """
  return _rename(arrays, [(r.theirs, r.ours) for r in table.rows], f'the format {table.name!r}')


def to_theirs(table: Table, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns our parameters (layers one by one) under the names of a published format.

  Raises:
    UserError: lists the paths for which the format has no name.
  """
  return _rename(flat, [(r.ours, r.theirs) for r in table.rows], f'the format {table.name!r}')
