"""The tables of the ViT paper (An image is worth 16x16 words, arXiv:2010.11929)."""

from vit_jax.data.sources import vtab
from vit_jax.tables.base import Table, run

PAPER = 'Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv 2010.11929'

MODELS = {'ViT-B/16': 'vit_b16', 'ViT-B/32': 'vit_b32', 'ViT-L/16': 'vit_l16', 'ViT-L/32': 'vit_l32',
          'ViT-H/14': 'vit_h14'}
DATASETS = {'CIFAR-10': 'cifar10', 'CIFAR-100': 'cifar100', 'ImageNet': 'imagenet2012',
            'ImageNet ReaL': 'imagenet2012', 'Oxford-IIIT Pets': 'oxford_iiit_pet',
            'Oxford Flowers-102': 'oxford_flowers102'}
PRETRAINED = {'ImageNet': 'imagenet1k', 'ImageNet-21k': 'imagenet21k', 'JFT-300M': 'jft', 'JFT': 'jft'}


def finetune(model: str, pretrained: str, dataset: str, extra: str = '') -> dict:
  """Returns the cell of a fine-tuning run; of ImageNet, ReaL is measured in the same run."""
  spec = f'vit_finetune.py:model={model},pretrained={pretrained},dataset={DATASETS[dataset]}{extra}'
  if DATASETS[dataset] == 'imagenet2012':
    spec += ',real=real.json'
  real = dict(measure='test_real_accuracy') if dataset == 'ImageNet ReaL' else {}
  return run(spec, **real)


def _table1(row, column):
  model = {'ViT-Base': 'vit_b16', 'ViT-Large': 'vit_l16', 'ViT-Huge': 'vit_h14'}[row]
  return run(f'vit_pretrain.py:model={model},dataset=imagenet2012', fact=column)  # without hidden layer


def _table2(row, column):
  upstream = {'ViT-H/14 JFT': ('vit_h14', 'jft', 518), 'ViT-L/16 JFT': ('vit_l16', 'jft', 512),
              'ViT-L/16 I21k': ('vit_l16', 'imagenet21k', 512)}
  if column not in upstream:
    return dict(quoted=True)
  model, pretrained, resolution = upstream[column]
  if row == 'TPUv3-core-days':
    return run(f'vit_pretrain.py:model={model},data={pretrained}', measure='')
  if row == 'VTAB (19 tasks)':
    return dict(configs=tuple((
        f'vit_finetune.py:model={model},pretrained={pretrained},dataset=vtab/{task}',)
        for task in vtab.TASKS))
  extra = f',resolution={resolution},ema=.9999' if row.startswith('ImageNet') else ''
  return finetune(model, pretrained, row, extra)


def _table5(row, column):
  pretrained, dataset = row.split(' -> ')
  return finetune(MODELS[column], PRETRAINED[pretrained], dataset)


def _table7(row, column):
  model = {'R50': 'bit_r50x1', 'R152x2': 'bit_r152x2'}[column.split()[0]]
  pretrained = {'Adam': 'jft', 'SGD': 'jft_sgd'}[column.split()[1]]
  if row == 'Average':
    return dict(configs=tuple(_table7(name, column)['configs'][0] for name in TABLE7 if name != row))
  same = f'model={model},pretrained={pretrained},dataset={DATASETS[row]}'
  return run(f'vit_finetune.py:{same}', f'bit_finetune.py:{same}')


TABLE7 = {
    'ImageNet': (77.54, 78.24, 84.97, 84.37),
    'CIFAR-10': (97.67, 97.46, 99.06, 99.07),
    'CIFAR-100': (86.07, 85.17, 92.05, 91.06),
    'Oxford-IIIT Pets': (91.11, 91.0, 95.37, 94.79),
    'Oxford Flowers-102': (94.26, 92.06, 98.62, 99.32),
    'Average': (89.33, 88.79, 94.01, 93.72)}

