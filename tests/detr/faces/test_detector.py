"""What a detector gives for a file is what evaluation counts."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import vit_jax
from detr_jax.data import sources
from vit_jax import sharding, task as task_lib, weights
from vit_jax.errors import UserError


@pytest.fixture(scope='module')
def detector(untrained):
  return vit_jax.load(untrained)


@pytest.fixture(scope='module')
def split(untrained):
  data = weights.run_config(untrained)['data']
  return sources.open_source(data).split(data['test'])


def test_what_is_detected_is_what_is_evaluated(detector, split, untrained):
  config = ConfigDict(weights.run_config(untrained))
  mesh = sharding.make_mesh(1, devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    data = task_lib.find(config).open_data(config.data, 0, mesh)
    batches = list(data.splits['test'])
  assert len(batches) == len(split)
  for row, batch in enumerate(batches):
    assert int(batch['index'][0]) == row
    want = {key: np.asarray(value)[0] for key, value in detector._detect(
        detector._params, detector._state, jax.device_get(batch)).items()}
    found = detector.detect(split.read(row))
    assert found.size == (64, 64)
    order = np.argsort(-want['scores'], kind='stable')
    np.testing.assert_array_equal(found.queries, order)
    np.testing.assert_allclose(found.scores, want['scores'][order], atol=1e-5)
    np.testing.assert_allclose(found.boxes, np.clip(want['boxes'][order], 0, 64), atol=1e-3)


def test_boxes_of_a_file_are_in_its_own_pixels(detector, tmp_path):
  rng = np.random.default_rng(0)
  Image.fromarray(rng.integers(0, 255, (100, 200, 3), np.uint8)).save(tmp_path / 'wide.png')
  example = detector.prepare(str(tmp_path / 'wide.png'))
  batch = detector.batch(example)
  assert batch['image'].shape == (1, 48, 96, 3)  # the canvas that suits it
  assert batch['size'].tolist() == [[48, 96]] and batch['original_size'].tolist() == [[100, 200]]
  found, look = detector.detect(example), detector.look(example)
  assert found.size == (100, 200) and (np.diff(found.scores) <= 0).all()
  scale = np.array([200 / 96, 100 / 48] * 2)
  np.testing.assert_allclose(found.boxes, np.clip(look.boxes[found.queries] * scale, 0,
                                                  [200, 100, 200, 100]), atol=1e-3)
  few = detector.detect(example, threshold=float(found.scores[1]))
  assert len(few.scores) == 2
  assert len(detector.detect(example, nms=0.).scores) < len(found.scores)
  with pytest.raises(UserError, match='none.png'):
    detector.prepare(str(tmp_path / 'none.png'))


def test_a_look_shows_the_last_layers(detector, split):
  look = detector.look(split.read(0))
  assert look.image.shape == (48, 48, 3) and look.canvas == (64, 64) and look.grid == (8, 8)
  assert look.masks.shape == (6, 64, 64) and look.logits.shape == (6, 11)
  for rows, count in ((look.encoder, 64), (look.decoder, 6)):
    assert rows.shape == (count, 64)
    np.testing.assert_allclose(rows.sum(-1), 1., rtol=1e-5)
    assert (rows.reshape(-1, 8, 8)[:, 6:] == 0).all()  # nothing looks at the padding
  shares = detector.boxes(split.read(0))
  np.testing.assert_allclose(look.boxes[:, 2:] - look.boxes[:, :2], 48 * shares[:, 2:], atol=1e-4)
