"""Every recipe starts at its own batch size and resolution, on data of the published size."""

import dataclasses
import functools
import glob
import json
import os
import types

import jax
import numpy as np
import pytest

from detr_jax import models as detectors
from detr_jax.data import maps, pipeline as detection_pipeline
from detr_jax.data import sources as detection_sources
from detr_jax.data.sources.base import Categories, DetectionSplit
from detr_jax.data.sources.label_maps import LabelSplit
from detr_jax.models import pixels
from tests.conftest import ROOT
from vit_jax import config as config_lib, task as task_lib
from vit_jax.training import step as step_lib
from vit_jax import models, sharding, tables
from vit_jax.training import loop
from vit_jax.data import pipeline
from vit_jax.data.info import Info
from vit_jax.data.sources import Split
from vit_jax.tables import datasets, plan
from vit_jax.tasks import distillation

CONFIGS = os.path.join(ROOT, 'configs')
ROWS = sorted({spec for table in tables.TABLES.values() for row in table.rows
               for alternatives in row.configs for spec in alternatives})
# What the tables leave out: each recipe's other rows, by the arguments that choose them.
OTHERS = [
    *(f'augreg.py:data={data},model={model}' for data in ('imagenet1k', 'imagenet21k') for model in (
        'vit_ti16', 'vit_s32', 'vit_s16', 'vit_b32', 'vit_b16', 'vit_b8', 'vit_l16', 'r_ti16', 'r26_s32',
        'r50_l32')),
    *(f'augreg.py:data=imagenet1k,aug={level}' for level in ('none', 'light2', 'strong1', 'strong2')),
    *(f'bit_pretrain.py:data={data},variant={variant}' for data in ('imagenet1k', 'imagenet21k', 'jft')
      for variant in ('code', 'paper')),
    *(f'mixer.py:data={data},model={model}' for data, model in (
        ('imagenet1k', 'mixer_b16'), ('imagenet21k', 'mixer_l16'), ('jft', 'mixer_h14'))),
    *(f'vit_plain.py:data=imagenet1k,variant={variant}' for variant in ('code', 'paper')),
    *(f'vit_pretrain.py:data={data},variant=paper' for data in ('imagenet1k', 'imagenet21k', 'jft')),
    *(f'vit_finetune.py:dataset={data},{more}' for data in (
        'cifar100', 'imagenet2012', 'oxford_iiit_pet', 'oxford_flowers102', 'vtab/dtd')
      for more in ('heldout', 'validation', 'variant=paper')),
    *(f'bit_finetune.py:dataset={data}' for data in (
        'cifar10', 'imagenet2012', 'oxford_iiit_pet', 'oxford_flowers102')),
    *(f'deit.py:data=imagenet1k,recipe={recipe},variant=paper' for recipe in (
        'deit', 'vit', 'finetune')),
    *(f'detr.py:dataset=coco,{more}' for more in (
        'encoder_layers=0', 'decoder_layers=1', 'ffn=false', 'focal', 'queries=anchors,denoising=5',
        'resolution=400', 'model=detr_r50_panoptic', 'model=detr_r50_panoptic,joint',
        'positions=learned_attn,model=detr_r50_dc5')),
    'detr_small.py:dataset=coco,train=train2017,test=val2017',
    *(f'segmenter.py:{row}' for row in (
        'model=segmenter_ti16_linear', 'data=context,model=segmenter_s16_linear',
        'data=cityscapes,model=segmenter_b16_deit_mask', 'model=segmenter_l16_mask,resolution=640',
        'model=segmenter_s32_linear,examples=4000')),
    'upernet.py:model=upernet_swin_l,multiscale',
    *(f'segmentation_baselines.py:model={name}' for name in (
        'deeplabv3plus_r101', 'ocrnet_hrnet_w48,multiscale', 'setr_l16_pup', 'setr_l16_mla')),
    *(os.path.basename(path) for path in sorted(glob.glob(os.path.join(CONFIGS, '*.py'))))]
