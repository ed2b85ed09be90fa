"""The 50,000 checkpoints of AugReg (arXiv:2106.10270), found by what they were trained with.

    from vit_jax.pretrained import augreg
    best = augreg.query(name='B/16', ds='i21k', adapt_ds='cifar100', best='adapt_final_val')[0]
    model, params, info = vit_jax.load(best.model, best.adapted_url)

The authors publish an index, a CSV file. A row is a pre-trained file and one fine-tuned from it:
`name` of the model as the paper writes it, `ds` (i1k, i21k, i21k_30), `lr`, `aug` (none, light1, ...,
strong2), `wd` weight decay, `do` dropout, `sd` stochastic depth; `adapt_ds`, `adapt_lr`, `adapt_steps`,
`adapt_resolution` of the fine-tuning; accuracies `best_val`, `final_val`, `final_test`,
`adapt_final_val`, `adapt_final_test`; `params`, `infer_samples_per_sec`; and the files, `filename` and
`adapt_filename`, without their suffix.
"""

import csv
import dataclasses
from collections.abc import Mapping

from vit_jax import pretrained
from vit_jax.errors import UserError, unknown
from vit_jax.pretrained.files import VIT

FOLDER = VIT + 'augreg/'
INDEX = FOLDER + 'index.csv'


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the index.

  Attributes:
    model: name of our model.
    url: of the pre-trained file.
    adapted_url: of the file that was fine-tuned from it; '' where the row names none.
    values: the row as it stands, text by column.
  """
  model: str
  url: str
  adapted_url: str
  values: Mapping[str, str]


def query(index: str = INDEX, best: str = 'final_val', **where) -> list[Row]:
  """Returns the rows of the index that fit, best first.

  Without a condition on fine-tuning (`adapt_...`) each pre-trained file comes once.

  Args:
    index: path or address of the CSV file; the authors' is downloaded once.
    best: column to sort by, the largest first; rows without a number there come last.
    **where: a value, or several in a list, for each column that matters, such as `wd=.1` or
      `aug=['none', 'light1']`; numbers are compared as numbers.

  Raises:
    UserError: no or another file, or a column that it does not have.
  """
  rows = _read(pretrained.resolve(index))
  adapted = best.startswith('adapt') or any(name.startswith('adapt') for name in where)
  columns = ('name', 'filename', *(['adapt_filename'] if adapted else []))
  for column in columns:
    if column not in rows[0]:
      raise UserError(f'{index} is not the index of AugReg: it has no column {column!r}')
  for column in (best, *where):
    if column not in rows[0]:
      raise unknown(f'column of {index}:', column, rows[0])
  found = [row for row in rows if all(_fits(row[column], value) for column, value in where.items())]
  found.sort(key=lambda row: _number(row[best]), reverse=True)
  if not adapted:
    found = list({row['filename']: row for row in reversed(found)}.values())[::-1]
  return [_row(row) for row in found]


def _read(path: str) -> list[dict[str, str]]:
  try:
    with open(path, newline='', encoding='utf-8') as file:
      rows = list(csv.DictReader(file))
  except (OSError, ValueError, csv.Error) as error:
    raise UserError(f'{path} cannot be read as a table ({error})') from None
  if not rows:
    raise UserError(f'{path} holds no rows; remove it, so that it is fetched again')
  return rows


def _fits(text: str | None, value) -> bool:
  """Tells whether a cell holds a value, or one of several."""
  values = value if isinstance(value, (list, tuple, set)) else [value]
  return any(text == str(v) or _number(text) == _number(v) > float('-inf') for v in values)


def _number(value) -> float:
  """Returns a number, or minus infinity for other text and for NaN, which would break the order."""
  try:
    number = float(value)
  except (TypeError, ValueError):
    return float('-inf')
  return number if number == number else float('-inf')


def _row(row: Mapping[str, str]) -> Row:
  # 'R26+S/32' is our r26_s32, 'B/16' our vit_b16.
  model = row['name'].lower().replace('/', '').replace('+', '_')
  address = lambda name: f'{FOLDER}{name}.npz' if name else ''
  return Row(model if model.startswith('r') else f'vit_{model}', address(row['filename']),
             address(row.get('adapt_filename', '')), row)
