"""Published formats as tables of names and axes, read both ways."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import einops
import numpy as np

from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Row:
  """A parameter in the published file and in our tree.

  Attributes:
    theirs, ours: names with place-holders: `{x}` stands for the same one part in both, `{x+1}` for the
      next number, `{x:02}` for the number in two digits, `{query|key|value}` (in `ours`) for each of
      these in turn.
    axes: how theirs becomes ours, as `einops.rearrange` writes it; '' where it is the same array. With
      alternatives in `ours`, the first axis on the right goes through them.
  """
  theirs: str
  ours: str
  axes: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
  """A published format.

  Attributes:
    name: of the format.
    rows: of which the first whose pattern fits a name counts.
    shown_by: regular expression of a name that only files of this format have.
    resampling: the rule by which its code base resamples position tables.
    class_position: whether the position table has entries for the class and distillation tokens, if
      there are any; None: as its size shows.
    fields: of the model, where the format implies them.
    ignored: regular expression of names that hold nothing to load.
    no_positions: `position` of a ViT whose file has no position table.
  """
  name: str
  rows: tuple[Row, ...]
  shown_by: str
  resampling: str = 'corner_aligned_linear'
  class_position: bool | None = True
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
  ignored: str = '(?!)'
  no_positions: str = 'none'


class _Template:
  """A name with place-holders, to match and to fill."""

  def __init__(self, text: str):
    pieces = re.split(r'\{([^}]*)\}', text)  # text, place-holder, text, ...
    self._pieces = [piece if i % 2 == 0 else self._holder(piece) for i, piece in enumerate(pieces)]
    self.options = next((p for p in self._pieces if isinstance(p, tuple)), ())
    self._regex = re.compile(''.join(map(self._pattern, self._pieces)))

  @staticmethod
  def _holder(text: str):
    if '|' in text:
      return tuple(text.split('|'))
    return re.fullmatch(r'(?P<name>\w+)(\+(?P<plus>\d+))?(:0(?P<digits>\d+))?', text).groupdict()

  @staticmethod
  def _pattern(piece) -> str:
    if isinstance(piece, str):
      return re.escape(piece)
    if isinstance(piece, tuple):
      return f'(?P<option>{"|".join(piece)})'
    number = piece['plus'] or piece['digits']
    return f'(?P<{piece["name"]}>{r"[0-9]{1,4}" if number else "[^/.]+"})'

  def match(self, name: str) -> dict[str, str] | None:
    """Returns what the place-holders stand for in a name, or None."""
    found = self._regex.fullmatch(name)
    if not found:
      return None
    values = found.groupdict()
    for piece in self._pieces:
      if isinstance(piece, dict) and (piece['plus'] or piece['digits']):
        values[piece['name']] = str(int(values[piece['name']]) - int(piece['plus'] or 0))
    return values

  def fill(self, values: Mapping[str, str]) -> str:
    """Returns the name with values in place."""
    out = []
    for piece in self._pieces:
      if isinstance(piece, str):
        out.append(piece)
      elif isinstance(piece, tuple):
        out.append(values['option'])
      else:
        value = values[piece['name']]
        if piece['plus'] or piece['digits']:
          value = str(int(value) + int(piece['plus'] or 0)).zfill(int(piece['digits'] or 0))
        out.append(value)
    return ''.join(out)


_template = functools.cache(_Template)


def _find(rows: Iterable[Row], side: str, name: str) -> tuple[Row, dict[str, str]] | None:
  """Returns the first row whose `side` fits a name, and what its place-holders stand for."""
  for row in rows:
    values = _template(getattr(row, side)).match(name)
    if values is not None:
      return row, values
  return None


def _rearrange(name: str, array, axes: str, sizes: Mapping[str, int | None]):
  used = {k: v for k, v in sizes.items() if v and k in re.findall(r'\w+', axes.split('->')[0])}
  try:
    return einops.rearrange(np.asarray(array), axes, **used)
  except einops.EinopsError:
    raise UserError(f'{name} has the shape {np.shape(array)}, which does not fit {axes!r}'
                    + ''.join(f' with {k}={v}' for k, v in used.items())) from None


def _complain(unexpected: list[str], table: Table) -> None:
  if unexpected:
    shown = ', '.join(sorted(unexpected)[:8]) + (', ...' if len(unexpected) > 8 else '')
    raise UserError(f'{len(unexpected)} parameter(s) that the format {table.name!r} does not know: '
                    f'{shown}')


def to_ours(table: Table, arrays: Mapping[str, np.ndarray], num_heads: int | None = None
            ) -> dict[str, np.ndarray]:
  """Returns the arrays of a published file under our paths, layers one by one.

  Args:
    table: the format.
    arrays: {name in the file: array}.
    num_heads: of the attention; formats that pack the heads into one axis do not tell. None: of a model
      without attention, which such a file does not fit.

  Raises:
    UserError: lists the names that the table does not know, or one whose axes are others.
  """
  out, unexpected = {}, []
  for name, array in arrays.items():
    found = _find(table.rows, 'theirs', name)
    if found is None:
      if not re.fullmatch(table.ignored, name):
        unexpected.append(name)
      continue
    row, values = found
    ours = _template(row.ours)
    if row.axes:
      array = _rearrange(name, array, row.axes, {'heads': num_heads or 1, 'n': len(ours.options)})
    if ours.options:
      out |= {ours.fill({**values, 'option': o}): array[i] for i, o in enumerate(ours.options)}
    else:
      out[ours.fill(values)] = array
  _complain(unexpected, table)
  return out


def to_theirs(table: Table, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns our parameters (layers one by one) under the names of a published format.

  Raises:
    UserError: lists the paths for which the format has no name.
  """
  out, unexpected, packed = {}, [], {}
  for path, array in flat.items():
    found = _find(table.rows, 'ours', path)
    if found is None:
      unexpected.append(path)
      continue
    row, values = found
    name, options = _template(row.theirs).fill(values), _template(row.ours).options
    if options:
      packed.setdefault(name, (row, {}))[1][options.index(values['option'])] = array
    else:
      out[name] = _backward(path, array, row)
  for name, (row, parts) in packed.items():
    out[name] = _backward(name, np.stack([parts[i] for i in range(len(parts))]), row)
  _complain(unexpected, table)
  return out


def _backward(name: str, array, row: Row):
  if not row.axes:
    return array
  theirs, ours = row.axes.split('->')
  return np.ascontiguousarray(_rearrange(name, array, f'{ours.strip()} -> {theirs.strip()}', {}))
