"""The grid of patches, and sizes that have none."""

import pytest

from vit_jax.errors import UserError
from vit_jax.layers.patches import grid_size


@pytest.mark.parametrize('image, patch, grid', [
    ((224, 224), (16, 16), (14, 14)), ((224, 384), (16, 16), (14, 24)), ((32, 30), (8, 5), (4, 6)),
    ((16, 16), (16, 16), (1, 1))])
def test_grid(image, patch, grid):
  assert grid_size(image, patch) == grid


@pytest.mark.parametrize('image, patch, low, high', [
    ((250, 250), (16, 16), '240x240', '256x256'), ((224, 250), (16, 16), '224x240', '224x256'),
    ((10, 10), (16, 16), '16x16', '16x16'), ((384, 384), (14, 14), '378x378', '392x392')])
def test_a_size_that_the_patch_does_not_divide_names_the_nearest(image, patch, low, high):
  with pytest.raises(UserError) as error:
    grid_size(image, patch)
  assert str(error.value) == (
      f'image size {image[0]}x{image[1]} is not a multiple of the patch size '
      f'{patch[0]}x{patch[1]}; the nearest sizes are {low} and {high} (set resolution={high})')
