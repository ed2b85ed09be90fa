"""Writes scikit-learn's handwritten digits as a folder of class folders of PNG files.

    python scripts/digits_folder.py data/digits

Something to try the folder commands on before you have images of your own.
"""

import os
import sys

from vit_jax.data.sources.memory import digits


def main(root: str) -> None:
  """Writes ROOT/train/CLASS/*.png and ROOT/test/CLASS/*.png."""
  source = digits()
  for name in ('train', 'test'):
    split = source.split(name)
    for i in range(len(split)):
      example = split.read(i)
      folder = os.path.join(root, name, source.classes[example.labels[0]])
      os.makedirs(folder, exist_ok=True)
      example.image(source.channels).save(os.path.join(folder, f'{i:04d}.png'))
  print(f'wrote {root}')


if __name__ == '__main__':
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  main(sys.argv[1])
