"""The picture of the matching's costs."""

import numpy as np
import pytest

from detr_jax.visual.matching import draw_costs


@pytest.mark.parametrize('queries', [20, 100])
def test_frames_stand_around_the_pairs_alone(queries):
  """A row per target, dark where the cost is low; a target without a query has no frame."""
  costs = np.random.default_rng(0).normal(size=(queries, 3))
  axes = draw_costs(costs, [7, -1, 2], ['cat', 'dog', '$x']).axes[0]
  assert [patch.get_xy() for patch in axes.patches] == [(6.5, -.5), (1.5, 1.5)]
  np.testing.assert_array_equal(axes.images[0].get_array(), costs.T)
  assert len(axes.texts) == (3 * queries if queries <= 30 else 0)
  assert [label.get_text() for label in axes.get_yticklabels()] == ['cat', 'dog', '$x']
