"""What each process has found reaches all of them."""

import socket
import subprocess
import sys

import jax
import numpy as np

from detr_jax.evaluation import collecting
from tests.conftest import ROOT
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


def test_two_processes_hold_what_both_found():
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  running = [subprocess.Popen([sys.executable, '-c', PROCESS, address, str(i)], cwd=ROOT, text=True,
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
