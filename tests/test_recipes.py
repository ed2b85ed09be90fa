"""Recipes have the numbers of their papers, in every cell, and both of their variants."""

import dataclasses
import os
import re

import numpy as np
import pytest

from detr_jax import models as detectors
from detr_jax.data import transforms
from tests.conftest import ROOT
from vit_jax import config, models, recipes, trees, weights
from vit_jax.models import flops
from vit_jax.optim import optimizers, schedules
from vit_jax.errors import UserError
from vit_jax.data.sources import vtab
from vit_jax.tables import commands, plan

CONFIGS = os.path.join(ROOT, 'configs')


def load(spec):
  return plan.load(spec, CONFIGS)


def augmentation(config) -> dict:
  return {op['name']: {k: v for k, v in op.items() if k != 'name'} for op in config.data.augment}


# The ViT paper's table 3. On JFT-300M: epochs and peak.
JFT = dict(
    vit_b16=(7, 8e-4), vit_b32=(7, 8e-4), vit_l32=(7, 6e-4), vit_l16=(14, 4e-4), vit_h14=(14, 3e-4),
    bit_r50x1=(7, 1e-3), bit_r101x1=(7, 8e-4), bit_r152x2=(7, 6e-4), r50_b16=(7, 8e-4),
    r50_b32=(7, 8e-4), r50_l32=(7, 2e-4), r50_l16=(14, 4e-4))
TABLE3 = [(model, 'jft', *row, 'linear', .1, 0., 0.) for model, row in JFT.items()] + [
    ('vit_b16', 'imagenet21k', 90, 1e-3, 'linear', .03, .1, 0.),
    ('vit_l32', 'imagenet21k', 90, 1e-3, 'linear', .03, .1, 0.),
    ('vit_b32', 'imagenet1k', 300, 3e-3, 'cosine', .3, .1, 1.)]


@pytest.mark.parametrize('model, data, epochs, peak, decay, weight_decay, dropout, clip', TABLE3)
def test_vit_pretraining_has_the_rows_of_its_table(
    model, data, epochs, peak, decay, weight_decay, dropout, clip):
  c = load(f'vit_pretrain.py:model={model},data={data}')
  assert (c.total_epochs, c.schedule.peak, c.schedule.name) == (epochs, peak, decay)
  assert (c.optimizer.weight_decay, c.optimizer.clip_norm) == (weight_decay, clip)
  assert c.model.get('dropout_rate', 0.) == dropout  # a ResNet has none
  assert (c.data.batch_size, c.schedule.warmup_steps) == (4096, 10_000)
  paper = load(f'vit_pretrain.py:model={model},data={data},variant=paper')
  assert (c.schedule.get('end'), paper.schedule.get('end')) == (
      (1e-5, 0.) if decay == 'linear' else (None, None))


@pytest.mark.parametrize('model, dataset, rates', [
    ('vit_b16', 'cifar10', (.001, .003, .01, .03)), ('vit_l16', 'cifar100', (.001, .003, .01, .03)),
    ('vit_b16', 'oxford_iiit_pet', (.001, .003, .01, .03)),
    ('vit_b16', 'oxford_flowers102', (.001, .003, .01, .03)),
    ('vit_h14', 'imagenet2012', (.003, .01, .03)), ('bit_r50x1', 'imagenet2012', (.003, .01, .03, .06)),
    ('r50_b16', 'imagenet2012', (.003, .01, .03, .06)), ('bit_r50x1', 'cifar10', (.001, .003, .01, .03)),
    ('mixer_b16', 'cifar10', (.003, .01, .03, .06)), ('vit_b16', 'vtab/dtd', (.01,))])
def test_the_rates_to_try_are_those_of_table_4(model, dataset, rates):
  found = commands.rates(f'vit_finetune.py:model={model},dataset={dataset}', CONFIGS)
  assert found == rates


