"""A new family of detectors is one record and one line: training, conversion, pictures work for it."""

import dataclasses
import json
import os
import sys
from typing import ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict
from jax.sharding import PartitionSpec as P

from detr_jax import models, recipes
from detr_jax import weights as detector_weights
from detr_jax.data.config import detection_data
from detr_jax.data.sources.digit_scenes import DigitScenes
from detr_jax.models import positions
from detr_jax.models.family import Head
from detr_jax.ops import boxes as box_ops
from detr_jax.weights import families
from detr_jax.weights.families.base import PublishedDetector
from tests.training.test_loop import losses
import vit_jax
from vit_jax import convert, explore, predict
from vit_jax import config as config_lib
from vit_jax import models as backbones
from vit_jax.data import images
from vit_jax.models.variant import Variant
from vit_jax.training import loop
from vit_jax.weights.families.rows import same
from vit_jax.weights.fit import Rules
from vit_jax.weights.table import Table


@flax.struct.dataclass
class Cells:
  logits: jax.Array  # [batch, cells, classes]
  boxes: jax.Array   # [batch, cells, 4]


class CellDetector(nn.Module):
  """Each cell of the backbone's last map says what object has its centre there."""
  num_classes: int = 91
  backbone: str = 'resnet18'
  backbone_fields: FrozenDict = FrozenDict()

  @nn.nowrap
  def check_canvases(self, canvases):
    """Takes any size."""

  def setup(self):
    fields = {**self.backbone_fields, 'num_classes': None}
    self.features = backbones.create_model(self.backbone, **fields).clone(parent=self, name='backbone')
    self.classes, self.places = nn.Dense(self.num_classes), nn.Dense(4)

  def encode(self, image, size=None, train=False):
    canvas = image.shape[1:3]
    return self.features(image, train, None if size is None else positions.valid(size, canvas, canvas))

  def __call__(self, image, size=None, train=False, targets=None):
    x = self.encode(image, size, train).maps[-1]
    rows, columns = x.shape[1:3]
    y, x_ = jnp.mgrid[:rows, :columns]
    move = nn.tanh(self.places(x)) * .5
    scale = jnp.asarray([columns, rows], jnp.float32)
    size = jnp.asarray([image.shape[1:3]] * len(image)) if size is None else size
    shown = size[:, None, None, ::-1] / jnp.asarray(image.shape[2:0:-1])  # share of the canvas
    centre = (jnp.stack([x_, y], -1) + .5 + move[..., :2]) / scale / shown
    boxes = jnp.concatenate([centre, nn.sigmoid(move[..., 2:])], -1)
    flat = lambda a: a.reshape(len(a), -1, a.shape[-1])
    return Cells(flat(self.classes(x)), flat(boxes))


@dataclasses.dataclass(frozen=True)
class CellLosses:
  """The nearest cell of each target learns its class and its box."""
  box_coef: float = 1.
  SHARES: ClassVar = ('images',)

  def shares(self, batch, slots):
    return dict(images=batch['mask'])

  def __call__(self, outputs, targets, share):
    real = (targets['labels'] >= 0) * share['images'][:, None]
    apart = jnp.abs(outputs.boxes[:, :, None, :2] - targets['boxes'][:, None, :, :2]).sum(-1)
    cell = apart.argmin(1)
    found = jnp.take_along_axis(outputs.boxes, cell[..., None], 1)
    boxes = (jnp.abs(found - targets['boxes']).sum(-1) * real).sum()
    put = lambda cell, label, real, logits: jnp.zeros_like(logits).at[cell, label].add(real)
    wanted = jax.vmap(put)(cell, jnp.maximum(targets['labels'], 0), real, outputs.logits)
    each = (jax.nn.softplus(outputs.logits) - jnp.minimum(wanted, 1.) * outputs.logits).mean((1, 2))
    count = jnp.maximum(share['images'].sum(), 1.)
    total = ((each * share['images']).sum() + self.box_coef * boxes) / count
    return total, {'loss_box': (boxes, jnp.maximum(real.sum(), 1.))}


def decode(model, outputs, original_size, count):
  scores = jax.nn.sigmoid(outputs.logits)
  height, width = jnp.moveaxis(original_size.astype(jnp.float32), -1, 0)
  scale = jnp.stack([width, height, width, height], -1)[:, None]
  cells = jnp.broadcast_to(jnp.arange(scores.shape[1]), scores.shape[:2])
  return dict(scores=scores.max(-1), labels=scores.argmax(-1).astype(jnp.int32), queries=cells,
              boxes=box_ops.to_xyxy(outputs.boxes) * scale)


