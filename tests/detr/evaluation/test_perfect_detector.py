"""A detector that knows the truth scores 1.0, with damaged data, on any mesh."""

import functools
import json
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detr_jax.data import config as data_config, pipeline, sources
from detr_jax.evaluation.average_precision import AveragePrecision
from detr_jax.evaluation.panoptic_quality import PanopticQuality
from detr_jax.ops import boxes
from detr_jax.tasks.panoptic import Panoptic
from tests.conftest import ROOT
from tests.detr.data import coco
from vit_jax import sharding


def damage(root, folder, images):
  """Cuts the first of the images in two, and removes the others."""
  for number, image in enumerate(images):
    path = root / folder / f'{image}.png'
    content = path.read_bytes()
    path.unlink()
    if not number:
      path.write_bytes(content[:len(content) // 2])


def write(root, twice=()):
  """Writes eight images of two objects, and lists some of the images twice."""
  images = {i: (40, 60) for i in range(1, 9)}
  objects = [coco.box(10 * i + k, i, (5 + 30 * k, 4 + i, 20, 16), (1, 7)[(i + k) % 2])
             for i in images for k in range(2)]
  for split in ('train', 'val'):
    path = coco.write(root, split, images, objects)
  with open(path) as file:
    content = json.load(file)
  content['images'] += [image for image in content['images'] if image['id'] in twice]
  with open(path, 'w') as file:
    json.dump(content, file)


def config(root, canvas=(48, 64), **options):
  return data_config.detection_data(str(root), 4, (canvas,), train='train', test='val', on_error='skip',
                                    **options)


def detect(params, model_state, batch):
  """The truth of the batch as detections."""
  height, width = jnp.moveaxis(batch['original_size'].astype(jnp.float32), -1, 0)
  scale = jnp.stack([width, height, width, height], -1)[:, None]
  return dict(scores=jnp.where(batch['labels'] < 0, 0., .9), labels=jnp.maximum(batch['labels'], 0),
              boxes=boxes.to_xyxy(batch['boxes']) * scale)


def evaluate(root, mesh):
  """Returns the measures of the perfect detector on the data of a folder."""
  with jax.set_mesh(mesh):
    options = config(root)
    data = pipeline.build(options, 0, mesh)
    evaluator = AveragePrecision(detect, lambda: sources.ground_truth(options), data.info.category_ids)
    total, step = None, jax.jit(evaluator.step)
    for batch in data.splits['test']:
      total = evaluator.update(total, step({}, {}, batch))
    return evaluator.finish(total)


def test_damaged_and_missing_images_count_on_neither_side(tmp_path, capsys):
  write(tmp_path)
  damage(tmp_path, 'val', (3, 6))
  for mesh in (sharding.make_mesh(1, devices=jax.devices()[:1]), sharding.make_mesh(2, 1, 2)):
    found = evaluate(tmp_path, mesh)
    assert found['examples'] == 6 and found['ap'] == pytest.approx(1.) == found['ar_100']
  assert '2 of 8 images' in capsys.readouterr().err


def test_images_that_are_listed_twice_count_once(tmp_path):
  write(tmp_path, twice=(1, 2, 5, 8))
  found = evaluate(tmp_path, sharding.make_mesh(1, devices=jax.devices()[:1]))
  assert found['examples'] == 8 and found['ap'] == pytest.approx(1.)


PROCESS = '''
import sys
import jax
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 1)
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from tests.detr.evaluation import test_perfect_detector as test
from vit_jax import sharding
for options in (dict(data=2), dict(data=1, model=2)):
  found = test.evaluate(sys.argv[3], sharding.make_mesh(**options))
  assert found['examples'] == 6 and abs(found['ap'] - 1.) < 1e-6, found
'''


def test_damage_that_one_of_two_processes_meets(tmp_path):
  write(tmp_path)
  damage(tmp_path, 'val', (1, 2))
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  running = [subprocess.Popen([sys.executable, '-c', PROCESS, address, str(i), str(tmp_path)], cwd=ROOT,
                              text=True, stderr=subprocess.PIPE) for i in range(2)]
  said = [process.communicate(timeout=120)[1] for process in running]
  assert [process.returncode for process in running] == [0, 0], said
  assert sum('2 of 8 images' in text for text in said) == 1


def test_segments_of_damaged_images_count_on_neither_side(tmp_path, capsys):
  y, x = np.mgrid[:32, :32]
  images = {i: np.where(x < 8 + i, 1, 2) for i in range(1, 9)}
  coco.write_panoptic(tmp_path, 'val', images, {1: (1, False), 2: (200, False)})
  coco.write_panoptic(tmp_path, 'train', images, {1: (1, False), 2: (200, False)})
  damage(tmp_path, 'val', (2, 7))
  damage(tmp_path, 'panoptic_val', (4,))
  options = config(tmp_path, (32, 32), panoptic=True, masks=True)
  mesh = sharding.make_mesh(2, 1, 2)
  with jax.set_mesh(mesh):
    data = pipeline.build(options, 0, mesh)
    split = sources.open_source(options).split('val')
    picture = lambda row: (images[int(split.image_ids[row['index']])], [
        dict(id=1, label=0), dict(id=2, label=2)])
    task = Panoptic(None, data.info, None, None, open_split=lambda name: split, on_error='skip')
    evaluator = PanopticQuality(lambda params, state, batch: {}, picture,
                                functools.partial(task._truth, 'test'), data.info.classes,
                                data.info.category_ids, data.info.is_thing)
    total, step = None, jax.jit(evaluator.step)
    for batch in data.splits['test']:
      total = evaluator.update(total, step({}, {}, batch))
    assert len(total) == 5 and evaluator.finish(total)['pq'] == 1.
  assert 'panoptic_val/4.png' in capsys.readouterr().err