# AugReg's levels: p of mixup, magnitude of RandAugment (big_vision, configs/vit_i1k.py).
LEVELS = dict(none=(0, None), light1=(0, 0), light2=(.2, 10), medium1=(.2, 15), medium2=(.5, 15),
              strong1=(.5, 20), strong2=(.8, 20))


@pytest.mark.parametrize('level', LEVELS)
@pytest.mark.parametrize('data, bias, epochs', [('imagenet1k', -6.9, 300), ('imagenet21k', -10., 30)])
def test_augreg_has_every_cell_of_its_grid(level, data, bias, epochs):
  mixing, magnitude = LEVELS[level]
  for model in ('vit_ti16', 'vit_b32', 'r26_s32', 'r50_l32'):
    c = load(f'augreg.py:model={model},data={data},aug={level},wd=.03,do=.1,sd=.1,epochs={epochs}')
    ops = augmentation(c)
    assert ops.get('randaugment', {}).get('magnitude') == magnitude
    assert ops.get('mixup', {}).get('p', 0) == mixing
    assert (c.model.dropout_rate, c.model.drop_path_rate, c.optimizer.weight_decay) == (.1, .1, .03)
    assert (c.total_epochs, c.model.head_bias, c.data.batch_size) == (epochs, bias, 4096)
  assert plan.make(c).info.num_train == dict(imagenet1k=1_268_355, imagenet21k=14_145_922)[data]


@pytest.mark.parametrize('model, small, large', [
    ('vit_ti16', 'light1', 'none'), ('vit_s32', 'medium1', 'none'), ('vit_s16', 'medium2', 'light1'),
    ('vit_b32', 'medium2', 'light2'), ('vit_b16', 'medium2', 'light2'),
    ('vit_l16', 'medium2', 'medium2')])
def test_augreg_chooses_the_published_level(model, small, large):
  for data, level in (('imagenet1k', small), ('imagenet21k', large)):
    spec = f'augreg.py:model={model},data={data}'
    assert load(spec).data.augment == load(f'{spec},aug={level}').data.augment


@pytest.mark.parametrize('model, data, epochs, peak, decay, magnitude, mixing, drop_path', [
    ('mixer_b16', 'imagenet1k', 300, 1e-3, .1, 15, .5, .1),
    ('mixer_l16', 'imagenet1k', 300, 1e-3, .1, 15, .5, .1),
    ('mixer_b16', 'imagenet21k', 300, 1e-3, .1, 10, .2, .1),
    ('mixer_l16', 'imagenet21k', 300, 1e-3, .1, 20, .5, .1),
    ('mixer_s32', 'jft', 5, 3e-3, .03, None, None, 0.),
    ('mixer_b32', 'jft', 7, 3e-3, .03, None, None, 0.),
    ('mixer_l16', 'jft', 14, 1e-3, .03, None, None, 0.),
    ('mixer_h14', 'jft', 14, 1e-3, .03, None, None, 0.)])
def test_mixer_has_the_rows_of_its_table(model, data, epochs, peak, decay, magnitude, mixing, drop_path):
  c = load(f'mixer.py:model={model},data={data}')
  ops = augmentation(c)
  assert (c.total_epochs, c.schedule.peak, c.optimizer.weight_decay) == (epochs, peak, decay)
  assert ops.get('randaugment', {}).get('magnitude') == magnitude
  assert ops.get('mixup', {}).get('p') == mixing and c.model.drop_path_rate == drop_path
  assert plan.make(c).rates == pytest.approx((0., peak, 1e-5 * peak), rel=.01, abs=1e-7)


