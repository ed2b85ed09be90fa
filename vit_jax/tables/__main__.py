"""Lists published tables, prints one, gives a row's commands, shows measured beside published."""

import functools

from vit_jax import errors, tables
from vit_jax.config import to_dict
from vit_jax.errors import unknown
from vit_jax.flags import Parser
from vit_jax.tables import commands, plan, runs


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.tables', description=tables.__doc__)
  flags.add_argument('table', nargs='?', help='name of a table; none: lists them')
  flags.add_argument('--row', help='print what a row runs')
  flags.add_argument('--column', help='of one column alone')
  flags.add_argument('--runs', metavar='FOLDER', help='show what was measured in these workdirs')
  flags.add_argument('--configs', metavar='FOLDER', default='configs', help='where the recipes are')
  return flags


def listing() -> list[str]:
  """Returns a line for each table."""
  out = []
  for t in tables.TABLES.values():
    printed = [r for r in t.rows if r.published is not None]
    counts = dict(runs=sum(r.runs for r in printed), facts=sum(bool(r.fact) for r in printed),
                  quoted=sum(r.quoted for r in printed))
    said = ', '.join(f'{n} {kind}' for kind, n in counts.items() if n)
    out.append(f'{t.name:18} {t.title} ({said})')
  return out


def text(published) -> str:
  """Returns a value as printed."""
  if published is None:
    return '-'
  if isinstance(published, tuple):
    return '{} ± {}'.format(*published)
  if isinstance(published, bool):
    return 'yes' if published else 'no'
  return str(published)


def status(row: tables.Row, found) -> str:
  """Returns what stands beside a published value.

  Args:
    row: of the table.
    found: what was measured, see `runs.measured`, or what the config implies; None for neither.
  """
  if row.quoted:
    return 'quoted'
  if row.fact:
    return f'here {found:.4g}' if isinstance(found, float) else f'here {text(found)}'
  if not row.configs:
    return ''
  if not row.measure:
    return 'of other hardware'
  if found is None:
    return 'not measured'
  mean, spread, count = found
  return f'measured {mean:.2f}' + (f' ± {spread:.2f}' if spread is not None else '') + (
      f' ({count} runs)' if count > 1 else '')


def selected(table: tables.Table, row: str | None, column: str | None) -> list[tables.Row]:
  """Returns the cells of a row, a column, both or all; UserError for a name that there is not."""
  for kind, name, known in (('row', row, table.values), ('column', column, table.columns)):
    if name is not None and name not in known:
      raise unknown(f'{kind} of {table.name}:', name, known)
  return [r for r in table.rows if row in (None, r.row) and column in (None, r.column)]


@functools.cache
def planned(spec: str, configs: str) -> plan.Plan:
  """Returns the plan of a config; many cells share one."""
  return plan.make(plan.load(spec, configs))


def show(cells: list[tables.Row], folder: str | None, configs: str) -> list[str]:
  """Returns a line for each cell: published, and measured in the runs of a folder."""
  found, keys = {}, {}
  if folder:
    found = runs.find(folder)
    keys = {spec: runs.key(to_dict(plan.load(spec, configs)))
            for r in cells if r.runs for alternatives in r.configs for spec in alternatives}
  width = [max(len(getattr(r, name)) for r in cells) for name in ('row', 'column')]
  out = []
  for r in cells:
    beside = runs.measured(r, found, keys) if r.runs and folder else None
    if r.fact:
      beside = plan.fact(planned(r.configs[0][0], configs), r.fact)
    out.append(f'{r.row:{width[0]}}  {r.column:{width[1]}}  {text(r.published):>14}  '
               f'{status(r, beside)}'.rstrip())
  return out


def recipe(row: tables.Row, configs: str) -> list[str]:
  """Returns the plan and the commands of a cell's runs."""
  out = []
  for group in row.configs:
    for i, spec in enumerate(group):
      out += ['# or, the better of both:'] * (i > 0)
      out += [f'# {line}' for line in planned(spec, configs).lines()]
      out += commands.lines(spec, configs)
  return [line for i, line in enumerate(out)  # what several runs start from is made once
          if line.startswith('#') or line not in out[:i]]


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  if flags.table is None:
    print('\n'.join(listing()))
    return
  table = tables.table(flags.table)
  cells = selected(table, flags.row, flags.column)
  print('. '.join(filter(None, (table.title, table.paper, table.metric, table.notes))))
  print('\n'.join(show(cells, flags.runs, flags.configs)))
  if flags.row is not None:
    made = {}
    for cell in cells:
      made.setdefault(cell.configs, []).append(cell)
    made.pop((), None)
    for same in made.values():
      columns = ', '.join(cell.column for cell in same)
      print('\n'.join(['', f'# {same[0].row}, {columns}', *recipe(same[0], flags.configs)]))


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.tables', main)
