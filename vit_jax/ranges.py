"""What values an option may have: the type of its annotation, and an interval of numbers."""

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vit_jax.errors import UserError

LARGEST = 2 ** 31 - 1  # whole number where an interval is open: int32's
FLOAT = 3.4e38  # float32's
Ranges = Mapping[str, str]  # {name of an option, or several with '|' between them: interval}


@dataclasses.dataclass(frozen=True)
class Interval:
  """An interval such as '[0, 1)': a square bracket stands for a limit that is part of it."""
  text: str

  @property
  def limits(self) -> tuple[float, float]:
    """The lower and the upper limit."""
    low, _, high = self.text[1:-1].partition(',')
    return float(low), float(high)

  def __contains__(self, value: float) -> bool:
    low, high = self.limits
    if high == math.inf and value > (LARGEST if isinstance(value, int) else FLOAT):
      return False
    above = value >= low if self.text[0] == '[' else value > low
    below = value <= high if self.text[-1] == ']' else value < high
    return math.isfinite(value) and above and below

  def __str__(self) -> str:
    low, high = self.limits
    lower = f'at least {low:.10g}' if self.text[0] == '[' else f'above {low:.10g}'
    upper = f'at most {high:.10g}' if self.text[-1] == ']' else f'below {high:.10g}'
    return ' and '.join([lower] * math.isfinite(low) + [upper] * math.isfinite(high)) or 'finite'


def check(where: str, values: Mapping[str, Any], kinds: Mapping[str, Any], ranges: Ranges) -> None:
  """Raises UserError for an option of the wrong type, or a number that is not in its interval.

  Args:
    where: what stands before the name of an option in the message, such as 'optimizer.'.
    values: {option: value}.
    kinds: {option: annotation}; an option without one is not checked.
    ranges: intervals of some options. Of others whole numbers are at least 0, and so are all other
      numbers; none is infinite.
  """
  listed = {name: Interval(text) for names, text in ranges.items() for name in names.split('|')}
  for name, value in values.items():
    kinds_of_it = _alternatives(kinds.get(name, Any))
    interval, numbers = listed.get(name, Interval('[0, inf)')), list(_numbers(value))
    typed = any(_is(value, kind) for kind in kinds_of_it)
    if not typed or any(number not in interval for number in numbers):
      words = ' or '.join(dict.fromkeys(_words(kind) for kind in kinds_of_it))
      limits = str(interval)
      if typed and max(numbers) > LARGEST and interval.limits[1] == math.inf:
        limits = f'at most {LARGEST}' if isinstance(max(numbers), int) else 'finite'
      raise UserError(f'{where}{name}={value!r} must be {words}' + f', {limits}' * ('number' in words))


def annotations(of: Callable) -> dict[str, Any]:
  """Returns {option: annotation} of a function, or of a dataclass."""
  hints = typing.get_type_hints(of)
  return {name: hints[name] for name in inspect.signature(of).parameters if name in hints}


def like(default: Any) -> Any:
  """Returns the annotation that a default value stands for."""
  if isinstance(default, tuple) and default:
    kinds = tuple(type(item) for item in default)
    return tuple[kinds if kinds[0] is int else (kinds[0], ...)]
  if isinstance(default, (tuple, list)):
    return Sequence
  return Mapping if hasattr(default, 'items') else type(default)


def _alternatives(kind) -> tuple:
  union = typing.get_origin(kind) in (typing.Union, types.UnionType)
  return typing.get_args(kind) if union else (kind,)


def _is(value, kind) -> bool:
  """Returns whether a value is of an annotated type; of types that no config holds, anything is."""
  origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
  if origin in (tuple, Sequence):
    if isinstance(value, str) or not isinstance(value, (tuple, list)):
      return False
    if origin is tuple and inner and inner[-1] is not ...:
      return len(value) == len(inner) and all(map(_is, value, inner))
    return not inner or all(_is(item, inner[0]) for item in value)
  if origin in (int, float):
    return isinstance(value, (int, origin)) and not isinstance(value, bool)
  if origin is Mapping:
    return hasattr(value, 'items')  # a ConfigDict is none
  return not isinstance(origin, type) or origin not in (bool, str, types.NoneType) or isinstance(
      value, origin)


def _numbers(value):
  """Yields the numbers of a value, also those within sequences."""
  if isinstance(value, (tuple, list)):
    for item in value:
      yield from _numbers(item)
  elif isinstance(value, (int, float)) and not isinstance(value, bool):
    yield value


def _words(kind) -> str:
  origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
  if origin in (tuple, Sequence):
    plural = {int: 'whole numbers', float: 'numbers'}
    items = plural.get(inner[0], _words(inner[0])) if inner else 'values'
    fixed = origin is tuple and inner and inner[-1] is not ...
    return f'{len(inner)} {items}' if fixed else f'a list of {items}'
  return {int: 'a whole number', float: 'a number', bool: 'true or false', str: 'text',
          types.NoneType: 'None', Mapping: 'a group of options'}.get(origin, 'something else')