def test_bit_follows_the_paper_or_the_code():
  code, paper = (plan.make(load(f'bit_pretrain.py:data=imagenet21k,variant={variant}'))
                 for variant in ('code', 'paper'))
  assert code.rates[1] == paper.rates[1] == pytest.approx(.03 * 16)
  assert paper.rates[2] == pytest.approx(.48e-3) and code.rates[2] < 1e-8
  for share, factor in ((29 / 90, 1.), (31 / 90, .1), (59 / 90, .1), (61 / 90, .01), (81 / 90, .001)):
    assert paper.schedule(round(share * paper.steps)) == pytest.approx(.48 * factor)
  assert plan.make(load('bit_pretrain.py:data=imagenet1k')).rates[1] == pytest.approx(.1 * 16)
  jft = plan.make(load('bit_pretrain.py:data=jft,variant=paper,epochs=40'))
  assert jft.schedule(round(24 / 40 * jft.steps)) == pytest.approx(.0048)


@pytest.mark.parametrize('examples, steps, drops, mixes', [
    (1_000, 500, (200, 300, 400), False), (19_999, 500, (200, 300, 400), False),
    (20_000, 10_000, (3_000, 6_000, 9_000), True), (499_999, 10_000, (3_000, 6_000, 9_000), True),
    (500_000, 20_000, (6_000, 12_000, 18_000), True)])
def test_the_hyper_rule_goes_by_the_number_of_images(examples, steps, drops, mixes):
  c = load(f'bit_finetune.py:dataset=mine,examples={examples}')
  assert c.total_steps == steps and ('mixup_cutmix' in augmentation(c)) == mixes
  rate = schedules.make(**c.schedule, total_steps=steps)
  for i, drop in enumerate(drops):  # the rate drops one step late, as in the published loop
    before, after = rate(drop), rate(drop + 1)
    assert [before, after] == pytest.approx([.003 * .1 ** i, .003 * .1 ** (i + 1)])


@pytest.mark.parametrize('dataset, train, test, images', [
    ('cifar10', 'train[:98%]', 'train[98%:]', 49_000),
    ('imagenet2012', 'train[:99%]', 'train[99%:]', 1_268_355),
    ('oxford_iiit_pet', 'train[:90%]', 'train[90%:]', 3_312), ('vtab/dtd', 'train800', 'val200', 800),
    ('oxford_flowers102,variant=paper', 'train+validation[:80%]', 'validation[80%:]', 1_836)])
def test_a_rate_is_chosen_on_what_the_paper_holds_out(dataset, train, test, images):
  c = load(f'vit_finetune.py:dataset={dataset},heldout,real=real.json')
  assert (c.data.train, c.data.test, c.data.real) == (train, test, '')
  assert plan.make(c).info.num_train == images
  c = load(f'vit_finetune.py:dataset={dataset},validation')
  whole = load(f'vit_finetune.py:dataset={dataset}')
  assert (c.data.train, c.data.validation, c.data.test) == (train, test, whole.data.test)
  assert not whole.data.validation
  assert whole.data.train != train and 'train' in whole.data.train


@pytest.mark.parametrize('task', vtab.TASKS)
def test_crops_and_flips_do_not_change_the_labels_of_vtab(task):
  c = load(f'vit_finetune.py:model=vit_h14,dataset=vtab/{task}')
  structured = vtab.task(task).group == 'structured'
  assert bool(c.data.augment) != structured and (c.data.crop.name == 'squash') == structured
  assert tuple(c.data.resolution) == (378, 378) and (c.total_steps, c.schedule.peak) == (2_500, .01)


def test_real_labels_come_from_a_file_or_from_tfds():
  assert load('vit_finetune.py:dataset=imagenet2012,real=r.json').data.real == 'r.json'
  c = load('vit_finetune.py:dataset=imagenet2012,real=tfds')
  assert (c.data.source, c.data.real) == ('imagenet2012_real', '')
  assert [dict(part) for part in c.data.mixture] == [
      dict(source='imagenet2012', train='train', weight=1.)]
  assert plan.make(c).info.num_train == 1_281_167


