"""The commands that make a row, in their order."""

import os
import runpy

from vit_jax.tables import plan


def arguments(spec: str) -> dict[str, str]:
  """Returns {'model': 'vit_b16', ...} of 'vit_finetune.py:model=vit_b16,...'."""
  return dict(item.partition('=')[::2] for item in spec.partition(':')[2].split(',') if item)


def workdir(spec: str, config) -> str:
  """Returns where a run goes: a fine-tuning run's name, or MODEL_DATA, where others look for it."""
  given = arguments(spec)
  if 'name' in config:
    return os.path.join('runs', '_'.join([config.name, *given.get('resolution', '').split()]))
  if 'frozen' in given:  # the second of two stages
    return given['frozen'] + '_masks'
  data = given.get('data') or given['dataset']
  data = 'jft_sgd' if spec.startswith('bit_pretrain') and data == 'jft' else data
  if given.get('recipe') == 'finetune':
    return given['init_from'] + '_finetune'
  told = ' '.join(given.get(key, '') for key in ('recipe', 'distillation', 'epochs', 'positions'))
  off = [f'no_{key}' for key, value in given.items() if value == 'false']
  return os.path.join('runs', '_'.join([given['model'], data, *told.split(), *off]))


def upstream(spec: str) -> str | None:
  """Returns the config of the run whose weights a row starts from; None for a run from scratch."""
  given = arguments(spec)
  if given.get('recipe') == 'finetune':
    kept = [f'{k}={given[k]}' for k in ('model', 'data', 'distillation', 'teacher') if k in given]
    epochs = given['init_from'].rpartition('_')[2]  # the paper's longer training says how long
    return 'deit.py:' + ','.join(kept + [f'epochs={epochs}'] * epochs.isdigit())
  if 'frozen' in given:
    kept = [f'{key}={given[key]}' for key in ('model', 'dataset', 'id_slots')]
    backbone = 'resnet101' if 'r101' in given['model'] else 'resnet50'
    return 'detr.py:' + ','.join([*kept, f'init_from={backbone}.pth'])
  if 'pretrained' not in given:
    return None
  if given['pretrained'] == 'jft_sgd':
    return f'bit_pretrain.py:model={given["model"]},data=jft'
  return f'vit_pretrain.py:model={given["model"]},data={given["pretrained"]}'


def rates(spec: str, folder: str) -> tuple[float, ...]:
  """Returns the learning rates that the paper tries, as `sweep` of the recipe says; () for none."""
  sweep = runpy.run_path(os.path.join(folder, spec.partition(':')[0])).get('sweep')
  return sweep(spec.partition(':')[2]) if sweep else ()


def lines(spec: str, folder: str) -> list[str]:
  """Returns the commands of one config: what it starts from, the choice of its rate, the run itself.

  Args:
    spec: such as 'vit_finetune.py:model=vit_b16,pretrained=jft,dataset=cifar10'.
    folder: of the recipes.
  """
  config, path = plan.load(spec, folder), os.path.join(folder, spec)
  out = lines(upstream(spec), folder) if upstream(spec) else []
  place = workdir(spec, config)
  tried = rates(spec, folder)
  if len(tried) > 1:
    out += [_main(f'{path},heldout,lr={rate}', f'{place}_heldout_{rate}') for rate in tried]
    out.append('# then, with the best of these rates on the part held out:')
    path += ',lr=BEST'
  return [*out, _main(path, place)]


def _main(config: str, place: str) -> str:
  quoted = f"'{config}'" if any(c in config for c in ' >*') else config
  return f'python -m vit_jax.main --config={quoted} --workdir={place}'
