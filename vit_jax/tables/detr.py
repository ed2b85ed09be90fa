"""The tables of the DETR paper (End-to-End Object Detection with Transformers, arXiv:2005.12872)."""

from vit_jax.tables.base import Table, run

PAPER = 'Carion et al., End-to-End Object Detection with Transformers, arXiv 2005.12872'

# Models by the words of the tables.
MODELS = {'DETR': 'detr_r50', 'DETR-DC5': 'detr_r50_dc5', 'DETR-R101': 'detr_r101',
          'DETR-DC5-R101': 'detr_r101_dc5'}
MEASURES = {
    'AP': 'test_ap', 'AP50': 'test_ap50', 'AP75': 'test_ap75', 'APS': 'test_ap_small',
    'APM': 'test_ap_medium', 'APL': 'test_ap_large',
    **{f'{quality.upper()}{short}': f'test_{quality}{group}' for quality in ('pq', 'sq', 'rq')
       for short, group in (('', ''), ('th', '_things'), ('st', '_stuff'))}}


def _training(model, slots=91):
  """The backbone starts from torchvision's weights; labels are COCO's ids, as published."""
  backbone = 'resnet101' if 'r101' in model else 'resnet50'
  return f'detr.py:model={model},dataset=coco,id_slots={slots},init_from={backbone}.pth'


def _cell(spec, column):
  """Returns the cell of a run: measured, or a fact of its config."""
  if column in ('dAP', 'dAP50'):  # describes the row: the difference from the last one
    return {}
  if column in MEASURES:
    return run(spec, measure=MEASURES[column])
  return run(spec, measure='') if column == 'FPS' else run(spec, fact=column)


def _table1(row, column):
  if row not in MODELS:
    return dict(quoted=True)
  return _cell(_training(MODELS[row]) + ',epochs=500,drop=400', column)


def _table3(row, column):
  positions = {'none': 'none', 'sine at input': 'sine_input', 'learned at attention': 'learned_attn',
               'decoder only': 'decoder_only', 'baseline': ''}[row]
  return _cell(_training('detr_r50') + f',positions={positions}' * bool(positions), column)


def _table4(row, column):
  without = {'class + l1': ',giou=false', 'class + GIoU': ',l1=false', 'class + l1 + GIoU': ''}[row]
  return _cell(_training('detr_r50') + without, column)


def _table5(row, column):
  if row not in MODELS:
    return dict(quoted=True)
  model = MODELS[row] + '_panoptic'
  spec = (f'detr.py:model={model},dataset=coco,id_slots=250,epochs=25,drop=15,'
          f'frozen=runs/{model}_coco')
  return run(spec, measure='test_mask_ap') if column == 'AP' else _cell(spec, column)


TABLES = (
    Table('detr_table1', PAPER, 'COCO val detection', 'AP',
          ('GFLOPs', 'FPS', 'params_M', 'AP', 'AP50', 'AP75', 'APS', 'APM', 'APL'), {
              'Faster RCNN-DC5': (320, 16, 166, 39.0, 60.5, 42.3, 21.4, 43.5, 52.5),
              'Faster RCNN-FPN': (180, 26, 42, 40.2, 61.0, 43.8, 24.2, 43.5, 52.0),
              'Faster RCNN-R101-FPN': (246, 20, 60, 42.0, 62.5, 45.9, 25.2, 45.6, 54.6),
              'Faster RCNN-DC5+': (320, 16, 166, 41.1, 61.4, 44.3, 22.9, 45.9, 55.0),
              'Faster RCNN-FPN+': (180, 26, 42, 42.0, 62.1, 45.5, 26.6, 45.4, 53.4),
              'Faster RCNN-R101-FPN+': (246, 20, 60, 44.0, 63.9, 47.8, 27.2, 48.1, 56.0),
              'DETR': (86, 28, 41, 42.0, 62.4, 44.2, 20.5, 45.8, 61.1),
              'DETR-DC5': (187, 12, 41, 43.3, 63.1, 45.9, 22.5, 47.3, 61.1),
              'DETR-R101': (152, 20, 60, 43.5, 63.8, 46.4, 21.9, 48.0, 61.8),
              'DETR-DC5-R101': (253, 10, 60, 44.9, 64.7, 47.7, 23.7, 49.5, 62.3)}, _table1,
          notes='+ : generalized IoU, random crops, long schedule'),
    Table('detr_table3', PAPER, 'Positional encodings', 'AP, AP50 with the difference from the last row',
          ('encoder spatial', 'decoder spatial', 'decoder output', 'AP', 'dAP', 'AP50', 'dAP50'), {
              'none': ('none', 'none', 'learned at input', 32.8, -7.8, 55.2, -6.5),
              'sine at input': ('sine at input', 'sine at input', 'learned at input', 39.2, -1.4, 60.0,
                                -1.6),
              'learned at attention': ('learned at attn', 'learned at attn', 'learned at attn', 39.6,
                                       -1.0, 60.7, -0.9),
              'decoder only': ('none', 'sine at attn', 'learned at attn', 39.3, -1.3, 60.3, -1.4),
              'baseline': ('sine at attn', 'sine at attn', 'learned at attn', 40.6, 0, 61.6, 0)},
          _table3, notes='learned embeddings are shared between all layers'),
    Table('detr_table4', PAPER, 'Loss components', 'AP',
          ('class', 'l1', 'giou', 'AP', 'dAP', 'AP50', 'dAP50', 'APS', 'APM', 'APL'), {
              'class + l1': (True, True, False, 35.8, -4.8, 57.3, -4.4, 13.7, 39.8, 57.9),
              'class + GIoU': (True, False, True, 39.9, -0.7, 61.6, 0, 19.9, 43.2, 57.9),
              'class + l1 + GIoU': (True, True, True, 40.6, 0, 61.6, 0, 19.9, 44.3, 60.2)}, _table4),
    Table('detr_table5', PAPER, 'COCO val panoptic', 'PQ',
          ('backbone', 'PQ', 'SQ', 'RQ', 'PQth', 'SQth', 'RQth', 'PQst', 'SQst', 'RQst', 'AP'), {
              'PanopticFPN++ R50': ('R50', 42.4, 79.3, 51.6, 49.2, 82.4, 58.8, 32.3, 74.8, 40.6, 37.7),
              'UPSNet R50': ('R50', 42.5, 78.0, 52.5, 48.6, 79.4, 59.6, 33.4, 75.9, 41.7, 34.3),
              'UPSNet-M R50': ('R50', 43.0, 79.1, 52.8, 48.9, 79.7, 59.7, 34.1, 78.2, 42.3, 34.3),
              'PanopticFPN++ R101': ('R101', 44.1, 79.5, 53.3, 51.0, 83.2, 60.6, 33.6, 74.0, 42.1, 39.7),
              'DETR': ('R50', 43.4, 79.3, 53.8, 48.2, 79.8, 59.5, 36.3, 78.5, 45.3, 31.1),
              'DETR-DC5': ('R50', 44.6, 79.8, 55.0, 49.4, 80.5, 60.6, 37.3, 78.7, 46.5, 31.9),
              'DETR-R101': ('R101', 45.1, 79.9, 55.5, 50.5, 80.9, 61.7, 37.0, 78.5, 46.0, 33.0)},
          _table5),
)