def test_averages_are_plain_and_the_head_is_new_as_published():
  c = load('vit_finetune.py:model=vit_l16,pretrained=jft,dataset=imagenet2012,resolution=512,ema=.9999')
  assert (c.ema_decay, c.ema_warmup, c.reset_head) == (.9999, False, True)
  assert c.init_from == 'runs/vit_l16_jft' and c.optimizer.momentum_dtype == 'bfloat16'
  assert not load('vit_finetune.py:init_from=FILE').reset_head
  assert load('vit_finetune.py:variant=paper').optimizer.momentum_dtype == 'float32'


def test_plain_vit_is_plain():
  for variant, size in (('code', 384), ('paper', None)):
    got = plan.make(load(f'vit_plain.py:data=imagenet1k,variant={variant}'))
    assert (got.model.pool, got.model.position) == ('mean', 'sincos')
    assert got.model.representation_size == size
    assert got.steps == round(90 * 1_268_355 / 1_024)


def test_deit_ends_where_its_code_does():
  for variant, decay, lag in (('code', 'deit', 1.), ('paper', 'timm', 0.)):
    c = load(f'deit.py:data=imagenet1k,variant={variant}')
    assert (c.optimizer.decay, c.schedule.lag_epochs, c.data.repeats) == (decay, lag, 3)
  assert list(augmentation(c)) == ['flip', 'randaugment', 'random_erasing', 'mixup_cutmix']


def test_convnext_is_the_authors():
  for model, drop_path in (('convnext_t', .1), ('convnext_s', .4), ('convnext_l', .5)):
    c = load(f'convnext.py:model={model},data=imagenet1k')
    assert (c.model.drop_path_rate, c.ema_decay, c.ema_warmup) == (drop_path, .9999, False)
    assert (c.optimizer.weight_decay, c.optimizer.layer_decay, c.total_epochs) == (.05, 1., 300.)
  c = load('convnext.py:model=convnext_l,data=imagenet1k,recipe=enlarge')
  assert c.init_from == 'convnext_l.imagenet1k'
  assert (c.model.drop_path_rate, c.model.head_scale) == (.95, .001)
  assert (c.optimizer.layer_decay, c.ema_decay, c.data.eval_crop.name) == (.7, 0., 'squash')
  assert 'mixup_cutmix' not in augmentation(c)
  c = load('convnext.py:model=convnext_xl,data=imagenet1k,recipe=transfer')
  assert (c.init_from, c.optimizer.layer_decay) == ('convnext_xl.imagenet22k', .8)
  with pytest.raises(UserError, match='size of a ConvNeXt for recipe=transfer'):
    load('convnext.py:model=convnext_t,recipe=transfer')


def test_nat_is_the_authors():
  for model, drop_path in (('nat_mini', .2), ('nat_small', .3), ('dinat_base', .5)):
    c = load(f'nat.py:model={model},data=imagenet1k')
    assert (c.model.drop_path_rate, c.data.batch_size, c.optimizer.clip_norm) == (drop_path, 1024, 5.)
    got = plan.make(c)
    epoch = 1_281_167 / 1024
    assert got.steps == round(310 * epoch)
    rates = [float(got.schedule(round(at * epoch))) for at in (0, 20, 160, 300, 309)]
    cosine = [5e-6 + .995e-3 * np.cos(.5 * np.pi * at / 300) ** 2 for at in (20, 160)]
    np.testing.assert_allclose(rates, [1e-6, *cosine, 5e-6, 5e-6], rtol=1e-3)
    assert list(augmentation(c)) == ['flip', 'randaugment', 'random_erasing', 'mixup_cutmix']
    assert c.data.crop.any_filter and c.data.eval_crop.ratio == .875
    shapes = weights.init_shapes(models.create_model(model), (224, 224), 3)
    decayed = {p for p, rate in optimizers.decay_rates(shapes, .05, c.optimizer.decay).items() if rate}
    assert decayed == {p for p in trees.flatten(shapes) if p.endswith('/kernel')}
  c = load('nat.py:model=dinat_large_384,data=imagenet1k,recipe=transfer')
  assert (c.init_from, c.optimizer.weight_decay) == ('dinat_large.imagenet22k', 1e-10)
  assert c.data.resolution == (384, 384) and c.data.eval_crop.ratio == 1.
  assert list(augmentation(c)) == ['flip', 'randaugment', 'random_erasing']


