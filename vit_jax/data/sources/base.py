"""What every source gives: splits of labelled images, and parts of splits."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from vit_jax.data import images
from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Example:
  """A labelled image that is not decoded yet.

  Attributes:
    content: of an image file, or pixels, uint8 `[height, width, channels]`.
    labels: class numbers; one, but for multi-label data.
    name: for messages and pictures.
    real: ImageNet-ReaL's labels, where they are known.
  """
  content: bytes | np.ndarray
  labels: tuple[int, ...]
  name: str
  real: tuple[int, ...] = ()

  def image(self, channels: int) -> Image.Image:
    """Decodes the image; UserError when it is damaged."""
    if isinstance(self.content, bytes):
      return images.decode(self.content, channels, self.name)
    return images.convert(images.from_array(self.content), channels)

  def quick(self, channels: int, antialias: bool) -> 'images.Quick':
    """Returns the image to be cut quickly; UserError when it is damaged."""
    return images.Quick(self.content, channels, self.name, antialias)


class Split:
  """A sequence of examples that are read one by one."""

  def __init__(self, lengths: Sequence[int], read: Callable[[int], Example], in_memory: bool = False,
               max_real: int = 0):
    """Collects what describes the examples.

    Args:
      lengths: examples of each shard, one behind another; of a single one where reading any example
        costs the same.
      read: returns example i.
      in_memory: whether reading costs next to nothing.
      max_real: the most ReaL labels that an example has; 0: it has none.
    """
    self.lengths, self.read, self.in_memory = tuple(lengths), read, in_memory
    self.max_real = max_real
    self._length = sum(self.lengths)

  def __len__(self) -> int:
    return self._length

  def labels(self) -> np.ndarray:
    """Returns the first label of each example, int `[examples]`; reads them all."""
    return np.asarray([self.read(i).labels[0] for i in range(len(self))], np.int32)


class Source(Protocol):
  """A data set."""
  name: str
  classes: tuple[str, ...]
  channels: int

  def split(self, name: str) -> Split:
    """Returns a split by its name, such as 'train', 'train[:90%]' or 'train[:800]+test'."""


@dataclasses.dataclass(frozen=True)
class Part:
  """The part of a split that stands in brackets."""
  name: str
  start: str = ''
  stop: str = ''

  def bounds(self, length: int) -> tuple[int, int]:
    """Returns (start, stop) among `length` examples; UserError when nothing lies between."""
    start, stop = _position(self.start or '0', length), _position(self.stop or '100%', length)
    if not 0 <= start < stop <= length:
      raise UserError(f'split {self}: bounds {start} to {stop} of {length} examples hold none')
    return start, stop

  def __str__(self) -> str:
    return f'{self.name}[{self.start}:{self.stop}]' if self.start or self.stop else self.name


def _position(text: str, length: int) -> int:
  """Returns the index that '90%', '800' or '-100' means; shares round to the nearest."""
  if text.endswith('%'):
    share = float(text[:-1]) / 100.
    return int(np.floor(share * length + .5)) if share >= 0. else length - int(
        np.floor(-share * length + .5))
  index = int(text)
  return min(index, length) if index >= 0 else max(length + index, 0)


_NUMBER = r'\s*(-?\d+\.?\d*%|-?\d+)?\s*'
_RANGE = rf'\s*\[{_NUMBER}:{_NUMBER}\]\s*'


def parse_split(text: str, exists: Callable[[str], bool] = lambda name: False) -> list[Part]:
  """Returns the parts of 'train', 'train[:90%]', 'train[-100:]' or 'train[:800]+test'.

  Args:
    text: of the split.
    exists: tells whether there is a whole split of a name. Only a name that exists may hold '+' or
      brackets; of several readings the one with the longest names is taken.

  Raises:
    UserError: for another form, or a share outside 0 to 100 %.
  """
  parts, pieces = [], text.split('+')
  while pieces:
    for count in range(len(pieces), 0, -1):
      part = _part('+'.join(pieces[:count]), exists, count == 1)
      if part:
        break
    if not part or any(abs(float(n[:-1])) > 100. for n in (part.start, part.stop) if n.endswith('%')):
      raise UserError(f'split {text!r} is not of the form train, train[:90%], train[90%:], train[:800] '
                      'or train+test; a name may hold + or brackets where there is a split of that name')
    parts.append(part)
    pieces = pieces[count:]
  return parts


def _part(piece: str, exists: Callable[[str], bool], alone: bool) -> Part | None:
  """Returns a piece of a split as a part, if it is one; `alone` where its name need not exist."""
  if exists(piece.strip()):
    return Part(piece.strip())
  ranged = re.fullmatch(rf'(.*?){_RANGE}', piece, re.DOTALL)
  name = (ranged[1] if ranged else piece).strip()
  if not exists(name) and (not alone or re.search(r'[\[\]]', name)):
    return None
  return Part(name, ranged[2] or '', ranged[3] or '') if ranged else Part(name)


def chosen(parts: Sequence[tuple[int, Part]]) -> np.ndarray:
  """Returns the indices of the chosen examples of sources that are sorted by class, one array.

  Bounds count in a fixed order that mixes the classes.

  Args:
    parts: (examples of the named split, part of it); splits lie one behind another.
  """
  out, offset = [], 0
  for length, part in parts:
    start, stop = part.bounds(length)
    order = np.arange(length)
    if (start, stop) != (0, length):
      order = np.sort(np.random.default_rng(0).permutation(length)[start:stop])
    out.append(order + offset)
    offset += length
  return np.concatenate(out)
