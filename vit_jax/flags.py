"""What command lines share."""

import argparse
import re
import sys
from collections.abc import Callable

from vit_jax import errors, files


class Parser(argparse.ArgumentParser):
  """Flags of a command: mistakes are `UserError`s; `~` is the home directory in every word."""

  def __init__(self, **options):
    super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

  def parse_known_args(self, args=None, namespace=None):
    """Returns (flags, unknown words), of `sys.argv` where `args` is None."""
    words = sys.argv[1:] if args is None else args
    return super().parse_known_args([files.home(word) for word in words], namespace)

  def error(self, message: str) -> None:
    """Raises UserError."""
    message = re.sub(r'^argument (\S+): =', r'\1=', message)
    raise errors.UserError(f'{message}; --help lists the flags')


def number(low: float, high: float = float('inf'), kind: type = int) -> Callable[[str], int | float]:
  """Returns the type of a flag that takes a number from `low` to `high`."""
  def parse(text: str):
    try:
      value = kind(text)
    except ValueError:
      value = float('nan')
    if not low <= value <= high:
      what = 'a whole number' if kind is int else 'a number'
      upper = '' if high == float('inf') else f' and at most {high:g}'
      raise argparse.ArgumentTypeError(f'={text} must be {what}, at least {low:g}{upper}')
    return value

  return parse


def size(text: str) -> tuple[int, int]:
  """Returns the (height, width) that '224' or '160x256' says; a type of a flag."""
  if not re.fullmatch(r'[1-9]\d{0,4}(x[1-9]\d{0,4})?', text):
    raise argparse.ArgumentTypeError(f'={text} must be a size such as 224 or 160x256 (height x width)')
  numbers = [int(n) for n in text.split('x')]
  return numbers[0], numbers[-1]


def split_overrides(argv: list[str]) -> tuple[list[str], dict[str, str]]:
  """Separates `--config.KEY=VALUE` and `--config.KEY VALUE` from the other flags."""
  rest, overrides = [], {}
  words = iter(argv)
  for word in words:
    if word.startswith('--config.'):
      key, equals, value = word.removeprefix('--config.').partition('=')
      value = value if equals else next(words, None)
      if value is None:
        raise errors.UserError(f'--config.{key} needs a value')
      overrides[key] = value
    else:
      rest.append(word)
  return rest, overrides