SPECS = sorted({*ROWS, *OTHERS})
VARIANTS = {**models.variants(), **detectors.variants(), **pixels.variants()}
BUILT = set()  # steps of configs before, which need not be built again


def kind_of(name: str) -> tuple:
  """Returns what tells models apart whose steps are built differently; not their size."""
  variant = VARIANTS[name]
  words = {k: v for k, v in variant.arguments.items() if isinstance(v, str | bool) and k != 'backbone'}
  on = variant.arguments.get('backbone')
  return variant.module, on and models.variant(on).module, *sorted(words.items())


def built(spec: str) -> tuple:
  """Returns what tells rows of tables apart whose steps are built differently; not the data set."""
  file, _, text = spec.partition(':')
  given = dict(item.partition('=')[::2] for item in text.split(',') if item)
  if 'model' in given:
    given['model'] = kind_of(given['model'])
  return (file, *sorted((k, v) for k, v in given.items() if k not in (
      'data', 'dataset', 'pretrained', 'real', 'epochs', 'examples', 'multiscale', 'init_from')))


STEPS = sorted({*{built(spec): spec for spec in ROWS}.values(), *OTHERS})
LEAST_SHARDS = 1_000_000  # examples from which on published data lies in shards


def size_of(source: str):
  """Returns the published size of a data set; the digits stand for those that the project brings."""
  sizes = dict(digits=datasets.Size(10, dict(train=1_442, test=355)), imagenet2012_real=datasets.Size(
      1_000, dict(validation=50_000)), digit_scenes=datasets.Size(10, dict(train=1_000, test=300)),
               digit_maps=datasets.Size(11, dict(train=4_096, test=300), (64, 64)))
  size = sizes.get(source) or datasets.size(source)
  return dataclasses.replace(size, splits={'test': 1_000, **size.splits}) if 'vtab/' in source else size


