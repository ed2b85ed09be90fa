"""What the options of an augmentation may be: the limits stand in the signatures, as annotations."""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated

from vit_jax.errors import UserError, unknown

# Arguments that are given by the caller; everything else in a signature is an option of the config.
GIVEN = ('image', 'images', 'targets', 'key', 'mean', 'std', 'inside')


@dataclasses.dataclass(frozen=True)
class Number:
  """A number from `low` to `high`; `whole` numbers only, `pair` of them in rising order."""
  low: float
  high: float
  whole: bool = False
  pair: bool = False

  def check(self, where: str, value) -> None:
    """Raises UserError when the value is not such a number."""
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    kinds = int if self.whole else (int, float)
    good = len(values) == 1 + self.pair and all(
        isinstance(v, kinds) and not isinstance(v, bool) and self.low <= v <= self.high for v in values)
    if not good or list(values) != sorted(values):
      kind = 'whole number' if self.whole else 'number'
      what = f'two {kind}s in rising order' if self.pair else f'a {kind}'
      raise UserError(f'{where} is {value!r}; it must be {what} from {self.low:g} to {self.high:g}')


@dataclasses.dataclass(frozen=True)
class Choice:
  """One of some names, or with `several` a list of them."""
  names: tuple[str, ...]
  several: bool = False

  def check(self, where: str, value) -> None:
    """Raises UserError when a name is unknown."""
    if self.several and (isinstance(value, str) or not value):
      raise UserError(f'{where} is {value!r}; it must be a list of names')
    for name in value if self.several else (value,):
      if name not in self.names:
        raise unknown(f'value of {where}:', name, self.names)


@dataclasses.dataclass(frozen=True)
class Flag:
  """True or false."""

  def check(self, where: str, value) -> None:
    """Raises UserError for anything else."""
    if not isinstance(value, bool):
      raise UserError(f'{where} is {value!r}; it must be true or false')


@dataclasses.dataclass(frozen=True)
class Levels:
  """One grey level from 0 to 255, or one per channel."""

  def check(self, where: str, value) -> None:
    """Raises UserError for anything else."""
    for level in value if isinstance(value, (list, tuple)) and value else (value,):
      Number(0, 255).check(where, level)


Probability = Annotated[float, Number(0., 1.)]
Switch = Annotated[bool, Flag()]


def limits(operation: Callable) -> dict[str, object]:
  """Returns the checker of each option of an operation."""
  hints = typing.get_type_hints(operation, include_extras=True)
  return {name: hints[name].__metadata__[0] for name in inspect.signature(operation).parameters
          if name not in GIVEN}


def typed(operation: Callable, options: Mapping) -> dict:
  """Returns the options of an operation with floats for whole numbers where any number may stand."""
  known = limits(operation)
  return {k: float(v) if type(v) is int and isinstance(known[k], Number) and not known[k].whole else v
          for k, v in options.items()}


def check(name: str, operation: Callable, options: Mapping) -> None:
  """Raises UserError for an unknown option of an operation, or a value that it cannot have.

  None is allowed where it is the default: it stands for what the operation itself chooses.
  """
  known = limits(operation)
  parameters = inspect.signature(operation).parameters
  for option, value in options.items():
    if option not in known:
      raise unknown(f'option of augmentation {name!r}:', option, known)
    if value is not None or parameters[option].default is not None:
      known[option].check(f'{option} of augmentation {name!r}', value)
