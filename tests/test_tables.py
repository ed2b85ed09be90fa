"""Published tables: as printed, and each of the papers' own cells is a config that holds together."""

import functools
import glob
import json
import os

import jax
import numpy as np
import pytest

from detr_jax import models as detectors
from detr_jax.models import pixels as segmenters
from tests.conftest import ROOT
from vit_jax import config, models, tables
from vit_jax.training import loop
from vit_jax.errors import UserError
from vit_jax.data.sources import vtab
from vit_jax.tables import __main__ as cli, commands, plan, runs, segmenter as segmenter_tables

CONFIGS = os.path.join(ROOT, 'configs')
CELLS = [row for table in tables.TABLES.values() for row in table.rows]
OWN = [row for row in CELLS if row.configs]

# What words of a row or a column say of its config.
WORDS = {
    'ViT-B/16': 'model=vit_b16', 'ViT-B/32': 'model=vit_b32', 'ViT-L/16': 'model=vit_l16',
    'ViT-L/32': 'model=vit_l32', 'ViT-H/14': 'model=vit_h14', 'R50 ': 'model=bit_r50x1',
    'R152x2 ': 'model=bit_r152x2', 'ImageNet ->': 'pretrained=imagenet1k',
    'ImageNet-21k ->': 'pretrained=imagenet21k', 'JFT-300M ->': 'pretrained=jft', 'I21k': 'imagenet21k',
    'H/14 JFT': '=jft', 'L/16 JFT': '=jft', ' Adam |': 'pretrained=jft,', ' SGD |': 'pretrained=jft_sgd',
    'CIFAR-100': 'dataset=cifar100', 'Pets': 'dataset=oxford_iiit_pet', '-> ImageNet': 'imagenet2012',
    'Flowers': 'dataset=oxford_flowers102', 'VTAB': 'dataset=vtab/', 'Ti 224': 'model=deit_ti16',
    'S 224': 'model=deit_s16', 'B 224': 'model=deit_b16', '^384': 'recipe=finetune',
    'usual distillation': 'distillation=soft', 'hard distillation': 'distillation=hard',
    'distilled: ': '_distilled,data=imagenet1k,distillation=hard',
    'no distillation': 'deit.py:model=deit_',
    'DETR': 'detr_r', 'DC5': '_dc5', 'R101': '_r101', 'sine at input': 'positions=sine_input',
    'learned at attention': 'positions=learned_attn', 'decoder only': 'positions=decoder_only',
    'class + l1 |': 'giou=false', 'class + GIoU': 'l1=false'}

# Classes and training images; epochs and peak rate on JFT-300M (ViT paper, table 3).
DATA = {
    'imagenet1k': (1_000, 1_281_167), 'imagenet21k': (21_843, 14_145_922), 'jft': (18_291, 303_000_000),
    'cifar10': (10, 50_000), 'cifar100': (100, 50_000), 'imagenet2012': (1_000, 1_281_167),
    'oxford_iiit_pet': (37, 3_680), 'oxford_flowers102': (102, 1_020)}
JFT = {'vit_b16': (7, 8e-4), 'vit_b32': (7, 8e-4), 'vit_l16': (14, 4e-4), 'vit_l32': (7, 6e-4),
       'vit_h14': (14, 3e-4), 'bit_r50x1': (7, 1e-3), 'bit_r152x2': (7, 6e-4)}


def pretraining(model, data='', **_):
  epochs, peak = {'': (300, 3e-3), 'imagenet1k': (300, 3e-3), 'imagenet21k': (90, 1e-3)
                  }.get(data) or JFT[model]
  return dict(size=224, data=data or 'imagenet1k', epochs=epochs, batch=4096, warmup=10_000, peak=peak,
              hidden=bool(data) and 'vit' in model, end=0. if peak == 3e-3 else 1e-5)


