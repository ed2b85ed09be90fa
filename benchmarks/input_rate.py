"""Images/s per core from JPEG files to batches: decode, random resized crop, flip, batch.

    pip install -e '.[peers,prepare]'
    python -m benchmarks.input_rate
    python -m benchmarks.input_rate --images=FOLDER

Four programs in turn, each a process on one core, timed by its CPU time: ours (`data.pipeline`, as
training calls it), torch's DataLoader with Pillow (torchvision's transforms), grain with Pillow, and
tf.data as vision_transformer writes it. Beside the rate stands the quality: the mean difference, in grey
levels, of the same windows from an antialiased reference in float. Without --images: crops of
scikit-learn's two photographs as JPEGs of 500x375 pixels and quality 92.
"""

import argparse
import glob
import os
import tempfile

import numpy as np
from PIL import Image

from benchmarks.sides import Side, alternate, last_core, pin

KINDS = ('ours', 'torch', 'grain', 'tf.data')


def write_images(folder: str, count: int = 200) -> None:
  """Writes `count` JPEGs of 500x375 pixels: windows of two photographs, each way up."""
  from sklearn import datasets
  photographs = datasets.load_sample_images().images
  for name in 'ab':
    os.makedirs(os.path.join(folder, 'train', name))
  rng = np.random.default_rng(0)
  for i in range(count):
    image = Image.fromarray(photographs[i % 2])
    left, top = rng.uniform(0., 120.), rng.uniform(0., 40.)
    image = image.resize((500, 375), Image.Resampling.LANCZOS, (left, top, left + 500., top + 375.))
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if i % 4 > 1 else image
    image.save(os.path.join(folder, 'train', 'ab'[2 * i // count], f'{i:04d}.jpg'), quality=92)


def main() -> None:
  """Prints the table."""
  flags = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('--images', help='folder of train/CLASS/*.jpg')
  flags.add_argument('--rounds', type=int, default=7)
  flags.add_argument('--batches', type=int, default=10, help='of 32 images, in a timing')
  flags.add_argument('--kinds', default=','.join(KINDS))
  flags = flags.parse_args()
  pin(last_core())
  with tempfile.TemporaryDirectory() as folder:
    if not flags.images:
      write_images(folder)
    root = flags.images or folder
    sizes = [os.path.getsize(f) for f in glob.glob(os.path.join(root, 'train', '*', '*'))]
    print(f'{len(sizes)} files of {np.mean(sizes) / 1000:.0f} kB on average')
    sides = [Side('input_side', kind, root) for kind in flags.kinds.split(',')]
    quality = [side.ask('check') for side in sides]
    alternate(sides, flags.rounds, flags.batches)
    best = 32 / sides[0].median
    print('| program | images/s per core (least-most) | ours is faster by | difference, grey levels |')
    print('|---|---|---|---|')
    for side, off in zip(sides, quality):
      rates = sorted(32 / s for s in side.seconds)
      print(f'| {side.name.split()[1]} | {32 / side.median:.0f} ({rates[0]:.0f}-{rates[-1]:.0f}) | '
            f'{best * side.median / 32:.2f} | {off:.2f} |', flush=True)
      side.close()


if __name__ == '__main__':
  main()