def test_detr_is_the_papers():
  c = load('detr.py:dataset=coco')
  assert (c.model.encoder_layers, c.model.decoder_layers, c.data.batch_size) == (6, 6, 64)
  assert (c.total_epochs, c.schedule.boundary_epochs, c.schedule.factors) == (300., (200.,), (.1,))
  assert c.data.canvases == ((800, 1344), (1344, 800))
  assert [t['name'] for t in c.data.transforms] == ['detr']
  task = {k: v for k, v in c.task.items() if k != 'name'}
  assert task == dict(bbox_coef=5., cost_bbox=5., giou_coef=2., cost_giou=2., cost_class=1.)


def test_a_resolution_scales_all_sizes_of_a_detector():
  usual, small, large = (load(f'detr.py:dataset=coco{more}') for more in (
      '', ',resolution=400', ',resolution=1600'))
  assert usual.data.transforms[0] == dict(name='detr')
  assert small.data.canvases == ((416, 672), (672, 416))
  assert small.data.test_transforms[0] == dict(name='resize', size=400, max_size=666)
  half, whole = transforms.DETR(**{k: v for k, v in small.data.transforms[0].items() if k != 'name'}
                                ), transforms.DETR()
  for field in ('scales', 'max_size', 'crop_scales', 'crop_min', 'crop_max'):
    np.testing.assert_allclose(getattr(half, field), np.asarray(getattr(whole, field)) / 2, atol=.51)
  for c in (small, large):
    for canvas, size in zip(c.data.canvases, ((3, 5), (5, 3))):
      extent = transforms.extent(transforms.make(c.data.transforms), *(100 * n for n in size))
      assert all(a <= b for a, b in zip(extent, canvas)) and min(canvas) % 32 == 0
  assert usual.model.max_positions == small.model.max_positions == 50
  assert large.model.max_positions >= max(large.data.canvases[0]) / 32


def test_options_of_a_transform_that_a_config_leaves_out_are_flags():
  c = config.load(os.path.join(CONFIGS, 'detr.py:dataset=coco'), {
      'data.transforms[0].scales': '320,352', 'data.transforms[0].max_size': '600',
      'data.test_transforms[0].max_size': '640', 'data.test_transforms[0].size': '352'})
  made = transforms.make(c.data.transforms)[0]
  assert (made.scales, made.max_size, c.data.test_transforms[0]['max_size']) == ((320, 352), 600, 640)
  with pytest.raises(UserError, match="option of transform 'detr': 'scale'; did you mean 'scales'"):
    transforms.make(config.load(os.path.join(CONFIGS, 'detr.py:dataset=coco'),
                                {'data.transforms[0].scale': '320'}).data.transforms)


def test_a_small_detector_has_a_canvas_for_portrait_images():
  assert load('detr_small.py:resolution=120x160').data.canvases == ((120, 160), (160, 120))
  assert load('detr_small.py:resolution=128').data.canvases == ((128, 128),)