def sgd_pretraining(data, **_):
  """BiT's on JFT, in the ViT paper's 7 epochs; .03 per 256 images."""
  return dict(size=224, data=data, epochs=7, batch=4096, warmup=5_000, peak=.48, end=0.)


def finetuning(model, dataset, resolution=0, **_):
  """The ViT paper's table 4; a patch of 14 pixels goes 27 times into 384."""
  small, of_vtab = dataset.startswith('oxford'), dataset.startswith('vtab')
  steps = 500 if small else 2_500 if of_vtab else 20_000 if dataset == 'imagenet2012' else 10_000
  return dict(size=int(resolution) or (378 if model == 'vit_h14' else 384), data=dataset, steps=steps,
              batch=512, warmup=100 if small else 500, peak=.01 if of_vtab else .03, end=0.)


def hyper_rule(dataset, **_):
  """BiT's rule: by the number of training images, and by their size."""
  steps, warmup = {'imagenet2012': (20_000, 500), 'cifar10': (10_000, 500), 'cifar100': (10_000, 500)
                   }.get(dataset, (500, 100))
  return dict(size=128 if dataset.startswith('cifar') else 480, data=dataset, steps=steps, batch=512,
              warmup=warmup, peak=.003, end=.003 * .001)


def deit(recipe='deit', epochs=0, **_):
  """DeiT's table 9, and its fine-tuning at 384."""
  longer = int(epochs)
  batch, epochs, warmup, peak, end = {
      'deit': (1024, 300, 5, 1e-3, 1e-5), 'vit': (4096, 300, 3.4, 3e-3, 0.),
      'finetune': (512, 30, 5, 5e-6, 5e-6)}[recipe]
  return dict(size=384 if recipe == 'finetune' else 224, data='imagenet1k', epochs=longer or epochs,
              batch=batch,
              warmup=0, warmup_epochs=warmup, peak=peak, end=end)


def nat(model, recipe='', **_):
  """NAT's and DiNAT's configs/*.yml."""
  if recipe:
    return dict(size=384 if '384' in model else 224, data='imagenet1k', epochs=30, batch=512,
                warmup=0, warmup_epochs=0, peak=5e-5, end=0.)
  return dict(size=224, data='imagenet1k', epochs=310, batch=1024, warmup=0, warmup_epochs=20, peak=1e-3,
              end=5e-6)


def convnext(recipe='scratch', model='', resolution=0, **_):
  """ConvNeXt's README and TRAINING.md, and table 5 of the paper."""
  if recipe == 'scratch':
    return dict(size=224, data='imagenet1k', epochs=300, batch=4096, warmup=0, warmup_epochs=20,
                peak=4e-3, end=1e-6)
  return dict(size=384 if recipe == 'enlarge' else int(resolution) or 224, data='imagenet1k', epochs=30,
              batch=512, warmup=0, warmup_epochs=0, peak=5e-5, end=1e-6)


def swin(model, recipe='scratch', **_):
  """Swin's configs/swin/*.yaml."""
  size, rest = 384 if '384' in model else 224, dict(data='imagenet1k', warmup=0)
  if recipe == 'scratch':
    return dict(rest, size=size, epochs=300, batch=1024, warmup_epochs=20, peak=1e-3, end=1e-5)
  return dict(rest, size=size, epochs=30, batch=1024, warmup_epochs=5, peak=4e-5, end=4e-7)


IMPLIED = {'vit_pretrain.py': pretraining, 'bit_pretrain.py': sgd_pretraining,
           'vit_finetune.py': finetuning, 'nat.py': nat, 'convnext.py': convnext,
           'swin.py': swin, 'bit_finetune.py': hyper_rule, 'deit.py': deit}


