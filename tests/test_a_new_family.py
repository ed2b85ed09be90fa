"""A new family of backbones is one record and one line: all that is done with models works for it."""

import json
import os
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from PIL import Image

import vit_jax
from tests.conftest import ROOT
from tests.training.test_loop import losses
from vit_jax import convert, explore, models, predict, recipes, sharding, trees, weights
from vit_jax import config as config_lib
from vit_jax.models.family import Family, Grid
from vit_jax.models.features import Features
from vit_jax.models.variant import Variant
from vit_jax.optim import layer_decay
from vit_jax.tables import datasets, plan
from vit_jax.training import loop
from vit_jax.weights import families
from vit_jax.weights.families import Published
from vit_jax.weights.families.rows import same
from vit_jax.weights.table import Table


class Toy(nn.Module):
  """Patches, dense layers with an attention of patches to each other, a head."""
  num_classes: int | None = 1000
  patch_size: int = 8
  width: int = 64
  depth: int = 3
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image, train=False, valid=None):
    x = nn.Conv(self.width, (self.patch_size,) * 2, self.patch_size, name='patches')(image)
    grid, x = x.shape[1:3], x.reshape(x.shape[0], -1, self.width)
    for i in range(self.depth):
      x = ToyLayer(name=f'layer_{i}')(x)
    if self.num_classes is None:
      return Features((x.reshape(-1, *grid, self.width),), None, ((self.patch_size,) * 2,))
    x = x.mean(1)
    self.sow('intermediates', 'representation', x)
    return nn.Dense(self.num_classes, name='head')(x)


class ToyLayer(nn.Module):
  @nn.compact
  def __call__(self, x):
    seen = jax.nn.softmax(x @ x.swapaxes(1, 2) / x.shape[-1])
    self.sow('intermediates', 'attention', seen[:, None])
    return sharding.constrain(x + nn.relu(nn.Dense(x.shape[-1], name='dense')(seen @ x)))


FAMILY = Family(
    Toy, {'toy_s8': Variant(Toy, {}, 0, 'this test')},
    rules=((r'.*/dense/kernel', P('fsdp', 'model')), (r'.*', P())),
    depth=((r'patches/.*', 0), (r'layer_(\d+)/.*', None), (r'.*', -1)),
    tiny=lambda fields: dict(patch_size=4, width=16, depth=2),
    grid=lambda model, size: Grid((size[0] // model.patch_size, size[1] // model.patch_size), 0, 0),
    attention={'attention': 'layer_{i}/attention'}, kernels=('patches/kernel',),
    facts=lambda model: dict(layers=model.depth, hidden=model.width))

TABLE = Table('toy', same('patches/{leaf}', 'layer_{i}/dense/{leaf}', 'head/{leaf}'),
              shown_by=r'layer_0/dense/kernel')


def shown(flat):
  if 'patches/kernel' not in flat:
    return None
  return dict(patch_size=flat['patches/kernel'].shape[0], width=flat['patches/kernel'].shape[3],
              depth=trees.numbers(flat, r'layer_(\d+)/'))


PUBLISHED = Published(FAMILY, (TABLE,), shown, formats=lambda model, to: dict(npz=TABLE).get(to))


@pytest.fixture(autouse=True)
def listed(monkeypatch):
  """The two lines with which a family is listed."""
  monkeypatch.setattr(models, 'FAMILIES', (*models.FAMILIES, FAMILY))
  monkeypatch.setattr(families, 'FAMILIES', (*families.FAMILIES, PUBLISHED))


def config(**overrides):
  spec = os.path.join(ROOT, 'tests', 'configs', 'tiny.py') + ':steps=6'
  c = config_lib.load(spec, {'optimizer.layer_decay': '.75', 'checkpoint.every': '6'})
  with c.unlocked():
    c.model = dict(name='toy_s8', patch_size=4, width=32, depth=2)
    c.update(overrides)
  return c


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """Returns the workdir of a run on one device."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(models, 'FAMILIES', (*models.FAMILIES, FAMILY))
    workdir = str(tmp_path_factory.mktemp('toy') / 'run')
    loop.train(config(mesh=dict(data=1, fsdp=1, model=1)), workdir)
  return workdir


def test_it_trains_alike_on_one_device_and_split_over_eight(trained, tmp_path):
  loop.train(config(mesh=dict(data=2, fsdp=2, model=2)), str(tmp_path))
  want, got = losses(trained), losses(str(tmp_path))
  assert want.keys() == got.keys() and max(want) == 6
  np.testing.assert_allclose([*got.values()], [*want.values()], rtol=1e-4)
  shape = jax.ShapeDtypeStruct((32, 64), np.float32)
  where, _ = sharding.shardings({'layer_0': {'dense': {'kernel': shape}}}, FAMILY.rules,
                                sharding.make_mesh(2, 2, 2))
  assert where['layer_0']['dense']['kernel'].spec == P('fsdp', 'model')


def test_its_layers_learn_at_rates_of_their_own():
  params = weights.init_shapes(models.create_model('toy_s8'), (16, 16), 3)
  found = layer_decay.scales(params, .5, models.family('toy_s8').depth)
  assert [found[f'{name}/bias'] for name in ('patches', 'layer_0/dense', 'layer_2/dense', 'head')] == [
      [.5 ** 4], [.5 ** 3], [.5], [1.]]


def test_it_has_a_smoke_form():
  c = config().copy_and_resolve_references().unlock()
  recipes.smoke(c)
  assert dict(c.model) == dict(name='toy_s8', patch_size=4, width=16, depth=2)


def test_it_is_written_and_read_and_known_by_its_file(trained, tmp_path, monkeypatch, capsys):
  model = models.create_model('toy_s8', num_classes=10)
  variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
  path, again = str(tmp_path / 'toy.npz'), str(tmp_path / 'again.npz')
  weights.export(path, model, variables)
  loaded = vit_jax.load(path, verbose=False)
  assert loaded.model == model
  jax.tree.map(np.testing.assert_array_equal, loaded.params, variables['params'])
  monkeypatch.setattr(sys, 'argv', ['convert', trained, again])
  convert.main()
  assert 'parameters to' in capsys.readouterr().out
  other = vit_jax.load('toy_s8', again, width=32, depth=2, patch_size=4, verbose=False)
  jax.tree.map(np.testing.assert_array_equal, other.params, vit_jax.load(trained).params)


def test_it_predicts_and_is_explored(trained, tmp_path, monkeypatch, capsys):
  image = str(tmp_path / 'one.png')
  Image.new('L', (16, 16), 200).save(image)
  monkeypatch.setattr(sys, 'argv', ['predict', trained, image, '--json'])
  predict.main()
  record, = json.loads(capsys.readouterr().out)
  assert len(record['predictions']) == 5
  predictor = vit_jax.load(trained)
  assert predictor.features([image]).maps[0].shape == (1, 4, 4, 32)
  page = open(explore.explore(trained, count=2)).read()
  for title in ('Curves', 'Filters of the patch embedding', 'Attention rollout', 'Confusions'):
    assert title in page, title


def test_the_tables_plan_it():
  c = config()
  with c.unlocked():
    c.data.source, c.data.test = 'cifar10', 'test'
  found = plan.make(c)
  assert found.grid == (4, 4) and found.task.facts(found)['layers'] == 2
  assert found.info.num_train == datasets.size('cifar10').splits['train']
  assert found.multiply_adds > 0 and 'toy_s8' in found.lines()[0]
