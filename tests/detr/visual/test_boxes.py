"""Boxes and segments over images: what is coloured, and what stays."""

import numpy as np
import pytest

from detr_jax.visual import boxes, segments
from vit_jax.errors import UserError

CLASSES = ('cat', 'a dog with a very long name indeed')


@pytest.fixture
def grey():
  return np.full((60, 80, 1), 128, np.uint8)


def test_a_box_is_drawn_where_it_is_and_nothing_else_changes(grey):
  drawn = np.asarray(boxes.draw_boxes(grey, np.array([[10., 20., 70., 50.]]), [1], CLASSES))
  assert drawn.shape == (60, 80, 3)
  assert tuple(drawn[50, 40]) == tuple(drawn[30, 10]) == tuple(drawn[30, 70]) == boxes.colour(1)
  assert (drawn[22:48, 12:68] == 128).all() and (drawn[52:] == 128).all()


def test_names_stay_within_the_image(grey):
  corners = np.array([[70., 0., 79., 59.], [-30., 50., -1., 70.], [75., 55., 90., 70.]])
  drawn = np.asarray(boxes.draw_boxes(grey, corners, [0, 1, 0], CLASSES, [.1, .2, .3]))
  for number in (0, 1):
    assert (drawn == boxes.colour(number)).all(axis=-1).sum() > 50


def test_boxes_that_are_none_are_passed_over(grey):
  empty = np.array([[10., 10., 10., 30.], [np.nan] * 4, [30., 30., 20., 20.]])
  for corners, labels in ((empty, [0, 0, 0]), (np.zeros((0, 4)), [])):
    drawn = np.asarray(boxes.draw_boxes(grey, corners, labels, CLASSES))
    assert drawn.shape == (60, 80, 3) and (drawn == 128).all()


def test_colours_differ_and_their_text_is_legible():
  colours = [boxes.colour(i) for i in range(40)]
  assert len(set(colours)) == 40
  for ink in colours:
    assert abs(np.dot(np.subtract(boxes.text_colour(ink), ink), (.299, .587, .114))) > 80


def test_enlarged_images_keep_their_boxes_in_place(grey):
  image, moved = boxes.enlarged(grey, np.array([[10, 20, 70, 50]]), 160)
  assert image.shape == (120, 160, 3)
  np.testing.assert_allclose(moved, [[20, 40, 140, 100]])


def test_a_sheet_holds_all_pictures(grey):
  picture = boxes.draw_boxes(grey, np.zeros((0, 4)), [], CLASSES)
  sheet = np.asarray(boxes.sheet([picture] * 5, 2, gap=4))
  assert (sheet == 128).all(axis=-1).sum() == 5 * 60 * 80
  with pytest.raises(UserError, match='no images'):
    boxes.sheet([], 3)


def test_segments_are_coloured_and_void_stays_grey(grey):
  ids = np.zeros((60, 80), np.int32)
  ids[:30, :40], ids[30:, :40] = 3, 7
  found = [dict(id=3, label=0), dict(id=7, label=1)]
  drawn = segments.colour_segments(grey, ids, found)
  assert (drawn[:, 41:] == 128).all()
  np.testing.assert_allclose(drawn[5, 5], .45 * 128 + .55 * np.array(boxes.colour(0)), atol=1)
  assert (drawn[30, :40] == 255).all() and (drawn[:, 40] == 255).all()
  named = np.asarray(segments.draw_segments(grey, ids, found, CLASSES))
  assert (named == boxes.colour(1)).all(axis=-1).any()
