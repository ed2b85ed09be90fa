"""The tables of NAT (arXiv:2204.07143) and DiNAT (arXiv:2209.15001) on ImageNet-1k."""

from vit_jax.tables.base import Table, run

NAT = 'Hassani et al., Neighborhood Attention Transformer, arXiv 2204.07143'
DINAT = 'Hassani and Shi, Dilated Neighborhood Attention Transformer, arXiv 2209.15001'
COLUMNS = ('params_M', 'GFLOPs', 'top1')
TITLE, METRIC = 'ImageNet-1k', 'parameters M, multiply-adds G, top-1 %'


def _cell(row, column):
  model = row.lower().replace('-', '_').replace(', ', '_').replace(' ', '_')
  recipe = ',recipe=transfer' if 'large' in model else ''
  return run(f'nat.py:model={model},data=imagenet1k{recipe}',
             **({} if column == 'top1' else dict(fact=column)))


TABLES = (
    Table('nat_imagenet', NAT, TITLE, METRIC, COLUMNS, {
        'NAT-Mini': (20, 2.7, 81.8),
        'NAT-Tiny': (28, 4.3, 83.2),
        'NAT-Small': (51, 7.8, 83.7),
        'NAT-Base': (90, 13.7, 84.3)}, _cell),
    Table('dinat_imagenet', DINAT, TITLE, METRIC, COLUMNS, {
        'DiNAT-Mini': (20, 2.7, 81.8),
        'DiNAT-Tiny': (28, 4.3, 82.7),
        'DiNAT-Small': (51, 7.8, 83.8),
        'DiNAT-Base': (90, 13.7, 84.4),
        'DiNAT-Large': (200, 30.6, 86.6),
        'DiNAT-Large 384': (200, 89.7, 87.4),
        'DiNAT-Large 384, 11x11': (200, 92.4, 87.5)}, _cell,
          notes="as in the authors' README; Large is pre-trained on ImageNet-22k"),
)