def open_images(config, name: str = '', train: str = ''):
  """Returns a source of the published counts, as `sources.open_source`; no image is ever read."""
  size = size_of(name or config['source'])

  def split(name):
    count = size.count(name)
    shards = 1_024 if count >= LEAST_SHARDS else 1
    return Split([count // shards + (i < count % shards) for i in range(shards)], None)

  classes = tuple(map(str, range(size.classes)))
  return types.SimpleNamespace(name=name or config['source'], split=split, classes=classes,
                               channels=config['channels'] or 3)


def open_objects(config):
  """Returns a source of the published counts, as the detectors' `open_source`; half the images stand."""
  name = config['source'] + '_panoptic' * config['panoptic']
  size = size_of(name)
  height, width = size.image_size or (64, 64)
  categories = Categories(tuple(map(str, range(size.classes))), tuple(range(1, size.classes + 1)),
                          tuple(i < 80 for i in range(size.classes)) if config['panoptic'] else None)

  def split(name):
    count = size.count(name)
    sizes = np.where(np.arange(count)[:, None] % 2, [height, width], [width, height])
    truth = lambda: dict(images=[], categories=categories.coco(), annotations=[])
    return DetectionSplit(None, sizes, 1 + np.arange(count) % 60, np.arange(count), truth, True,
                          (lambda i: None) if config['panoptic'] else None)

  slots = categories.with_slots(config['id_slots'])
  return types.SimpleNamespace(name=name, split=split, categories=slots)


def load_teacher(teacher, info, mesh):
  """Returns the shapes of a small RegNet's variables, as `Teacher.load`."""
  teacher._model = models.create_model('regnety_400mf', num_classes=info.num_classes)
  teacher._info = Info('', (), 3, (224, 224), 0, 0, (.5,), (.5,))
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
  return jax.eval_shape(teacher._model.init, jax.random.key(0), image)


@pytest.fixture(autouse=True)
def published_data(monkeypatch, tmp_path):
  monkeypatch.setattr(pipeline, 'open_source', open_images)
  monkeypatch.setattr(detection_pipeline, 'open_source', open_objects)
  monkeypatch.setattr(detection_sources, 'open_source', open_objects)
  monkeypatch.setattr(maps, 'open_source', open_maps)
  monkeypatch.setattr(distillation.Teacher, 'load', load_teacher)
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'real.json').write_text(json.dumps([[0]] * 50_000))


def open_maps(config):
  """Returns a source of label maps of the published counts, as `maps.open_source`."""
  size = size_of(config['source'])
  one = lambda i: types.SimpleNamespace(labels=lambda size: np.zeros(size, np.uint8))
  split = lambda name: LabelSplit(one, np.tile(size.image_size, (size.count(name), 1)))
  return types.SimpleNamespace(name=config['source'], split=split,
                               classes=tuple(map(str, range(size.classes))))


def stages(spec: str):
  return config_lib.stages(plan.load(spec, CONFIGS))


@functools.cache
def mesh():
  return sharding.make_mesh(data=4, fsdp=2)


def open_data(config):
  kind = task_lib.find(config)
  return kind.open_data(config.data, config.seed, mesh())


def fewer(fields) -> dict:
  """Returns the depth of a model's fields, cut: layers of one kind are traced alike."""
  out = {}
  if 'depth' in fields and not fields.get('map_layers'):
    out['depth'] = min(fields['depth'], 2)
  if fields.get('depths') and not fields.get('dilations'):
    out['depths'] = tuple(min(depth, 2) for depth in fields['depths'])
  return out


def shallow(config):
  """Returns a config whose model, or its backbone, has two layers, or two in each stage."""
  name = config.model.name
  variant = VARIANTS[name]
  fields, config = {**variant.arguments, **config.model}, config.copy_and_resolve_references()
  with config.unlocked():
    config.model.update(fewer(fields))
    if 'backbone' in variant.module.__dataclass_fields__:
      backbone = fields.get('backbone', variant.module.backbone)
      own = {**models.variant(backbone).arguments, **fields.get('backbone_fields', {})}
      config.model.backbone_fields = {**fields.get('backbone_fields', {}), **fewer(own)}
  return config


def same_step(config, example) -> str:
  """Returns what two configs share whose steps are built alike."""
  found = config_lib.to_dict(config)
  return json.dumps([{k: found[k] for k in ('model', 'task', 'optimizer', 'ema_decay')},
                     found['data'].get('augment'), found['schedule']['name'],
                     {k: [*v.shape] for k, v in example.items()}], sort_keys=True)


def opened(spec: str) -> str:
  """Returns what two recipes share whose data opens alike: each batch size, split and data set."""
  return json.dumps([[config_lib.to_dict(config)['data'], config.total_epochs, config.task.name]
                     for config in stages(spec)], sort_keys=True)


@pytest.mark.parametrize('spec', sorted({opened(spec): spec for spec in SPECS}.values()))
def test_the_data_of_a_recipe_opens_at_its_own_batch_size(spec):
  for config in stages(spec):
    data = open_data(config)
    rows = config.data.batch_size
    assert all(shape.shape[0] == rows for shape in data.example.values())
    steps = config_lib.total_steps(config, data.info.num_train)
    for step in (0, 1, steps - 1):
      drawn = [data.train.example(step, row) for row in (0, 1, rows // 2, rows - 1)]
      assert all(0 <= index < data.info.num_train for _, index in drawn)
    assert set(data.splits) == {'test'} | ({'validation'} if config.data.validation else set())


@pytest.mark.slow
@pytest.mark.parametrize('spec', STEPS)
def test_the_first_step_of_a_recipe_is_built_at_its_own_sizes(spec):
  for config in map(shallow, stages(spec)):
    key = same_step(config, open_data(config).example)
    if key in BUILT:
      continue
    with jax.set_mesh(mesh()):
      data, task, optimizer, schedule, steps, _ = loop.plan(config, mesh())
      shapes, _, transform, _ = step_lib.plan_state(
          task, optimizer, data.example, mesh(), task.family.rules, config.seed,
          ema=config.ema_decay > 0.)
      step = loop.make_step(config, task, transform, schedule, shapes)
      after, sums = step.trace(shapes, data.example, **task.constants(mesh())).out_info
      assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, shapes)
      assert 'loss' in sums and steps > 0
    BUILT.add(key)
