"""The pixels that a block draws from are those of its window, its neighbourhood or its kernel."""

import numpy as np
import pytest

from tests.models import tiny
from vit_jax import models
from vit_jax.visual import views


@pytest.mark.parametrize('name, fields, seen', [
    # One window of 3x3 patches of 4x4 pixels; then the shifted ones add those around it.
    ('swin_t', dict(width=16, depths=(2,), num_heads=(2,), window_size=3), [12 * 12, 24 * 24]),
    ('convnext_t', dict(widths=(16,), depths=(1,)), [28 * 28])])
def test_a_field_of_view_is_what_the_block_reads(name, fields, seen):
  model = models.create_model(name, num_classes=3, **fields)
  image = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
  found = views.fields_of_view(model, tiny.variables(model, (48, 48)), lambda x: x / 255., image,
                               models.family(model).blocks)
  assert [(view > views.FAINT * view.max()).sum() for view in found.values()] == seen
  assert views.draw(image, found) is not None


def test_neighbours_are_seen_and_nothing_else():
  model = models.create_model('nat_mini', num_classes=3, width=16, depths=(1,), num_heads=(2,),
                              kernel_size=3)
  image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
  view, = views.fields_of_view(model, tiny.variables(model, (64, 64)), lambda x: x / 255., image,
                               models.family(model).blocks).values()
  rows, columns = np.nonzero(view > views.FAINT * view.max())
  # 3x3 entries of stride 4 around (8, 8), each of 7x7 pixels (two 3x3 convolutions of stride 2).
  assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 39, 25, 39)
