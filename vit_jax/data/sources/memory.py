"""Data sets that ship inside a dependency and fit in memory."""

import numpy as np

from vit_jax.data.sources.base import Example, Split, chosen, parse_split
from vit_jax.errors import unknown


class Memory:
  """A source over arrays: `splits` maps a name to (uint8 images, int labels)."""

  def __init__(self, name: str, classes: tuple[str, ...],
               splits: dict[str, tuple[np.ndarray, np.ndarray]], channels: int):
    self.name, self.classes, self.channels = name, classes, channels
    self._splits = splits

  def split(self, name: str) -> Split:
    """Returns a split by its name, such as 'train' or 'train[:90%]'."""
    parts = parse_split(name)
    for part in parts:
      if part.name not in self._splits:
        raise unknown(f'split of {self.name!r}:', part.name, self._splits)
    where = [(part.name, i) for part in parts for i in range(len(self._splits[part.name][1]))]
    index = chosen([(len(self._splits[part.name][1]), part) for part in parts])

    def read(i: int) -> Example:
      of, at = where[index[i]]
      pixels, labels = self._splits[of]
      return Example(pixels[at], (int(labels[at]),), f'{of}/{at}')

    return Split([len(index)], read, in_memory=True)


def digits(channels: int = 0) -> Memory:
  """The 1,797 handwritten digits, 8 x 8 pixels, that ship inside scikit-learn.

  Four fifths of each class train, a fifth tests: 1,442 and 355 examples, in a fixed random order.
  """
  from sklearn import datasets  # here: half a second that only this source costs
  data = datasets.load_digits()
  pixels = np.uint8(np.round(data.images * (255. / 16.)))[..., None]
  order = np.random.default_rng(0).permutation(len(pixels))
  test = np.zeros(len(pixels), bool)
  for label in range(10):
    of_class = order[data.target[order] == label]
    test[of_class[:len(of_class) // 5]] = True
  splits = {name: (pixels[order[chosen]], data.target[order[chosen]].astype(np.int32))
            for name, chosen in (('train', ~test[order]), ('test', test[order]))}
  return Memory('digits', tuple('0123456789'), splits, channels or 1)
