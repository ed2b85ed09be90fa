"""Cutting an image into patches."""

from vit_jax.errors import UserError


def grid_size(image_size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
  """Returns the (height, width) of an image in patches.

  Args:
    image_size: (height, width) in pixels.
    patch_size: (height, width) in pixels.

  Raises:
    UserError: when the patch size does not divide the image size; names the nearest that it does.
  """
  if image_size[0] % patch_size[0] or image_size[1] % patch_size[1]:
    low = tuple(max(n // p, 1) * p for n, p in zip(image_size, patch_size))
    high = tuple(-(-n // p) * p for n, p in zip(image_size, patch_size))
    raise UserError('image size {}x{} is not a multiple of the patch size {}x{}; the nearest sizes '
                    'are {}x{} and {}x{} (set resolution={}x{})'.format(
                        *image_size, *patch_size, *low, *high, *high))
  return image_size[0] // patch_size[0], image_size[1] // patch_size[1]
