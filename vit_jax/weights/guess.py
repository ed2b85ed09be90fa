"""Which named model a file is of, by the names and shapes of what it holds."""

from typing import Any

from vit_jax import models, trees
from vit_jax.errors import UserError
from vit_jax.weights import families
from vit_jax.weights.families import Published
from vit_jax.weights.table import Table

_SHOWN = 6  # names in an error


def _of_file(flat: trees.Flat) -> tuple[Published | None, dict[str, Any]]:
  """Returns the family of the parameters and what their names and shapes tell of the model."""
  for known in families.FAMILIES:
    fields = known.shown(flat)
    if fields is not None:
      return known, fields
  return None, {}


def _named(known: Published | None) -> dict[str, Any]:
  """Returns {name: model} of a family's variants."""
  module = known and known.family.module
  return {name: models.create_model(name) for name, variant in models.variants().items()
          if variant.module is module}


def candidates(flat: trees.Flat, table: Table) -> list[str]:
  """Returns the names of the models that parameters may belong to.

  Args:
    flat: our paths, layers one by one; how attention is cut into heads does not matter.
    table: the format that they come from; Google's own has no model with the erf form of GELU.
  """
  known, fields = _of_file(flat)
  found = {}
  for name, model in _named(known).items():
    if known.told(model, fields) == fields and (
        getattr(model, 'gelu', 'tanh') == 'tanh' or 'gelu' in table.fields):
      found.setdefault(model, []).append(name)
  out = []
  for model, names in found.items():  # variants of one model differ in the size of their images
    size = lambda name: models.variant(name).image_size[0]
    side = known.side(flat, table, model)
    out.append(max((n for n in names if size(n) <= side), key=size, default=names[0]))
  return out


def only(path: str, flat: trees.Flat, table: Table) -> str:
  """Returns the one model that parameters belong to.

  Raises:
    UserError: when there are several, or none.
  """
  names = candidates(flat, table)
  if len(names) == 1:
    return names[0]
  remedy = f"name it: vit_jax.load({(names or ['NAME'])[0]!r}, {path!r}, ...), or --model"
  if names:
    raise UserError(f'{path} may be of {" or ".join(names)}, which differ in what no file of weights '
                    f'says; {remedy}')
  known, fields = _of_file(flat)
  if known is None:
    raise UserError(f'{path} is not of a named model; {remedy}')
  same = _named(known)
  alike = lambda name: sum(known.told(same[name], fields)[k] == v for k, v in fields.items())
  near = ', '.join(sorted(same, key=alike, reverse=True)[:_SHOWN])
  said = ', '.join(f'{k}={v}' for k, v in fields.items() if v)
  raise UserError(f'{path} is not of a named model ({known.family.module.__name__}: {said}; near: '
                  f'{near}); {remedy}')
