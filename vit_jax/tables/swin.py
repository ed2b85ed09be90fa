"""The ImageNet tables of the Swin paper (Swin transformer, arXiv:2103.14030, table 1)."""

from vit_jax.tables.base import Table, run

PAPER = 'Liu et al., Swin Transformer, ICCV 2021'
COLUMNS = ('image', 'params_M', 'GFLOPs', 'images_per_s', 'top1')
NOTES = 'image side; parameters M; multiply-adds G; images/s on a V100; quoted rows are those of others'

# What runs here of the rows that the paper quotes.
QUOTED = {
    ('a', 'ViT-B/16'): 'vit_finetune.py:model=vit_b16,pretrained=imagenet1k,dataset=imagenet2012',
    ('a', 'ViT-L/16'): 'vit_finetune.py:model=vit_l16,pretrained=imagenet1k,dataset=imagenet2012',
    ('a', 'DeiT-S'): 'deit.py:model=deit_s16,data=imagenet1k',
    ('a', 'DeiT-B'): 'deit.py:model=deit_b16,data=imagenet1k',
    ('a', 'DeiT-B 384'): 'deit.py:model=deit_b16,data=imagenet1k,recipe=finetune,'
                         'init_from=runs/deit_b16_imagenet1k',
    ('b', 'R-152x4'): 'bit_finetune.py:model=bit_r152x4,pretrained=imagenet21k,dataset=imagenet2012',
    ('b', 'ViT-B/16'): 'vit_finetune.py:model=vit_b16,pretrained=imagenet21k,dataset=imagenet2012',
    ('b', 'ViT-L/16'): 'vit_finetune.py:model=vit_l16,pretrained=imagenet21k,dataset=imagenet2012'}


def _cell(part, recipe):
  def cell(row, column):
    spec = QUOTED.get((part, row))
    quoted = dict(quoted=True) if spec or not row.startswith('Swin') else {}
    if quoted and not spec:
      return quoted
    if not spec:
      model = row.lower().replace('-', '_').replace(' ', '_')
      spec = f'swin.py:model={model},data=imagenet1k' + (recipe(model) and f',recipe={recipe(model)}')
    measured = dict(top1={}, images_per_s=dict(measure='')).get(column, dict(fact=column))
    return {**run(spec, **measured), **quoted}
  return cell


TABLES = (
    Table('swin_table1a', PAPER, '(a) trained on ImageNet-1k', 'top-1 %', COLUMNS, {
        'RegNetY-4G': (224, 21, 4.0, 1156.7, 80.0),
        'RegNetY-8G': (224, 39, 8.0, 591.6, 81.7),
        'RegNetY-16G': (224, 84, 16.0, 334.7, 82.9),
        'EffNet-B3': (300, 12, 1.8, 732.1, 81.6),
        'EffNet-B4': (380, 19, 4.2, 349.4, 82.9),
        'EffNet-B5': (456, 30, 9.9, 169.1, 83.6),
        'EffNet-B6': (528, 43, 19.0, 96.9, 84.0),
        'EffNet-B7': (600, 66, 37.0, 55.1, 84.3),
        'ViT-B/16': (384, 86, 55.4, 85.9, 77.9),
        'ViT-L/16': (384, 307, 190.7, 27.3, 76.5),
        'DeiT-S': (224, 22, 4.6, 940.4, 79.8),
        'DeiT-B': (224, 86, 17.5, 292.3, 81.8),
        'DeiT-B 384': (384, 86, 55.4, 85.9, 83.1),
        'Swin-T': (224, 29, 4.5, 755.2, 81.3),
        'Swin-S': (224, 50, 8.7, 436.9, 83.0),
        'Swin-B': (224, 88, 15.4, 278.1, 83.5),
        'Swin-B 384': (384, 88, 47.0, 84.7, 84.5)},
          _cell('a', lambda model: 'enlarge' if '384' in model else ''), notes=NOTES),
    Table('swin_table1b', PAPER, '(b) pre-trained on ImageNet-22k', 'top-1 %', COLUMNS, {
        'R-101x3': (384, 388, 204.6, None, 84.4),
        'R-152x4': (480, 937, 840.5, None, 85.4),
        'ViT-B/16': (384, 86, 55.4, 85.9, 84.0),
        'ViT-L/16': (384, 307, 190.7, 27.3, 85.2),
        'Swin-B': (224, 88, 15.4, 278.1, 85.2),
        'Swin-B 384': (384, 88, 47.0, 84.7, 86.4),
        'Swin-L 384': (384, 197, 103.9, 42.1, 87.3)}, _cell('b', lambda model: 'transfer'), notes=NOTES),
)
