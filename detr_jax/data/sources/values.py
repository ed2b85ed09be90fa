"""Values of JSON, as other programs write them: what counts as a number, how a wrong one is shown."""

import math
import re

LIMIT = 2 ** 63  # of the whole numbers that arrays hold


def whole(value) -> int | None:
  """Returns a whole number that is written as 7, 7.0 or '7'; None for all else, and beyond 64 bits."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  if isinstance(value, str) and re.fullmatch('0|-?[1-9][0-9]{0,18}', value):
    value = int(value)
  return value if type(value) is int and -LIMIT <= value < LIMIT else None


def number(value) -> float | None:
  """Returns a finite number; None for all else, texts and truth values among them."""
  if type(value) is float and math.isfinite(value) or type(value) is int and abs(value) < LIMIT:
    return float(value)
  return None


def flag(value) -> bool | None:
  """Returns a truth value that is written as true, 1, 1.0 or '1' and the like, or is null; else None."""
  if value is None or isinstance(value, bool):
    return bool(value)
  found = whole(value)
  return bool(found) if found in (0, 1) else None


def shown(value) -> str:
  """Returns a value for a message: text in quotes, long ones cut off."""
  text = repr(value)
  return text if len(text) <= 80 else f'{text[:77]}...'


def readable(text: str) -> str:
  """Returns text of a file that is not UTF-8, which keeps its bytes as escapes, as Latin-1 spells it."""
  if text.isascii():
    return text
  try:
    content = text.encode('utf-8', 'surrogateescape')
    return content.decode('utf-8')
  except UnicodeEncodeError:  # escapes of JSON that stand for no character
    return text.encode('utf-8', 'replace').decode('utf-8')
  except UnicodeDecodeError:
    return content.decode('latin-1')
