"""What `python -m vit_jax.data` shows and checks of labelled images."""

import os
from collections.abc import Sequence


def facts(data, config) -> list[str]:
  """Returns lines that describe the data."""
  info = data.info
  names = ', '.join(info.classes[:10]) + ', ...' * (len(info.classes) > 10)
  reader = data.train.reader
  shards = sum(len(split.lengths) for split in reader.splits)
  return [f'source      {info.source}',
          f'classes     {info.num_classes}: {names}',
          f'training    {info.num_train:,} images in {shards} shard(s) and {data.train.lanes} lane(s)',
          f'test        {info.num_test:,} images',
          'model sees  {}x{}x{}'.format(*info.image_size, info.channels),
          *batches(config, info.num_train)]


def batches(config, num_train: int) -> list[str]:
  """Returns lines on the steps of a run."""
  from vit_jax import config as config_lib
  steps = config_lib.total_steps(config, num_train)
  return [f'batch       {config.data.batch_size}; an epoch has '
          f'{num_train / config.data.batch_size:,.1f}',
          f'run         {steps:,} steps, each training image '
          f'{steps * config.data.batch_size / num_train:,.1f} times']


def read_batches(data, task, config, count: int, step: int):
  """Returns augmented images `[count, h, w, c]` in [0, 1] with targets, and test images with labels."""
  import jax
  import numpy as np
  from vit_jax.task import keys
  augmented = jax.jit(lambda batch, step: task.augment(batch, keys(config.seed, step)[0]))
  steps = -(-count // config.data.batch_size)
  images, targets = [], []
  for at, batch in data.train.after(step, step + steps):
    batch = augmented(batch, at)
    images += list(np.asarray(batch['image']))
    targets += list(np.asarray(batch['target']))
  test = next(iter(data.splits['test']))
  return images[:count], targets[:count], np.asarray(test['image']), np.asarray(test['label'])


def sheet(data, task, config, count: int, step: int, path: str) -> None:
  """Writes the contact sheet: training images after augmentation, with their labels, then test images.

  Args:
    data, task: of the config.
    config: of the run.
    count: training images.
    step: the first one to look at.
    path: of the picture.
  """
  import numpy as np
  from vit_jax.visual import galleries
  from vit_jax.visual.page import save_figure
  images, targets, tests, labels = read_batches(data, task, config, count, step)
  names = data.info.classes
  tests = tests[:min(8, data.info.num_test)]
  pictures = [np.uint8(np.clip(image, 0., 1.) * 255. + .5) for image in images] + list(tests)
  captions = []
  for target in targets:
    best = [i for i in np.argsort(-target)[:2] if target[i] > max(.5 * target.max(), .02)]
    captions.append([f'{names[i]} {target[i]:.2f}' for i in best])
  for label in labels[:len(tests)]:
    captions.append(['test: ' + ', '.join(names[i] for i in np.ravel(label) if i >= 0)])
  save_figure(galleries.draw_batch(pictures, captions), path)


def holds(path: str) -> bool:
  """Tells whether a path is a folder of class folders, or of splits of them."""
  from vit_jax.data import listing
  return os.path.isdir(path) and bool(listing.folders_in(path))


def check(paths: Sequence[str], **options) -> int:
  """Prints the problems of folders of images, and returns their number.

  Args:
    paths: folders that hold SPLIT/CLASS/IMAGE, or CLASS/IMAGE.
    **options: `fast`: open no image.
  """
  import collections
  import concurrent.futures
  from vit_jax import errors
  from vit_jax.data import images, listing
  count = 0
  for path in paths:
    found = listing.images_below(path)
    sizes = collections.Counter(os.path.relpath(os.path.dirname(file), path) for file in found.files)
    problems = [] if found.files else [f'{path} contains no image']

    def broken(file):
      try:
        images.decode(images.read_file(file), 3, file)
      except errors.UserError as error:
        return str(error)

    if not options.get('fast'):
      with concurrent.futures.ThreadPoolExecutor(images.cpus()) as pool:
        problems += filter(None, pool.map(broken, found.files))
    print(path)
    print(''.join(f'  error: {listing.shown(problem)}\n' for problem in problems), end='')
    if found.left_out:
      print(f'  note: {listing.told(found.left_out)}')
    print(f'  {len(found.files):,} images in {len(sizes)} folder(s): '
          + listing.some(f'{folder} {size:,}' for folder, size in sorted(sizes.items())))
    count += len(problems)
  return count