FAMILY = Head(
    CellDetector, {'cells_r18': Variant(CellDetector, dict(backbone='resnet18'), 0, 'this test')},
    rules=((r'.*/conv\w+/kernel', P(None, None, None, 'fsdp')), (r'.*', P())),
    tiny=lambda fields: dict(backbone_fields=dict(norm='group', width=32, depths=(1, 1))),
    losses=CellLosses, decode=decode, threshold=lambda model: .01)
TABLE = Table('cells', same('classes/{leaf}', 'places/{leaf}', 'backbone/{a}/{leaf}',
                            'backbone/{a}/{b}/{c}/{leaf}'), shown_by='places/kernel')
PUBLISHED = PublishedDetector(
    FAMILY, (TABLE,), lambda flat: {} if 'places/kernel' in flat else None,
    formats=lambda model, to: TABLE if to == 'detr' else None,
    fields=lambda model, source: dict(num_classes=source.flat['classes/bias'].size),
    canvases=((64, 64),), rules=Rules(('classes/',), ('classes/',), ('classes/',)))


@pytest.fixture(autouse=True)
def listed(monkeypatch):
  """The two lines with which a family is listed."""
  monkeypatch.setattr(models, 'FAMILIES', (*models.FAMILIES, FAMILY))
  monkeypatch.setattr(families, 'FAMILIES', (*families.FAMILIES, PUBLISHED))


def config(**mesh):
  c = config_lib.base()
  c.total_steps, c.task = 3, dict(name='detr_jax.tasks.detection.Detection', box_coef=2.)
  c.model = dict(name='cells_r18', backbone_fields=dict(norm='group', width=32, depths=(1, 1)))
  c.data = detection_data('digit_scenes', 8, ((64, 64),), train='train[:16]', test='test[:4]')
  c.optimizer, c.schedule = dict(name='adamw'), dict(name='cosine', peak=1e-3)
  c.mesh.update(mesh)
  c.log.every = c.checkpoint.every = 1
  return c.lock()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(models, 'FAMILIES', (*models.FAMILIES, FAMILY))
    workdir = str(tmp_path_factory.mktemp('cells') / 'run')
    results = loop.train(config(data=1), workdir)
  return workdir, results


def test_it_trains_alike_on_one_device_and_split_over_eight(trained, tmp_path):
  workdir, results = trained
  assert results['finished'] and {'test_ap', 'test_ap50'} <= set(results)
  loop.train(config(data=2, fsdp=2, model=2), str(tmp_path))
  want, got = losses(workdir), losses(str(tmp_path))
  np.testing.assert_allclose([*got.values()], [*want.values()], rtol=1e-3)


def test_its_options_are_those_of_its_losses(tmp_path):
  c = config(data=1).copy_and_resolve_references().unlock()
  c.task.giou_coef = 1.
  with pytest.raises(vit_jax.UserError, match="unknown option of the task: 'giou_coef'"):
    loop.train(c, str(tmp_path / 'run'))
  recipes.smoke(c)
  assert c.model.backbone_fields.depths == (1, 1) and c.total_steps == 30


def test_it_detects_and_is_explored(trained, tmp_path, monkeypatch, capsys):
  image, picture = str(tmp_path / 'scene.png'), str(tmp_path / 'out.png')
  images.from_array(images.to_array(DigitScenes().split('test').read(0).image())).save(image)
  monkeypatch.setattr(sys, 'argv', ['predict', trained[0], image, '--json', '--threshold=0',
                                    f'--out={picture}'])
  predict.main()
  record, = json.loads(capsys.readouterr().out)
  assert len(record['detections']) == 64 and os.path.exists(picture)
  assert vit_jax.load(trained[0]).features([image])[0].maps[-1].shape[:3] == (1, 8, 8)
  page = open(explore.explore(trained[0], count=2)).read()
  assert 'Curves' in page and 'Detections' in page and 'Decoder attention' not in page


def test_it_is_written_and_read_and_known_by_its_file(trained, tmp_path, monkeypatch, capsys):
  path = str(tmp_path / 'cells.safetensors')
  monkeypatch.setattr(sys, 'argv', ['convert', trained[0], path, '--to=detr'])
  convert.main()
  own = vit_jax.load(trained[0], verbose=False)
  assert detector_weights.candidates(path) == ['cells_r18']
  again = vit_jax.load(path, backbone_fields=own.model.backbone_fields, verbose=False)
  assert again.model == own.model
  jax.tree.map(np.testing.assert_array_equal, again.params, own.params)