# Rows of tables 2 and 3, figure 4, section 4.2 and what learns sooner: what each changes of the model.
PLACES = ('encoder_positions', 'decoder_positions', 'query_positions')
ROWS = {
    'encoder_layers=0': dict(encoder_layers=0), 'encoder_layers=12': dict(encoder_layers=12),
    'decoder_layers=1': dict(decoder_layers=1), 'ffn=false': dict(ffn=False),
    'positions=none': dict(zip(PLACES, ('none', 'none', 'input'))),
    'positions=sine_input': dict(zip(PLACES, ('sine_input', 'sine_input', 'input'))),
    'positions=learned_attn': dict(zip(PLACES[:2], ('learned_attn', 'learned_attn'))),
    'positions=decoder_only': dict(encoder_positions='none'), 'positions=sine_attn': {},
    'focal': dict(classifier='sigmoid'),
    'queries=anchors,denoising=5': dict(queries='anchors', denoising=5),
    'model=detr_r101_dc5': dict(name='detr_r101_dc5', max_positions=100,
                                backbone_fields=dict(norm='frozen', output_stride=16)),
    'model=detr_r50_panoptic,joint': dict(name='detr_r50_panoptic', masks=True)}


@pytest.mark.parametrize('argument', ROWS)
def test_a_row_of_detr_is_one_argument(argument):
  usual, model = (load(f'detr.py:dataset=coco{more}').model.to_dict() for more in ('', f',{argument}'))
  assert {k: v for k, v in model.items() if v != usual[k]} == ROWS[argument]
  detectors.create_model(**model, num_classes=91).check()


def test_small_detectors_hold_together():
  for spec in ('detr_small.py', 'detr_small.py:queries=learned,focal=false', 'detr_small.py:denoising=2',
               'detr_small.py:stride=32,width=64', 'quickstart_detr.py', 'detr.py:smoke',
               'detr.py:queries=anchors,denoising=2,focal,smoke'):
    c = load(spec)
    model = detectors.create_model(**c.model, num_classes=10)
    model.check()
    assert model.norm == 'group' and flops.multiply_adds(model, (64, 64)) < 1e8  # learns from nothing
    assert c.task.get('cost_class', 1.) == (2. if model.classifier == 'sigmoid' else 1.)
    assert c.data.source == 'digit_scenes' and 'freeze' not in c.optimizer


def test_a_small_detector_has_the_stride_that_it_is_asked_for():
  for stride, stages in ((4, 1), (8, 2), (16, 3), (32, 4)):
    assert len(load(f'detr_small.py:stride={stride}').model.backbone_fields['depths']) == stages


# Of fine-tuning, and of training from scratch: what a user's own data set is given to.
OWN = ['vit_finetune.py:dataset=mine', 'vit_finetune.py:dataset=oxford_flowers102',
       'vit_finetune.py:dataset=vtab/dtd', 'vit_finetune.py:dataset=imagenet2012', 'bit_finetune.py',
       'bit_finetune.py:dataset=mine,examples=100000', 'bit_finetune.py:dataset=imagenet2012',
       'deit.py:recipe=finetune', 'deit.py', 'deit.py:recipe=vit', 'nat.py',
       'nat.py:recipe=transfer', 'convnext.py', 'convnext.py:model=convnext_b,recipe=enlarge',
       'convnext.py:model=convnext_xl,recipe=transfer',
       'convnext.py:model=convnext_iso_s', 'swin.py',
       'swin.py:model=swin_b_384,recipe=enlarge',
       'swin.py:model=swin_l,recipe=transfer', 'detr.py:dataset=mine',
       'detr.py:dataset=mine,epochs=50,batch_size=16',
       'detr.py:dataset=mine,frozen=RUN,epochs=25,drop=15',
       'detr_small.py:dataset=mine', 'augreg.py', 'augreg.py:epochs=30', 'bit_pretrain.py', 'mixer.py',
       'vit_plain.py', 'vit_pretrain.py', 'vit_pretrain.py:epochs=7', 'quickstart.py',
       'quickstart_detr.py']


