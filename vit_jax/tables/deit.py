"""The tables of the DeiT paper (Training data-efficient image transformers, arXiv:2012.12877)."""

from vit_jax.tables.base import Table, run

PAPER = 'Touvron et al., Training data-efficient image transformers, arXiv 2012.12877'
TEACHER = 'regnety_16gf.deit_teacher'  # the paper's own


def _training(model, distillation='none'):
  taught = '' if distillation == 'none' else f',distillation={distillation},teacher={TEACHER}'
  return f'deit.py:model={model},data=imagenet1k{taught}'


def _finetuning(model, distillation='none', epochs=''):
  place = '_'.join(['runs/' + model, 'imagenet1k', *[distillation] * (distillation != 'none'),
                    *epochs.split()])
  return f'{_training(model, distillation)},recipe=finetune,init_from={place}'


def _distillation(row, column):
  if column in ('label', 'teacher'):  # describes the row
    return {}
  size, kind = column.split()[0].lower(), row.split()[0]
  token = row.startswith('distilled')
  make = _finetuning if column == 'B ^384' else _training
  head = {'distilled: class embedding': 'test_class_accuracy',
          'distilled: distillation embedding': 'test_distillation_accuracy'}
  return run(make(f'deit_{size}16' + '_distilled' * token,
                  {'no': 'none', 'usual': 'soft'}.get(kind, 'hard')),
             measure=head.get(row, 'test_accuracy'))


def _table9(row, column):
  return run({'ViT-B': 'deit.py:model=vit_b16,data=imagenet1k,recipe=vit',
              'DeiT-B': 'deit.py:model=deit_b16,data=imagenet1k'}[column], fact=row)


def _throughput(row, column):
  if not row.startswith('DeiT'):
    return dict(quoted=True)
  spec = _finetuning('deit_b16')
  if 'distilled' in row:
    spec = _finetuning('deit_b16_distilled', 'hard', '1000' if '1000' in row else '')
  if column == 'params_M':
    return run(spec, fact='params_M')
  return run(spec, **({} if column == 'top1' else dict(measure='')))


TABLES = (
    Table('deit_distillation', PAPER, 'Distillation on ImageNet',
          'top-1 %; columns Ti, S, B at 224 and B fine-tuned at 384; first two values: label used, '
          'teacher',
          ('label', 'teacher', 'Ti 224', 'S 224', 'B 224', 'B ^384'), {
              'no distillation': (True, None, 72.2, 79.8, 81.8, 83.1),
              'usual distillation': (False, 'soft', 72.2, 79.8, 81.8, 83.2),
              'hard distillation': (False, 'hard', 74.3, 80.9, 83.0, 84.0),
              'distilled: class embedding': (True, 'hard', 73.9, 80.9, 83.0, 84.2),
              'distilled: distillation embedding': (True, 'hard', 74.6, 81.1, 83.1, 84.4),
              'distilled: class + distillation': (True, 'hard', 74.5, 81.2, 83.4, 84.5)},
          _distillation, notes='the last three rows are one network read in three ways'),
    Table('deit_table9', PAPER, 'Ingredients and hyper-parameters', '', ('ViT-B', 'DeiT-B'), {
        'epochs': (300, 300),
        'batch size': (4096, 1024),
        'optimizer': ('AdamW', 'AdamW'),
        'learning rate': (0.003, '0.0005 * batch / 512'),
        'learning rate decay': ('cosine', 'cosine'),
        'weight decay': (0.3, 0.05),
        'warm-up epochs': (3.4, 5),
        'label smoothing': (None, 0.1),
        'dropout': (0.1, None),
        'stochastic depth': (None, 0.1),
        'repeated augmentation': (False, True),
        'gradient clipping': (True, False),
        'RandAugment': (None, '9/0.5'),
        'mixup probability': (None, 0.8),
        'cutmix probability': (None, 1.0),
        'erasing probability': (None, 0.25)}, _table9),
    Table('deit_throughput', PAPER, 'Accuracy against throughput',
          'parameters M, images/s (V100), ImageNet top-1 %', ('params_M', 'images_per_s', 'top1'), {
              'EfficientNet-B6': (66, 96.9, 84.0),
              'ViT-B/16': (86, 85.9, 77.9),
              'DeiT-B ^384': (86, 85.9, 83.1),
              'DeiT-B distilled ^384': (87, 85.8, 84.5),
              'DeiT-B distilled ^384, 1000 epochs': (87, 85.8, 85.2)}, _throughput,
          notes='EfficientNet-B6 has 43M parameters in Swin table (a): 66M here is as printed'),
)
