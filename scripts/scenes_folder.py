"""Writes scenes of handwritten digits as a folder with COCO's annotations.

    python scripts/scenes_folder.py data/scenes

ROOT/annotations/instances_{train,test}.json and ROOT/{train,test}/*.png: something to try the detection
commands on, and to compare your own files with.
"""

import json
import os
import sys

from detr_jax.data.sources.digit_scenes import DigitScenes

PARTS = dict(train='train[:256]', test='test[:64]')


def main(root: str) -> None:
  """Writes both splits."""
  source = DigitScenes()
  os.makedirs(os.path.join(root, 'annotations'), exist_ok=True)
  for name, part in PARTS.items():
    split = source.split(part)
    truth = split.annotations()
    os.makedirs(os.path.join(root, name), exist_ok=True)
    for i, image in enumerate(truth['images']):
      image['file_name'] = f'{i:04d}.png'
      split.read(i).image().save(os.path.join(root, name, image['file_name']))
    with open(os.path.join(root, 'annotations', f'instances_{name}.json'), 'w') as file:
      json.dump(truth, file, indent=1)
  print(f'wrote {root}')


if __name__ == '__main__':
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  main(sys.argv[1])
