"""The table of ConvNeXt on ImageNet (A ConvNet for the 2020s, arXiv:2201.03545, table 1)."""

from vit_jax.tables.base import Table, run

PAPER = 'Liu et al., A ConvNet for the 2020s, arXiv 2201.03545'
COLUMNS = ('params_M', 'GFLOPs', 'top1')
METRIC = 'parameters M, multiply-adds G, top-1 %'


def _model(row):
  return 'convnext_' + row.split()[0].removeprefix('ConvNeXt-').lower()


def _cell(spec, column):
  return run(spec, **({} if column == 'top1' else dict(fact=column)))


def _scratch(row, column):
  recipe = f',recipe=enlarge,init_from=runs/{_model(row)}_imagenet1k' if '384' in row else ''
  return _cell(f'convnext.py:model={_model(row)},data=imagenet1k{recipe}', column)


def _transferred(row, column):
  larger = ',resolution=384' if '384' in row else ''
  return _cell(f'convnext.py:model={_model(row)},data=imagenet1k,recipe=transfer{larger}', column)


TABLES = (
    Table('convnext_imagenet1k', PAPER, 'ImageNet-1k', METRIC, COLUMNS, {
        'ConvNeXt-T': (29, 4.5, 82.1),
        'ConvNeXt-S': (50, 8.7, 83.1),
        'ConvNeXt-B': (89, 15.4, 83.8),
        'ConvNeXt-B 384': (89, 45.0, 85.1),
        'ConvNeXt-L': (198, 34.4, 84.3),
        'ConvNeXt-L 384': (198, 101.0, 85.5)}, _scratch),
    Table('convnext_imagenet22k', PAPER, 'Pre-trained on ImageNet-22k', METRIC, COLUMNS, {
        'ConvNeXt-B': (89, 15.4, 85.8),
        'ConvNeXt-B 384': (89, 45.1, 86.8),
        'ConvNeXt-L': (198, 34.4, 86.6),
        'ConvNeXt-L 384': (198, 101.0, 87.5),
        'ConvNeXt-XL': (350, 60.9, 87.0),
        'ConvNeXt-XL 384': (350, 179.0, 87.8)}, _transferred),
)
