"""Shows what a config trains on, before anything is trained.

    python -m vit_jax.data configs/quickstart.py
    python -m vit_jax.data configs/quickstart.py --show --out=sheet.png

Opens the data, prints its facts and how fast it is read. `--show` also writes a contact sheet of what
the model really sees: training images after cropping and augmentation, with their (mixed) labels, then
test images.
"""

import time

from vit_jax import errors
from vit_jax.flags import Parser, number, split_overrides


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.data', description=__doc__,
                                  epilog='Any leaf of the config is a flag: --config.data.batch_size=64')
  flags.add_argument('config', help='FILE[:arguments], or the config.json of a run')
  flags.add_argument('--show', action='store_true', help='write a contact sheet')
  flags.add_argument('--out', default='sheet.png', help='of the contact sheet (default sheet.png)')
  flags.add_argument('--count', type=number(1), default=32, help='training images on it (default 32)')
  flags.add_argument('--step', type=number(0), default=0, help='first step to look at (default 0)')
  flags.add_argument('--stage', type=number(0), default=0, help='of a config with stages (default 0)')
  return flags


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
          f'batch       {config.data.batch_size}; an epoch has '
          f'{info.num_train / config.data.batch_size:,.1f}']


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


def draw(data, read, path: str) -> None:
  """Writes the contact sheet."""
  import numpy as np
  from vit_jax.visual import galleries
  images, targets, tests, labels = read
  names = data.info.classes
  tests = tests[:min(8, data.info.num_test)]
  pictures = [np.uint8(np.clip(image, 0., 1.) * 255. + .5) for image in images] + list(tests)
  captions = []
  for target in targets:
    best = [i for i in np.argsort(-target)[:2] if target[i] > max(.5 * target.max(), .02)]
    captions.append([f'{names[i]} {target[i]:.2f}' for i in best])
  for label in labels[:len(tests)]:
    captions.append(['test: ' + ', '.join(names[i] for i in np.ravel(label) if i >= 0)])
  galleries.draw_batch(pictures, captions).savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> None:
  """Runs the command line."""
  import sys
  from vit_jax import config as config_lib, sharding, task as task_lib
  argv, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
  flags = parser().parse_args(argv)
  stages = config_lib.stages(config_lib.load(flags.config, overrides))
  if flags.stage >= len(stages):
    raise errors.UserError(f'--stage={flags.stage}: the config has {len(stages)} stage(s), from 0 on')
  config = stages[flags.stage]
  import jax
  mesh = sharding.make_mesh(data=1, devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    data, task = task_lib.build(config, mesh)
    print('\n'.join(facts(data, config)), flush=True)
    begin, seen = time.monotonic(), 0
    for _, batch in data.train.after(flags.step, flags.step + 8):
      seen += len(batch['mask'])
      if time.monotonic() - begin > 5.:
        break
    print(f'reading     {seen / (time.monotonic() - begin):,.0f} images/s on this machine')
    if flags.show:
      draw(data, read_batches(data, task, config, flags.count, flags.step), flags.out)
      print(f'wrote {flags.out}')


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.data', main)
