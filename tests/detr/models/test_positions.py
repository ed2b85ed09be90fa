"""Sines of a map's entries, at any scale."""

import numpy as np
import pytest

from detr_jax.models import positions
from tests.detr.models import tiny
from tests.models.tiny import apply


@pytest.mark.parametrize('scale', [positions.TURN, 1., None])
def test_sines_of_counts_that_are_stretched_to_the_scale(scale):
  mask = np.zeros((1, 3, 5), bool)
  mask[:, :2, :4] = True  # an image of 2x4 entries on a canvas of 3x5
  got = np.asarray(positions.sine(mask, 8, 100., scale))
  for i in range(2):
    for j in range(4):
      y, x = (i + 1., j + 1.) if scale is None else (scale * (i + 1) / 2, scale * (j + 1) / 4)
      want = [wave(n / turn) for n in (y, x) for turn in (1., 10.) for wave in (np.sin, np.cos)]
      np.testing.assert_allclose(got[0, i, j], want, atol=1e-5)


def test_the_scale_is_a_field_of_the_detector():
  plain, other = (tiny.detr(**options) for options in (dict(), dict(position_scale=1.)))
  assert plain.position_scale == positions.TURN
  variables = tiny.variables(plain)
  logits = [apply(model, variables, tiny.images()).logits for model in (plain, other)]
  assert np.abs(logits[0] - logits[1]).max() > 1e-3
