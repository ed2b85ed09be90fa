"""Attention over the image, and what queries have specialised in."""

import numpy as np
import pytest

from detr_jax.visual import attention, queries


def test_attention_to_one_token_lights_its_place():
  grid, canvas, size = (4, 6), (64, 96), (48, 70)
  rows = np.zeros((2, 24))
  for i, (row, column) in enumerate(((1, 2), (2, 0))):
    token = attention.token_at((column * 16 + 5., row * 16 + 9.), grid, canvas)
    assert token == row * 6 + column
    rows[i, token] = .7
  maps = attention.over_image(rows, grid, canvas, size)
  assert maps.shape == (2, *size) and maps.max() == pytest.approx(1.)
  for found, (row, column) in zip(maps, ((1, 2), (2, 0))):
    y, x = np.unravel_index(found.argmax(), size)
    assert row * 16 <= y < row * 16 + 16 and column * 16 <= x < column * 16 + 16
  assert attention.token_at((96., 64.), grid, canvas) == 23  # the far corner belongs to the last one


def test_points_lie_in_different_objects_and_within_the_image():
  boxes = [[10, 10, 30, 30], [11, 9, 31, 32], [60, 40, 200, 120]]
  points = attention.reference_points(np.array(boxes), (100, 80), 4)
  np.testing.assert_allclose(points, [[20, 20], [79, 80], [20, 25], [60, 25]])
  assert attention.reference_points(np.zeros((0, 4)), (100, 80), 9).shape == (9, 2)


def test_colours_tell_size_and_shape():
  small, wide, tall = np.array([[.5, .5, .05, .05], [.5, .5, .9, .2], [.5, .5, .2, .9]])
  assert queries.box_colours(np.stack([small, wide, tall])).argmax(-1).tolist() == [1, 0, 2]
  assert queries.box_colours(np.zeros((2, 3, 4))).shape == (2, 3, 3)


@pytest.mark.parametrize('count, rows', [(3, 1), (25, 2)])
def test_every_query_has_its_own_axes(count, rows):
  boxes = np.random.default_rng(0).uniform(.1, .9, (5, count, 4))
  figure = queries.draw_query_boxes(boxes, count=20)
  shown = [axes for axes in figure.axes if axes.collections]
  assert len(shown) == min(count, 20)
  np.testing.assert_allclose(shown[1].collections[0].get_offsets(), boxes[:, 1, :2])
  assert len({round(axes.get_position().y0, 3) for axes in shown}) == rows
