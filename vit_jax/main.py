"""Trains or evaluates what a config describes.

    python -m vit_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
    python -m vit_jax.main --config=configs/vit_finetune.py:dataset=my_photos --workdir=runs/photos \\
        --config.schedule.peak=0.01
    python -m vit_jax.main --workdir=runs/photos --evaluate

The same command again resumes. This module is the only place for flags, jax.config and the start of
several processes.
"""

import os
import sys
import time

from vit_jax import errors, flags as flags_lib


def parser() -> flags_lib.Parser:
  """Returns the flags of this command line."""
  flags = flags_lib.Parser(
      prog='python -m vit_jax.main', description=__doc__, allow_abbrev=False)
  flags.add_argument('--config', metavar='FILE[:ARG=VALUE,...]',
                     help='config file and its arguments; default: the one saved in the workdir')
  flags.add_argument('--config.KEY=VALUE', dest='_', action='store_const', const=None,
                     help='override any leaf of the config, e.g. --config.optimizer.clip_norm=1.0')
  flags.add_argument('--workdir', required=True, help='folder of the run: logs, checkpoints, results')
  flags.add_argument('--evaluate', action='store_true',
                     help='evaluate the checkpoint in the workdir, or config.init_from, and stop')
  flags.add_argument('--distributed', default='auto', metavar='auto|off|HOST:PORT,COUNT,INDEX',
                     help='how several processes find each other; auto: as SLURM, MPI or the TPU pod '
                          'say (default), off: one process')
  flags.add_argument('--connect_seconds', type=flags_lib.number(1), default=300, metavar='N',
                     help='how long the processes of a job wait for each other (default 300)')
  flags.add_argument('--cpu_devices', type=flags_lib.number(0), default=0, metavar='N',
                     help='run on N forced CPU devices, to try a mesh without hardware')
  return flags


def train_stages(config, workdir: str) -> dict:
  """Trains the stages of a config in order, each from the weights of the one before.

  Returns:
    The results of the last stage, with `seconds` of all, and `test_accuracy_before_NAME`.
  """
  import jax
  from vit_jax import config as config_lib, sharding
  from vit_jax.training import loop, workdir as workdir_lib
  workdir_lib.check_free(workdir)
  for stage in config_lib.stages(config):
    mesh = sharding.make_mesh(**stage.mesh)
    with jax.set_mesh(mesh):
      loop.plan(stage, mesh)  # so that the last stage's mistakes show before the first has run
  with workdir_lib.locked(workdir):
    for line in workdir_lib.open_workdir(workdir, config):
      print(line, flush=True)
    return _stages(config, workdir)


def _stages(config, workdir: str) -> dict:
  from vit_jax import config as config_lib
  from vit_jax.training import loop
  results, before, started = {}, {}, time.monotonic()
  for stage in config_lib.stages(config):
    name = stage.name
    if before and not stage.init_from:
      with stage.unlocked():
        stage.init_from = os.path.join(workdir, before['name'])
    print(f'\n--- {name} ---', flush=True)
    results = loop.train(stage, os.path.join(workdir, name))
    if not results['finished']:
      return results
    if before:
      results |= {f'{key}_before_{name}': before[key] for key in (
          'test_accuracy', 'test_precision_at_1') if key in before}
    before = {**results, 'name': name}
  return {**results, 'seconds': round(time.monotonic() - started, 1)}


def conclude(config, workdir: str, results: dict) -> None:
  """Says what was reached, where everything lies, and what to try next; the first process does."""
  import jax
  from vit_jax import files
  if jax.process_index():
    return
  if config.get('stages'):
    files.write_json(os.path.join(workdir, 'results.json'), results)
  if not results['finished']:
    return
  print()
  for key, value in results.items():
    print(f'{key:32} {value}')
  print(f'\nEverything lies in {workdir}: results.json, metrics.jsonl, parameters.txt, '
        'info.json, checkpoints and TensorBoard events')
  if config.explore:
    from vit_jax import explore
    print(f'The picture page is {explore.explore(workdir, count=config.explore)}')
  best = '@best' if results.get('best_step', results['steps']) != results['steps'] else ''
  print(f'Next: python -m vit_jax.predict {workdir}{best} IMAGE_OR_FOLDER... --out=predictions.png')


def run_config(spec: str | None, overrides: dict[str, str], workdir: str, evaluate: bool):
  """Returns the config that the flags name; without `--config`, the one in the workdir."""
  from vit_jax.weights import runs
  from vit_jax import config as config_lib
  if spec:
    return config_lib.load(spec, overrides)
  saved = os.path.join(runs.find(workdir)[0] if evaluate else workdir, 'config.json')
  if not os.path.exists(saved):
    raise errors.UserError(f'--config is needed: the workdir {workdir!r} holds no config.json of a run '
                           'to continue')
  return config_lib.load(saved, overrides)


def evaluate(config, workdir: str) -> None:
  """Prints the measures of the run in the workdir; where it has no checkpoint, of `init_from`."""
  import jax
  from vit_jax.training import evaluate as evaluate_lib
  from vit_jax.weights import runs
  from vit_jax import config as config_lib
  config = config_lib.stages(config)[-1]
  folder = runs.split_best(workdir)[0]
  if any(runs.exists(os.path.join(folder, stage)) for stage in runs.stages(folder)):
    with config.unlocked():
      config.init_from = workdir
  elif not config.init_from:
    runs.find(workdir)  # says what is missing
  measures = evaluate_lib.evaluate(config, folder)
  if jax.process_index() == 0:
    for name, value in measures.items():
      print(f'{name:32} {value}')


def main(argv: list[str] | None = None) -> None:
  """Runs the command line; a UserError tells what the user can mend."""
  argv, overrides = flags_lib.split_overrides(sys.argv[1:] if argv is None else argv)
  flags, unknown = parser().parse_known_args(argv)
  if unknown:
    known = [a for action in parser()._actions for a in action.option_strings]
    raise errors.unknown('flag', unknown[0].split('=')[0], known)
  config = run_config(flags.config, overrides, flags.workdir, flags.evaluate)
  import jax
  from vit_jax.training import checkpoint, loop, processes, workdir as workdir_lib
  from vit_jax import compilation
  workdir_lib.check_path(flags.workdir)
  if flags.cpu_devices:
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', flags.cpu_devices)
  checkpoint.keep_threads_quiet()
  compilation.enable_cache()
  compilation.keep_freed_memory()
  processes.start(flags.distributed, flags.connect_seconds)
  if flags.evaluate:
    evaluate(config, flags.workdir)
  elif config.get('stages'):
    conclude(config, flags.workdir, train_stages(config, flags.workdir))
  else:
    conclude(config, flags.workdir, loop.train(config, flags.workdir))


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax', main)
