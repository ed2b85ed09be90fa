"""Writes scikit-learn's handwritten digits as a folder of class folders of PNG files.

    python scripts/digits_folder.py data/digits

Something to try the folder commands on before you have images of your own.
"""

import os
import sys

from vit_jax.data.sources import open_source


def main(root: str) -> None:
  """Writes ROOT/train/CLASS/*.png and ROOT/test/CLASS/*.png."""
  source = open_source('digits', train='train')
  for name in ('train', 'test'):
    split = source.split(name)
    for i, label in enumerate(split.labels):
      folder = os.path.join(root, name, source.classes[label])
      os.makedirs(folder, exist_ok=True)
      split.read(i).save(os.path.join(folder, f'{i:04d}.png'))
  print(f'wrote {root}')


if __name__ == '__main__':
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  main(sys.argv[1])
