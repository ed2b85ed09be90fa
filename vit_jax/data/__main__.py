"""Shows what a config trains on, before anything is trained; or checks the files of a data set.

    python -m vit_jax.data configs/quickstart.py
    python -m vit_jax.data configs/quickstart.py --show --out=sheet.png
    python -m vit_jax.data --check my_photos
    python -m vit_jax.data --check my_coco_folder
    python -m vit_jax.data --check instances.json:images --fast
    python -m vit_jax.data --check my_label_maps --ignore=11

Opens the data, prints its facts and how fast it is read. `--show` also writes a contact sheet of what
the model really sees: training images after cropping, transforms and augmentation, with their labels or
boxes, then test images. `--check` lists all problems of a folder of class folders, or of annotations:
what cannot be read, is missing, or lies outside its image; the exit code is 2 where there is an error.
"""

import time

from vit_jax import errors
from vit_jax.flags import Parser, number, split_overrides


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.data', description=__doc__,
                 epilog='Any leaf of the config is a flag: --config.data.batch_size=64')
  flags.add_argument('config', nargs='+', help='FILE[:arguments], or the config.json of a run; with '
                     '--check folders, FILE.json:IMAGES or FILE.json:IMAGES:PNGS[:INSTANCES.json]')
  flags.add_argument('--show', action='store_true', help='write a contact sheet')
  flags.add_argument('--out', default='sheet.png', help='of the contact sheet (default sheet.png)')
  flags.add_argument('--count', type=number(1), help='training images on it (default 32, of boxes 12)')
  flags.add_argument('--step', type=number(0), default=0, help='first step to look at (default 0)')
  flags.add_argument('--stage', type=number(0), default=0, help='of a config with stages (default 0)')
  flags.add_argument('--check', action='store_true', help='list all problems of data instead')
  flags.add_argument('--fast', action='store_true', help='with --check: open no image')
  flags.add_argument('--ignore', default='', metavar='ID,ID', help='with --check of label maps: ids '
                     'that count nowhere, beside 255')
  flags.add_argument('--zero_ignored', action='store_true', help='with --check of label maps: id 0 '
                     'counts nowhere, and the classes begin with 1')
  for key, options in (('outside', ('error', 'clip')), ('exif', ('upright', 'stored'))):
    flags.add_argument(f'--{key}', choices=options, default=options[0],
                       help=f'with --check: as data.{key} of the config')
  return flags


def check(flags) -> None:
  """Lists all problems; UserError where there is an error."""
  from vit_jax import faces
  try:
    ids, count = tuple(int(n) for n in flags.ignore.split(',') if n), 0
  except ValueError:
    raise errors.UserError(f'--ignore={flags.ignore} must be numbers, such as 11 or 11,12') from None
  for path in flags.config:
    face = next((face for face in reversed(faces.faces()) if face.holds(path)), faces.faces()[-1])
    count += face.check([path], fast=flags.fast, outside=flags.outside, exif=flags.exif,
                        ignore=ids, zero_ignored=flags.zero_ignored)
  if count:
    raise errors.UserError(f'{count} error(s) in {", ".join(flags.config)}')


def show(config, flags) -> None:
  """Prints the facts of the data of a config, and writes the contact sheet if asked."""
  import jax
  from vit_jax import faces, sharding, task as task_lib
  face, mesh = faces.of_task(config), sharding.make_mesh(data=1, devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    data, task = task_lib.build(config, mesh)
    print('\n'.join(face.facts(data, config)), flush=True)
    begin, seen = time.monotonic(), 0
    for _, batch in data.train.after(flags.step, flags.step + 8):
      seen += len(batch['mask'])
      if time.monotonic() - begin > 5.:
        break
    print(f'reading     {seen / (time.monotonic() - begin):,.0f} images/s on this machine')
    if flags.show:
      face.sheet(data, task, config, flags.count or face.SHOWN, flags.step, flags.out)
      print(f'wrote {flags.out}')


def main(argv: list[str] | None = None) -> None:
  """Runs the command line."""
  import sys
  from vit_jax import config as config_lib
  argv, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
  flags = parser().parse_args(argv)
  if flags.check:
    check(flags)
    return
  if len(flags.config) > 1:
    raise errors.UserError(f'{flags.config[1]!r}: one config is shown at a time')
  stages = config_lib.stages(config_lib.load(flags.config[0], overrides))
  if flags.stage >= len(stages):
    raise errors.UserError(f'--stage={flags.stage}: the config has {len(stages)} stage(s), from 0 on')
  show(stages[flags.stage], flags)


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.data', main)