def parameters(name, size, classes, hidden):
  """Returns the count that the variant's published one at 224 pixels and 1,000 classes implies."""
  variant = models.variant(name)
  if 'patch_size' not in variant.arguments:
    last = dict(BiT=lambda of: 32 * of['width'], NAT=lambda of: 8 * of['width'],
                Swin=lambda of: 8 * of['width'],
                ConvNeXt=lambda of: of['widths'][-1])[variant.module.__name__]
    width, positions = last(variant.arguments), 0
  else:
    width, patch = variant.arguments['width'], variant.arguments['patch_size']
    positions = (size // patch) ** 2 - (224 // patch) ** 2
  return (variant.parameters + positions * width + (classes - 1_000) * (width + 1)
          + hidden * width * (width + 1))


def multiply_adds(name, size, hidden):
  """Returns the closed form of a ViT with one class; a distillation token has a head of its own."""
  fields = models.variant(name).arguments
  d, m, patches = fields['width'], fields['mlp_dim'], (size // fields['patch_size']) ** 2
  tokens = 1 + fields.get('distillation_token', False)
  n = patches + tokens
  return (patches * fields['patch_size'] ** 2 * 3 * d + tokens * d + hidden * d * d
          + fields['depth'] * (n * (4 * d * d + 2 * d * m) + 2 * n * n * d))


# What the authors keep fixed, of the first convolution and stage; the mask head, for 250 classes.
FIXED, MASK_HEAD = 41_524_768 - 41_302_368, 42_899_288 - (41_524_768 + (250 - 91) * 257)
AFFINE = dict(r50=53_120, r101=105_344)  # scales and biases of frozen norms, no parameters of theirs


def check_detector(got, model, id_slots, epochs=300, drop=200, frozen='', positions='', l1='', giou='',
                   **_):
  """Compares a detector's config with the paper's section 4 and appendix A.4."""
  c, variant, panoptic = got.config, detectors.variant(model), model.endswith('panoptic')
  assert int(id_slots) == got.info.num_classes == variant.arguments['num_classes']
  assert (got.info.image_size, got.info.num_train, c.data.batch_size) == ((800, 1066), 118_287, 64)
  assert got.parameters == (variant.parameters - MASK_HEAD * (panoptic and not frozen)
                            + 2 * 50 * 128 * (positions == 'learned_attn'))
  fixed = FIXED + AFFINE[model.split('_')[1]]
  assert got.learned == (MASK_HEAD if frozen else got.parameters - fixed)
  step = lambda epoch: round(int(epoch) * 118_287 / 64)
  assert got.steps == step(epochs)
  rates = [got.schedule(at) for at in (0, step(drop) - 1, step(drop), got.steps - 1)]
  np.testing.assert_allclose(rates, [1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-6)
  opt = c.optimizer
  assert (opt.name, opt.weight_decay, opt.decay, opt.clip_norm) == ('adamw', 1e-4, 'all', .1)
  assert opt.get('rate_factors') == (None if frozen else (('backbone/.*', .1),))
  coefficients = 5. * (l1 != 'false'), 2. * (giou != 'false')
  assert (c.task.bbox_coef, c.task.giou_coef) == (c.task.cost_bbox, c.task.cost_giou) == coefficients
  assert (c.data.panoptic, c.data.masks) == (panoptic, bool(frozen))


def check_segmenter(got, kind, model, data='', examples=0, resolution=0, multiscale=None):
  """Compares a segmenter's config with Segmenter's, Swin's UperNet's and mmsegmentation's, as coded."""
  c, variant = got.config, segmenters.variant(model)
  side = int(resolution) or (640 if model in ('upernet_swin_b', 'upernet_swin_l') else 512)
  positions = 0 if kind != 'segmenter' else (side ** 2 - 512 ** 2) // got.model.trunk().kernel[0] ** 2
  width = getattr(got.model.trunk(), 'width', 0)
  assert got.parameters == variant.parameters + positions * width
  assert (got.info.num_classes, got.info.image_size) == (150, (side, side)) and c.data.zero_ignored
  assert got.info.num_train == (int(examples) or 20_210)
  batch, peak = dict(segmenter=(8, 1e-3), upernet=(16, 6e-5)).get(
      kind, (16, 1e-3 if model.startswith('setr') else 1e-2))
  assert c.data.batch_size == batch
  assert got.steps == (160_000 if kind != 'segmenter' else round(64 * got.info.num_train / 8))
  assert got.rates[1] == pytest.approx(peak, rel=.02)
  assert c.data.inference.flip == (multiscale is not None) and len(c.data.inference.scales) == (
      6 if c.data.inference.flip else 0)


@functools.cache
def planned(spec):
  return plan.make(plan.load(spec, CONFIGS))


@functools.cache
def check(spec):
  """Compares a config, built without any array, with what its paper implies."""
  got, args = planned(spec), commands.arguments(spec)
  if spec.startswith('detr.py'):
    return check_detector(got, **args)
  if spec.startswith(('segmenter.py', 'upernet.py', 'segmentation_baselines.py')):
    return check_segmenter(got, spec.partition('.')[0], **args)
  want = IMPLIED[spec.partition(':')[0]](**args)
  name, size, hidden = args['model'], want['size'], want.get('hidden', False)
  classes, images = DATA.get(want['data']) or (vtab.task(want['data'][5:]).num_classes, 1_000)
  assert (got.info.num_classes, got.info.num_train) == (classes, images)
  assert got.info.image_size == (size, size) and got.config.data.batch_size == want['batch']
  assert got.parameters == parameters(name, size, classes, hidden)
  if 'patch_size' not in models.variant(name).arguments:
    assert got.grid is None and got.multiply_adds > 1e9
  else:
    patch = models.variant(name).arguments['patch_size']
    assert got.grid == (size // patch, size // patch)
    assert got.multiply_adds == multiply_adds(name, size, hidden)
  assert got.steps == (want.get('steps') or round(want['epochs'] * images / want['batch']))
  warmup = want['warmup'] or round(want['warmup_epochs'] * images / want['batch'])
  epoch = images / want['batch']
  during, after = np.linspace(0, warmup, 500), np.linspace(warmup, warmup + 3 * epoch, 500)
  rates = np.asarray(jax.vmap(got.schedule)(np.round([*during[:-1], *after, got.steps])))
  assert (rates[0] <= 1e-6 or not warmup) and (np.diff(rates[:499]) >= 0.).all()
  np.testing.assert_allclose([rates.max(), rates[-1]], [want['peak'], want['end']], rtol=5e-3, atol=1e-9)


@pytest.mark.parametrize('row', OWN, ids=lambda r: f'{r.table}-{r.row}-{r.column}')
def test_every_own_row_is_a_config_that_does_what_its_paper_says(row):
  """It resolves, builds, and has the parameters, patches, steps, rates and multiply-adds."""
  for spec in (spec for alternatives in row.configs for spec in alternatives):
    for word, said in WORDS.items():
      assert word not in f'{row.row} | {row.column} |' or said in spec, (word, spec)
    check(spec)
    above = commands.upstream(spec)
    if above:
      check(above)
      place = commands.workdir(above, planned(above).config)
      assert planned(spec).config.init_from == place  # where the weights are looked for
  if row.fact:
    printed, got = row.published, plan.fact(planned(row.configs[0][0]), row.fact)
    assert SAYS.get(row.fact, lambda got: got)(got) == printed or (
        row.fact == 'params_M' and abs(got - printed) < 1.) or abs(got / printed - 1.) < ABOUT[row.fact]


# Papers round, down or up, and leave heads out or in; DETR's multiply-adds are a mean over images of
# many sizes.
ABOUT = dict(params_M=.01, GFLOPs=.1)

# How a table prints what a config implies.
SAYS = {
    'classes': lambda n: f'{n // 1_000}k', 'images': lambda n: {
        1_281_167: '1.3M', 14_197_122: '14M', 303_000_000: '303M'}[n],
    'optimizer': {'adamw': 'AdamW'}.get,
    'learning rate': lambda peak: {3e-3: .003, 1e-3: '0.0005 * batch / 512'}[round(peak, 9)]}


def test_what_table_9_leaves_empty_is_off():
  table = tables.table('deit_table9')
  for row, values in table.values.items():
    for column, value in zip(table.columns, values):
      if value is None:
        spec = table.cell(row, column)['configs'][0][0]
        assert plan.fact(planned(spec), row) is None, (row, column)


def test_the_tables_are_as_printed(shared):
  with open(shared('facts/tables.json')) as file:
    printed = {t['id']: t for t in json.load(file)['tables']
               if t['id'].startswith(('vit', 'bit', 'deit', 'detr'))}
  others = ('nat', 'dinat', 'convnext', 'swin', 'segmenter')  # of README files, or below
  assert list(printed) == [name for name in tables.TABLES if not name.startswith(others)]
  for name, want in printed.items():
    got = tables.table(name)
    assert (got.paper, got.title, got.metric, got.notes, list(got.columns)) == (
        want['paper'], want['title'], want['metric'], want.get('notes', ''), want['columns'])
    assert [(row, list(values)) for row, values in got.values.items()] == [
        (row['name'], [tuple(v) if isinstance(v, list) else v for v in row['values']])
        for row in want['rows']]
    for row in want['rows']:
      cells = [r for r in got.rows if r.row == row['name'] and r.published is not None]
      own = {'cols 1-3': got.columns[:3]}.get(row['own'], got.columns if row['own'] is True else ())
      assert all(r.quoted == (r.column not in own) for r in cells), row


@pytest.mark.parametrize('name', [t.name for t in segmenter_tables.TABLES])
def test_the_tables_of_segmentation_are_as_printed(name, shared):
  with open(shared('facts/tables.json')) as file:
    want = {t['id']: t for t in json.load(file)['tables']}[name]
  got = tables.table(name)
  assert (got.paper, got.title, got.metric, list(got.columns)) == (
      want['paper'], want['title'], want['metric'], want['columns'])
  assert [list(values) for values in got.values.values()] == [row['values'] for row in want['rows']]
  for row, printed in zip(got.values, want['rows']):
    assert row.startswith(printed['name'])
    cells = [r for r in got.rows if r.row == row and r.published is not None]
    assert all(r.quoted == (printed['own'] is False) for r in cells), row


@pytest.mark.parametrize('name', ['swin_table1a', 'swin_table1b'])
def test_swins_tables_are_as_printed(name, shared):
  with open(shared('facts/tables.json')) as file:
    want = {t['id']: t for t in json.load(file)['tables']}[name]
  got = tables.table(name)
  assert (got.title, list(got.columns)) == (want['title'], want['columns'])
  assert [(row.split()[0], list(values)) for row, values in got.values.items()] == [
      (row['name'], row['values']) for row in want['rows']]
  for (row, _), printed in zip(got.values.items(), want['rows']):
    cells = [r for r in got.rows if r.row == row and r.published is not None]
    assert all(r.quoted == (printed['own'] is not True) for r in cells), row
    assert all(r.configs for r in cells if printed['own'] is True), row


def test_what_is_not_own_says_why():
  for row in CELLS:
    described = (row.table, row.column) in {
        ('deit_distillation', 'label'), ('deit_distillation', 'teacher'), ('detr_table3', 'dAP'),
        ('detr_table3', 'dAP50'), ('detr_table4', 'dAP'), ('detr_table4', 'dAP50')} or (
            'segmenter' in row.table and row.column in segmenter_tables.DESCRIBED) or (
                row.table == 'swin_table3' and (row.column == 'backbone' or row.row == 'UperNet DeiT-S'))
    assert row.configs or row.quoted or described or row.published is None, row
    assert not (row.configs and row.quoted) or row.table.startswith(
        ('swin', 'segmenter_table6'))  # 'runs here', below


@pytest.mark.parametrize('name', ['detr_table3', 'detr_table4'])
def test_differences_are_those_of_the_printed_values(name):
  rows = [dict(zip(tables.table(name).columns, values)) for values in tables.table(name).values.values()]
  for row in rows:
    for column in ('AP', 'AP50'):  # which were rounded afterwards
      assert row[f'd{column}'] == pytest.approx(row[column] - rows[-1][column], abs=.11)


def test_one_distilled_network_is_read_in_three_ways():
  rows = [r for r in CELLS if r.table == 'deit_distillation' and r.row.startswith('distilled')
          and r.configs]
  by_size = {r.column: {s.configs for s in rows if s.column == r.column} for r in rows}
  assert len(rows) == 12 and all(len(configs) == 1 for configs in by_size.values())
  assert {r.measure for r in rows} == {'test_accuracy', 'test_class_accuracy',
                                       'test_distillation_accuracy'}
  for r in rows:
    assert planned(r.configs[0][0]).model.distillation_token


def run_cli(capsys, monkeypatch, *flags):
  monkeypatch.setattr('sys.argv', ['tables', *flags])
  monkeypatch.chdir(ROOT)
  cli.main()
  return capsys.readouterr().out


def test_the_command_line_lists_prints_and_gives_commands(capsys, monkeypatch):
  listed = run_cli(capsys, monkeypatch)
  assert 'vit_table5' in listed and '84 runs' in listed
  shown = run_cli(capsys, monkeypatch, 'vit_table2')
  assert shown.count('  quoted') == 11 and shown.count('not measured') == 21
  assert 'here 304.3' in run_cli(capsys, monkeypatch, 'vit_table1')
  out = run_cli(capsys, monkeypatch, 'vit_table5', '--row=JFT-300M -> CIFAR-10', '--column=ViT-B/16')
  lines = [line for line in out.splitlines() if line.startswith('python')]
  assert len(lines) == 6 and lines[0].endswith('vit_pretrain.py:model=vit_b16,data=jft '
                                               '--workdir=runs/vit_b16_jft')
  assert [line.split('lr=')[1].split()[0] for line in lines[1:]] == [
      '0.001', '0.003', '0.01', '0.03', 'BEST']


def test_a_run_is_told_once_and_its_first_stage_before_it(capsys, monkeypatch):
  out = run_cli(capsys, monkeypatch, 'detr_table5', '--row=DETR-DC5')
  lines = [line for line in out.splitlines() if line.startswith('python')]
  assert [line.split('--workdir=')[1] for line in lines] == [
      'runs/detr_r50_dc5_panoptic_coco', 'runs/detr_r50_dc5_panoptic_coco_masks']
  assert 'init_from=resnet50.pth' in lines[0] and 'frozen=runs/detr_r50_dc5_panoptic_coco ' in lines[1]
  assert '# DETR-DC5, backbone, PQ, SQ' in out
  out = run_cli(capsys, monkeypatch, 'detr_table4', '--row=class + l1')
  assert out.count('python') == 1 and '--workdir=runs/detr_r50_coco_no_giou' in out


def test_runs_of_a_detector_go_to_places_of_their_own():
  specs = {spec for row in OWN if row.table.startswith('detr') for (spec,) in row.configs}
  places = {commands.workdir(spec, planned(spec).config) for spec in specs}
  assert len(specs) == len(places) == 4 + 5 + 2 + 3  # tables 3 and 4 share a row


@pytest.mark.parametrize('flags, said', [
    (['vit_tabel5'], "unknown table 'vit_tabel5'; did you mean 'vit_table5'"),
    (['vit_table7', '--row=CIFAR10'], "unknown row of vit_table7: 'CIFAR10'; did you mean 'CIFAR-10'"),
    (['vit_table7', '--column=R51 SGD'], "did you mean 'R50 SGD'"),
    (['vit_table7', '--runs=nowhere'], "no folder 'nowhere' with runs"),
    (['vit_table7', '--row=CIFAR-10', '--configs=nowhere'], "recipes are not in 'nowhere'")])
def test_mistakes_name_what_is_near(capsys, monkeypatch, flags, said):
  with pytest.raises(UserError, match=said):
    run_cli(capsys, monkeypatch, *flags)


def finished(folder, spec, **results):
  folder.mkdir(parents=True)
  spec, *overrides = spec.split(' ')
  loaded = config.load(os.path.join(CONFIGS, spec), dict(o.split('=') for o in overrides))
  (folder / 'config.json').write_text(json.dumps(config.to_dict(loaded)))
  (folder / 'results.json').write_text(json.dumps(dict(finished=True, **results)))


def test_measured_stands_beside_published(tmp_path, capsys, monkeypatch):
  spec = 'vit_finetune.py:model=vit_b16,pretrained=jft,dataset=cifar10'
  finished(tmp_path / 'a', spec + ' seed=1', test_accuracy=.98)
  finished(tmp_path / 'b', spec + ',lr=.01,init_from=other mesh.fsdp=2', test_accuracy=.99)
  finished(tmp_path / 'heldout', spec + ',heldout', test_accuracy=.5)
  finished(tmp_path / 'other', spec + ',steps=9', test_accuracy=.5)
  finished(tmp_path / 'real', 'vit_finetune.py:model=vit_b16,pretrained=jft,dataset=imagenet2012',
           test_accuracy=.84, test_real_accuracy=.888)
  out = run_cli(capsys, monkeypatch, 'vit_table5', f'--runs={tmp_path}')
  measured = [line for line in out.splitlines() if ' measured ' in line and 'not' not in line]
  assert [line.split('measured ')[1] for line in measured] == [
      '98.50 ± 0.71 (2 runs)', '84.00', '88.80']


def test_a_detector_is_measured_in_shares(tmp_path, capsys, monkeypatch):
  spec = 'detr.py:model=detr_r50,dataset=coco,id_slots=91,l1=false,init_from=elsewhere'
  finished(tmp_path / 'a', spec, test_ap=.4, test_ap_small=.2)
  out = run_cli(capsys, monkeypatch, 'detr_table4', '--row=class + GIoU', f'--runs={tmp_path}')
  measured = [line.split()[3:] for line in out.splitlines() if '  measured ' in line]
  assert measured == [['AP', '39.9', 'measured', '40.00'], ['APS', '19.9', 'measured', '20.00']]


def test_an_average_is_measured_when_all_of_it_is(tmp_path):
  row = next(r for r in tables.table('vit_table7').rows if r.row == 'Average' and r.column == 'R50 SGD')
  keys = {spec: spec for alternatives in row.configs for spec in alternatives}
  found = {spec: [dict(test_accuracy=.9 if spec.startswith('vit') else .8)] for spec in keys}
  assert runs.measured(row, found, keys) == (pytest.approx(90.), None, 1)  # the better of two ways
  for spec in row.configs[0]:
    del found[spec]
  assert runs.measured(row, found, keys) is None


# The quickstarts are run whole: by the test of README.md, and by `make quickstart-detr`.
RECIPES = [path for path in sorted(glob.glob(os.path.join(CONFIGS, '*.py'))) if 'quickstart' not in path]


@pytest.mark.slow
@pytest.mark.parametrize('path', RECIPES, ids=os.path.basename)
def test_every_config_runs_as_smoke(path, tmp_path):
  for i, stage in enumerate(config.stages(config.load(f'{path}:smoke'))):
    with stage.unlocked():
      stage.total_steps, stage.total_epochs, stage.mesh.data = 2, 0., 1
      stage.schedule.warmup_steps = 1
    results = loop.train(stage, str(tmp_path / str(i)))
    assert results['finished'] and results['steps'] == 2
    best = next(name for name in ('test_ap', 'test_miou', 'test_accuracy') if name in results)
    assert 0. <= results[best] <= 1.