@pytest.mark.parametrize('images', [100, 1_000, 20_000, 1_200_000])
@pytest.mark.parametrize('spec', OWN)
def test_a_run_is_evaluated_and_saved_at_least_ten_times_on_data_of_any_size(spec, images):
  for c in config.stages(load(spec)):
    images = 1_442 if 'quickstart' in spec else images  # the digits
    steps = config.total_steps(c, images)
    for section in ('evaluate', 'checkpoint'):
      every = config.interval(c, section, images)
      assert 1 <= every <= max(steps // 10, 1)
      assert steps // every <= 128  # not in every step of a long run


@pytest.mark.parametrize('spec, said', [
    ('vit_pretrain.py:data=imagenet22k', "unknown data 'imagenet22k'; did you mean 'imagenet21k'"),
    ('vit_pretrain.py:model=vit_s16,data=jft', "unknown model for data=jft 'vit_s16'"),
    ('vit_pretrain.py:model=vit_b61', "unknown model 'vit_b61'; did you mean 'vit_b16'"),
    ('augreg.py:aug=medium', "unknown level of augmentation 'medium'; did you mean 'medium"),
    ('augreg.py:model=vit_h14', "unknown model without aug=LEVEL 'vit_h14'"),
    ('deit.py:recipe=diet', "unknown recipe 'diet'; did you mean 'deit'"),
    ('mixer.py:variant=cod', "unknown variant 'cod'; did you mean 'code'"),
    ('vit_finetune.py:dataset=vtab/dtb', "unknown VTAB task 'dtb'; did you mean 'dtd'"),
    ('detr.py:positions=sine', "unknown positions 'sine'; did you mean 'sine_attn'"),
    ('detr.py:model=detr_r52', "unknown model 'detr_r52'; did you mean 'detr_r50'"),
    ('bit_finetune.py:dataste=cifar10', "unknown config argument 'dataste'; did you mean 'dataset'")])
def test_mistakes_in_arguments_name_what_is_near(spec, said):
  with pytest.raises(UserError, match=said):
    load(spec)


@pytest.mark.parametrize('name', ['vit_b16', 'r50_b16', 'r_ti16', 'mixer_b16', 'bit_r50x1', 'resnet50',
                                  'deit_s16', 'convnext_t', 'swin_t', 'nat_mini', 'dinat_base'])
def test_smoke_leaves_a_small_model_of_the_same_kind(name):
  c = load('vit_plain.py')
  with c.unlocked():
    c.model = recipes.model(name)
    recipes.smoke(c)
  fields = dict(c.model)
  model = models.create_model(**fields)
  assert isinstance(model, models.variant(name).module)
  assert flops.multiply_adds(model, (16, 16)) < 2e7


def test_a_family_without_a_tiny_form_is_told(monkeypatch):
  without = [dataclasses.replace(family, tiny=None) for family in models.FAMILIES]
  monkeypatch.setattr(models, 'FAMILIES', without)
  with pytest.raises(UserError, match='the family of vit_b16 has no small form for smoke'):
    load('vit_pretrain.py:smoke')


@pytest.mark.parametrize('data, epochs, batch, peak, window, stride, classes', [
    ('ade20k', 64, 8, 1e-3, 512, 512, 150), ('context', 256, 16, 1e-3, 480, 320, 60),
    ('cityscapes', 216, 8, 1e-2, 768, 512, 19)])
def test_segmenter_is_the_authors(data, epochs, batch, peak, window, stride, classes):
  got = plan.make(load(f'segmenter.py:model=segmenter_s16_linear,data={data}'))
  c = got.config
  assert (c.total_epochs, c.data.batch_size, c.data.window) == (epochs, batch, (window, window))
  assert (c.data.inference.window, c.data.inference.stride) == (window, stride)
  assert got.info.num_classes == classes and c.data.zero_ignored == (data == 'ade20k')
  rates = [float(got.schedule(at)) for at in (0, got.steps // 2)]
  np.testing.assert_allclose(rates, [peak, (peak - 1e-5) * .5 ** .9 + 1e-5], rtol=1e-3)
  assert (c.optimizer.name, c.optimizer.nesterov, c.model.backbone_fields.drop_path_rate) == (
      'sgd', True, .1)
  assert c.init_from == 'vit_s16.augreg_imagenet21k_imagenet1k_384'


def test_the_tables_of_segmenter_have_their_configs():
  got = load('segmenter.py:model=segmenter_l16_mask,resolution=640')
  assert (got.data.window, got.data.inference.short_side) == ((640, 640), 640)
  assert load('segmenter.py:model=segmenter_s16_linear,examples=8000').data.train == 'training[:8000]'
  deit = load('segmenter.py:model=segmenter_b16_deit_mask')
  assert deit.init_from == 'deit_b16_distilled_384.imagenet1k'
  assert deit.data.mean == (.485, .456, .406)


@pytest.mark.parametrize('size, side, params', [('t', 512, 59_941_862), ('b', 640, 121_279_716)])
def test_upernet_is_the_authors(size, side, params):
  got = plan.make(load(f'upernet.py:model=upernet_swin_{size}'))
  assert (got.steps, got.config.data.batch_size, got.parameters) == (160_000, 16, params)
  assert got.info.image_size == (side, side) and got.config.model.backbone_fields.drop_path_rate == .3
  rates = [float(got.schedule(at)) for at in (0, 1_500, 80_000)]
  np.testing.assert_allclose(rates, [6e-11, 6e-5 * (1 - 1_500 / 160_000), 3e-5], rtol=2e-3)
  if size == 't':  # the paper counts 945 at 512x2048
    assert plan.fact(got, 'GFLOPs') == pytest.approx(945, rel=.001)
    shapes = weights.init_shapes(got.model, (side, side), 3)
    rates = optimizers.decay_rates(shapes, .01, got.config.optimizer.decay)
    assert {p.rpartition('/')[2] for p, rate in rates.items() if not rate} == {
        'scale', 'bias', 'relative_position_bias_table'}
    assert all(rates[p] for p in rates if p.endswith(('kernel', 'bn/scale', 'Dense_0/bias')))


@pytest.mark.parametrize('model, stated, counted', [
    ('deeplabv3plus_r101', 1_021, 1_019.3), ('ocrnet_r101', 923, 925.7), ('upernet_r101', 1_029,
    1_028.9), ('ocrnet_hrnet_w48', 664, 668.4), ('setr_l16_pup', None, None), ('setr_l16_mla', None,
    None)])
def test_the_baselines_are_mmsegmentations(model, stated, counted):
  got = plan.make(load(f'segmentation_baselines.py:model={model}'))
  c, setr = got.config, model.startswith('setr')
  assert (got.steps, c.data.batch_size, c.task.count_ignored) == (160_000, 16, True)
  peak = 1e-3 if setr else 1e-2
  rates = [float(got.schedule(at)) for at in (0, 80_000, 160_000)]
  np.testing.assert_allclose(rates, [peak, (peak - 1e-4) * .5 ** .9 + 1e-4, 1e-4], rtol=1e-3)
  assert c.optimizer.weight_decay == (0. if setr else 5e-4)
  assert (c.data.inference.window, c.data.inference.stride) == ((512, 341) if setr else (0, 0))
  if stated:  # the paper's figure, and mmsegmentation's counter's, which counts norms and resizing too
    counts = plan.fact(got, 'GFLOPs')
    assert counts == pytest.approx(stated, rel=.01) and counts == pytest.approx(counted, rel=1e-4)
    return
  paths = weights.flatten({'params': weights.init_shapes(got.model, (512, 512), 3)})
  (pattern, factor), = c.optimizer.rate_factors
  fast = {path.partition('/')[0] + '/' + path.split('/')[1] for path in paths
          if re.fullmatch(pattern, path)}
  assert factor == 10. and not any(path.startswith('backbone') for path in fast)
  mla = 'decode/conv_seg' in fast and 'decode/norm_0' not in fast and 'decode/enlarge_0_0' in fast
  assert mla if 'mla' in model else {'decode/norm', 'decode/conv_3', 'auxiliary_2/conv_1'} <= fast
