"""What a published table is: printed values, and for each cell the configs that make it."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
  """One cell of a table, or several of one run.

  Attributes:
    table, row, column: where it stands.
    published: as printed: a number, (mean, standard deviation), text, a truth value, or None.
    configs: what is averaged (one config, or VTAB's 19), each with the alternatives of which the best
      counts; 'vit_finetune.py:model=vit_b16,...', a file in configs/ with its arguments. Empty: the cell
      is not a run.
    measure: of `results.json`; '' where nothing that a run measures compares.
    fact: what the config itself implies, a word of `plan.fact`; '' for none.
    quoted: whether the paper took the number from others.
  """
  table: str
  row: str
  column: str
  published: Any
  configs: tuple[tuple[str, ...], ...] = ()
  measure: str = 'test_accuracy'
  fact: str = ''
  quoted: bool = False

  @property
  def runs(self) -> bool:
    """Whether it is measured by running its configs."""
    return bool(self.configs and self.measure and not self.fact)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table as printed.

  Attributes:
    name, paper, title, metric, notes: of the table.
    columns: their heads.
    values: {row: a value per column}.
    cell: (row, column) -> the other fields of its `Row`.
  """
  name: str
  paper: str
  title: str
  metric: str
  columns: tuple[str, ...]
  values: dict[str, tuple]
  cell: Callable[[str, str], dict]
  notes: str = ''

  @property
  def rows(self) -> list[Row]:
    """All cells, row by row; what was not printed has no config."""
    return [Row(self.name, row, column, value, **({} if value is None else self.cell(row, column)))
            for row, values in self.values.items() for column, value in zip(self.columns, values)]


def run(*alternatives: str, **fields) -> dict:
  """Returns the fields of a cell that one run makes, or the best of several."""
  return dict(configs=(alternatives,), **fields)
