"""What each process has found reaches all of them."""

import contextlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from detr_jax import models
from detr_jax.data.info import DetectionInfo
from detr_jax.evaluation import collecting
from detr_jax.tasks.detection import Detection
from tests.conftest import ROOT
from tests.detr.models import tiny
from vit_jax import sharding

PROCESS = '''
import sys
import jax, numpy as np
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 2)
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from detr_jax.evaluation import collecting
from vit_jax import sharding
mesh = sharding.make_mesh(data=2, model=2)
values = np.arange(8.)
place = lambda x: sharding.place(x, jax.NamedSharding(mesh, sharding.BATCH))
with jax.set_mesh(mesh):
  batch = dict(index=place(np.arange(8)), mask=place((values < 5).astype(np.float32)))
  outputs = jax.jit(lambda x, batch: collecting.split(dict(value=3 * x), batch))(place(values), batch)
  own = [[int(row['index']), float(row['value']) / 7] for row in collecting.local_rows(outputs)]
  joined = collecting.join(own)
assert 0 < len(own) < 5, own
assert sorted(joined) == [[i, 3. * i / 7] for i in range(5)], joined
'''


def detections(mesh=None):
  """Returns {index: what a detector with masks finds} of the rows of seven images on this process."""
  model = tiny.detr(masks=True, width=128, num_heads=8, decoder_layers=1, num_queries=3,
                    backbone_fields=dict(depths=(1, 1, 1, 1)))
  task = Detection(model, DetectionInfo('', ('a', 'b', 'c'), 3, (32, 48)), None, None)
  image = np.random.default_rng(0).integers(0, 255, (8, 32, 48, 3)).astype(np.uint8)
  batch = dict(image=image, size=np.int32([[32, 48], [20, 48]] * 4), index=np.arange(8),
               original_size=np.int32([[64, 96], [40, 96]] * 4), mask=np.float32(np.arange(8) < 7))
  variables = jax.device_get(tiny.variables(model))

  def found(variables, batch):
    params, state = variables['params'], {'batch_stats': variables['batch_stats']}
    return collecting.split(task.detect_masks(params, state, batch), batch)

  if mesh is not None:
    where, _ = sharding.shardings(variables, models.family(model).rules, mesh)
    variables = jax.tree.map(sharding.place, variables, where)
    batch = {key: sharding.place(value, jax.NamedSharding(mesh, sharding.BATCH))
             for key, value in batch.items()}
  with jax.set_mesh(mesh) if mesh is not None else contextlib.nullcontext():
    with jax.default_matmul_precision('highest'):
      return {int(row['index']): row for row in collecting.local_rows(jax.jit(found)(variables, batch))}


def assert_same(rows, want):
  for index, row in rows.items():
    for key, value in row.items():
      np.testing.assert_allclose(value, want[index][key], rtol=1e-3, atol=1e-3, err_msg=key)


@pytest.mark.parametrize('axes', [(2, 2, 2), (1, 1, 8), (4, 1, 2)])
def test_a_detector_that_is_split_over_devices_finds_what_one_device_finds(axes):
  want, got = detections(), detections(sharding.make_mesh(*axes))
  assert sorted(got) == sorted(want) == list(range(7))
  assert_same(got, want)


SPLIT = '''
import sys
import jax
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 1)
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from detr_jax.evaluation import collecting
from tests.detr.evaluation import test_collecting as test
from vit_jax import sharding
own = test.detections(sharding.make_mesh(data=1, model=2))
test.assert_same(own, test.detections())
found = collecting.join(sorted(own))
assert found == list(range(7)), found
'''


@pytest.mark.parametrize('program', [PROCESS, SPLIT], ids=['batch', 'model'])
def test_two_processes_hold_what_both_found(program):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  running = [subprocess.Popen([sys.executable, '-c', program, address, str(i)], cwd=ROOT, text=True,
                              stderr=subprocess.PIPE) for i in range(2)]
  for process in running:
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def test_padding_is_left_out_and_every_example_comes_once():
  mesh = sharding.make_mesh(data=2, fsdp=2, model=2)
  where = jax.NamedSharding(mesh, sharding.BATCH)
  batch = dict(index=np.arange(8), mask=np.float32([1, 1, 0, 1, 1, 1, 1, 0]))
  with jax.set_mesh(mesh):
    batch = jax.device_put(batch, where)
    outputs = jax.jit(lambda batch: collecting.split(dict(value=batch['index'] ** 2), batch))(batch)
  rows = list(collecting.local_rows(outputs))
  assert [int(row['index']) for row in rows] == [0, 1, 3, 4, 5, 6]
  assert [int(row['value']) for row in rows] == [0, 1, 9, 16, 25, 36]
  assert collecting.join([1.1, {'a': [2]}]) == [1.1, {'a': [2]}] and collecting.join([]) == []