TABLES = (
    Table('vit_table1', PAPER, 'Model variants', 'layers, hidden size, MLP size, heads, parameters',
          ('layers', 'hidden', 'mlp', 'heads', 'params_M'), {
              'ViT-Base': (12, 768, 3072, 12, 86),
              'ViT-Large': (24, 1024, 4096, 16, 307),
              'ViT-Huge': (32, 1280, 5120, 16, 632)}, _table1),
    Table('vit_table2', PAPER,
          'Comparison with the state of the art; mean ± standard deviation of three fine-tuning runs',
          'top-1 %, last row TPUv3-core-days',
          ('ViT-H/14 JFT', 'ViT-L/16 JFT', 'ViT-L/16 I21k', 'BiT-L R152x4',
           'Noisy Student EfficientNet-L2'), {
              'ImageNet': ((88.55, 0.04), (87.76, 0.03), (85.3, 0.02), (87.54, 0.02), '88.4/88.5'),
              'ImageNet ReaL': ((90.72, 0.05), (90.54, 0.03), (88.62, 0.05), 90.54, 90.55),
              'CIFAR-10': ((99.5, 0.06), (99.42, 0.03), (99.15, 0.03), (99.37, 0.06), None),
              'CIFAR-100': ((94.55, 0.04), (93.9, 0.05), (93.25, 0.05), (93.51, 0.08), None),
              'Oxford-IIIT Pets': ((97.56, 0.03), (97.32, 0.11), (94.67, 0.15), (96.62, 0.23), None),
              'Oxford Flowers-102': ((99.68, 0.02), (99.74, 0.0), (99.61, 0.02), (99.63, 0.03), None),
              'VTAB (19 tasks)': ((77.63, 0.23), (76.28, 0.46), (72.72, 0.21), (76.29, 1.7), None),
              'TPUv3-core-days': (2500, 680, 230, 9900, 12300)}, _table2,
          notes='ImageNet column: Polyak averaging and 512 px (H/14: 518); columns 4 and 5 are quoted '
          'from others'),
    Table('vit_table5', PAPER, 'Transfer from ImageNet, ImageNet-21k, JFT-300M; fine-tuned at 384',
          'top-1 %', tuple(MODELS), {
              'ImageNet -> CIFAR-10': (98.13, 97.77, 97.86, 97.94, None),
              'ImageNet -> CIFAR-100': (87.13, 86.31, 86.35, 87.07, None),
              'ImageNet -> ImageNet': (77.91, 73.38, 76.53, 71.16, None),
              'ImageNet -> ImageNet ReaL': (83.57, 79.56, 82.19, 77.83, None),
              'ImageNet -> Oxford Flowers-102': (89.49, 85.43, 89.66, 86.36, None),
              'ImageNet -> Oxford-IIIT Pets': (93.81, 92.04, 93.64, 91.35, None),
              'ImageNet-21k -> CIFAR-10': (98.95, 98.79, 99.16, 99.13, 99.27),
              'ImageNet-21k -> CIFAR-100': (91.67, 91.97, 93.44, 93.04, 93.82),
              'ImageNet-21k -> ImageNet': (83.97, 81.28, 85.15, 80.99, 85.13),
              'ImageNet-21k -> ImageNet ReaL': (88.35, 86.63, 88.4, 85.65, 88.7),
              'ImageNet-21k -> Oxford Flowers-102': (99.38, 99.11, 99.61, 99.19, 99.51),
              'ImageNet-21k -> Oxford-IIIT Pets': (94.43, 93.02, 94.73, 93.09, 94.82),
              'JFT-300M -> CIFAR-10': (99.0, 98.61, 99.38, 99.19, 99.5),
              'JFT-300M -> CIFAR-100': (91.87, 90.49, 94.04, 92.52, 94.55),
              'JFT-300M -> ImageNet': (84.15, 80.73, 87.12, 84.37, 88.04),
              'JFT-300M -> ImageNet ReaL': (88.85, 86.27, 89.99, 88.28, 90.33),
              'JFT-300M -> Oxford Flowers-102': (99.56, 99.27, 99.56, 99.45, 99.68),
              'JFT-300M -> Oxford-IIIT Pets': (95.8, 93.4, 97.11, 95.83, 97.56)}, _table5,
          notes='no Polyak averaging, no 512 px'),
    Table('vit_table7', PAPER, 'Fine-tuning ResNets pre-trained (JFT) with Adam and SGD', 'top-1 %',
          ('R50 Adam', 'R50 SGD', 'R152x2 Adam', 'R152x2 SGD'), TABLE7, _table7),
    Table('vit_datasets', PAPER, 'Pre-training data', 'classes, images', ('classes', 'images'), {
        'ImageNet': ('1k', '1.3M'), 'ImageNet-21k': ('21k', '14M'), 'JFT': ('18k', '303M')},
          lambda row, column: run(f'vit_pretrain.py:model=vit_b16,data={PRETRAINED[row]}', fact=column)),
)
