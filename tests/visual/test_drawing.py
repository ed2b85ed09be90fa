"""Each drawing shows something, for every kind of input it promises to take."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vit_jax.errors import UserError
from vit_jax.visual import charts, drawing, galleries

RNG = np.random.default_rng(0)


def pixels(figure) -> np.ndarray:
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=50)
  return np.asarray(Image.open(buffer).convert('RGB'))


def assert_drawn(figure) -> np.ndarray:
  """Something other than white, and nothing cut off at the edge."""
  image = pixels(figure)
  assert (image != 255).any((0, 1)).all()
  edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
  assert (edge == 255).all()
  return image


def images(channels: int) -> list[np.ndarray]:
  return [RNG.integers(0, 256, size + (channels,), np.uint8) for size in ((28, 28), (20, 40))]


@pytest.mark.parametrize('shape', [(28, 16, 16, 3), (5, 4, 6, 1), (9, 8, 8, 4), (1, 2, 2, 3)])
def test_filters(shape):
  filters = RNG.random(shape)
  assert_drawn(drawing.draw_filters(filters))
  assert_drawn(drawing.draw_filters(filters, np.full(len(filters), .01)))


@pytest.mark.parametrize('grid', [(1, 1), (14, 14), (24, 24), (4, 10)])
def test_position_similarity(grid):
  assert_drawn(drawing.draw_position_similarity(RNG.uniform(-1, 1, grid + grid), 'trained'))


def test_of_a_large_grid_evenly_spaced_rows_are_shown():
  figure = drawing.draw_position_similarity(np.zeros((40, 20, 40, 20)), limit=14)
  shown = [int(label.get_text()) for label in figure.axes[0].get_yticklabels()]
  assert len(shown) == 14 and shown[0] == 1 and shown[-1] == 40
  assert set(np.diff(shown)) == {3}


def test_position_pair():
  before, after = np.zeros((4, 4, 4, 4)), np.ones((3, 6, 3, 6))
  assert_drawn(drawing.draw_position_pair(before, after))


@pytest.mark.parametrize('shape', [(12, 12), (1, 1)])
def test_attention_distance(shape):
  figure = drawing.draw_attention_distance(RNG.random(shape) * 100)
  assert_drawn(figure)
  assert len(figure.axes[0].collections[0].get_offsets()) == shape[0] * shape[1]


@pytest.mark.parametrize('count', [2, 13, 100])
def test_confusion(count):
  matrix = RNG.integers(0, 50, (count, count))
  figure = charts.draw_confusion(matrix, [f'$class \\{i} {{' for i in range(count)])
  assert_drawn(figure)
  named = any('class' in label.get_text() for label in figure.axes[0].get_yticklabels())
  assert named == (count <= 40)


def test_confusion_with_an_absent_class_and_with_wrong_names():
  assert_drawn(charts.draw_confusion(np.array([[3, 1], [0, 0]]), ['a', 'b']))
  with pytest.raises(UserError, match='3 class names'):
    charts.draw_confusion(np.eye(2, dtype=int), ['a', 'b', 'c'])


def test_curves():
  steps = np.arange(50)
  metrics = {'train/loss': (steps, RNG.random(50)), 'test/loss': (steps[:1], np.ones(1)),
             'test/accuracy': (steps, RNG.random(50)), 'train/learning_rate': (steps, steps / 50),
             'train/images_per_second': (steps, steps)}
  figure = charts.draw_curves(metrics)
  assert_drawn(figure)
  assert [axes.get_ylabel() for axes in figure.axes] == ['loss', 'accuracy', 'learning rate']
  assert_drawn(charts.draw_curves({'loss': (steps, np.full(50, np.nan))}))
  with pytest.raises(UserError, match='logged no loss'):
    charts.draw_curves({'train/images_per_second': (steps, steps)})


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('count', [2, 100])
def test_galleries(channels, count):
  shown, names = images(channels), [f'<b>$class {i}' * 5 for i in range(count)]
  probabilities = RNG.dirichlet(np.ones(count), 2)
  assert_drawn(galleries.draw_mistakes(shown, [0, 1], probabilities, names))
  assert_drawn(galleries.draw_predictions(shown, probabilities, names, names=['a.png', 'b.png']))
  assert_drawn(galleries.draw_predictions(shown[:1], probabilities, names, top_k=1))
  assert_drawn(galleries.draw_rollouts(shown, RNG.random((2, 7, 7)), ['a', '$b']))
  assert_drawn(galleries.draw_rollouts(shown[:1], RNG.random((1, 1, 3))))


@pytest.mark.parametrize('channels', [1, 3])
def test_an_overlay_is_brightest_where_the_model_looks(channels):
  attention_map = np.zeros((2, 3))
  attention_map[0, 2] = 1
  lit = galleries.overlay_rollout(np.full((40, 60, channels), 50, np.uint8), attention_map)
  assert lit.shape == (40, 60, 3) and lit.dtype == np.uint8
  brightness = lit.mean(-1)
  row, column = np.unravel_index(brightness.argmax(), brightness.shape)
  assert row < 20 and column >= 40


def test_what_is_no_image_is_told():
  with pytest.raises(UserError, match='1 or 3'):
    galleries.draw_predictions([np.zeros((4, 4, 2), np.uint8)], np.eye(2), ['a', 'b'])
  with pytest.raises(UserError, match='no images'):
    galleries.draw_mistakes([], [], np.zeros((0, 2)), ['a', 'b'])


def test_importing_loads_neither_matplotlib_nor_pillow_nor_jax():
  names = 'attention charts confusion curves drawing filters galleries page positions style'
  imports = ', '.join(f'vit_jax.visual.{name}' for name in names.split())
  heavy = '{"matplotlib", "PIL", "tensorflow", "jax"}'
  code = f'import sys, vit_jax; before = set(sys.modules); import {imports}; ' \
         f'print({heavy} & (set(sys.modules) - before))'
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert result.stdout.strip() == 'set()'


def test_drawing_changes_no_global_setting_and_opens_no_pyplot_figure():
  import matplotlib
  before = dict(matplotlib.rcParams)
  pixels(charts.draw_confusion(np.eye(3, dtype=int), 'abc'))
  assert dict(matplotlib.rcParams) == before
