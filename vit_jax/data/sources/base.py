"""What every source gives: splits of labelled images, and parts of splits."""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from vit_jax.errors import UserError


class Split:
  """A sequence of labelled images that are read one by one."""

  def __init__(self, names: Sequence[str], labels: np.ndarray,
               read: Callable[[int], Image.Image], in_memory: bool = False):
    """Collects what describes the examples.

    Args:
      names: of the examples, for messages and pictures.
      labels: int `[examples]`.
      read: returns image i, RGB or grayscale.
      in_memory: whether reading costs next to nothing.
    """
    self.names, self.labels, self.read, self.in_memory = names, labels, read, in_memory

  def __len__(self) -> int:
    return len(self.labels)

  def part(self, low: float, high: float) -> 'Split':
    """Returns the examples between two shares in [0, 1], of a fixed order that mixes the classes."""
    order = np.random.default_rng(0).permutation(len(self))
    index = np.sort(order[round(low * len(self)):round(high * len(self))])
    return Split([self.names[i] for i in index], self.labels[index],
                 lambda i: self.read(int(index[i])), self.in_memory)


class Source(Protocol):
  """A data set."""
  name: str
  classes: tuple[str, ...]
  channels: int

  def split(self, name: str) -> Split:
    """Returns a split by its name, such as 'train' or 'train[:90%]'."""


def parse_split(text: str) -> tuple[str, float, float]:
  """Returns (name, low, high) of 'train', 'train[:90%]' or 'train[90%:]'.

  Raises:
    UserError: for another form or an empty part.
  """
  match = re.fullmatch(r'([^\[\]]*)(?:\[(?:(\d+\.?\d*)%)?:(?:(\d+\.?\d*)%)?\])?', text)
  if not match:
    raise UserError(f'split {text!r} is not of the form train, train[:90%] or train[90%:]')
  low, high = float(match[2] or 0) / 100., float(match[3] or 100) / 100.
  if not 0. <= low < high <= 1.:
    raise UserError(f'split {text!r} is empty: its bounds must rise between 0% and 100%')
  return match[1], low, high
