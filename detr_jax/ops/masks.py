"""Masks: eight pixels in a byte, and the two ways in which PyTorch resizes them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def pack(masks: np.ndarray) -> np.ndarray:
  """Returns masks `[..., W]` on the host as bytes `[..., ceil(W / 8)]`, the first pixel highest."""
  return np.packbits(np.asarray(masks, bool), axis=-1)


def unpack(packed: jax.Array, width: int) -> jax.Array:
  """Returns bool masks `[..., width]` on the device, of what `pack` made of them."""
  bits = packed[..., None] >> jnp.arange(7, -1, -1, dtype=jnp.uint8) & 1
  return bits.reshape(*packed.shape[:-1], -1)[..., :width].astype(bool)


def bilinear(images: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Returns `[..., h, w]` resized to `[..., *size]`, as float32, between the centres of pixels.

  There is no low-pass filter, so that `torch.nn.functional.interpolate(mode='bilinear')` does the same.
  """
  shape = (*images.shape[:-2], *size)
  return jax.image.resize(images.astype(jnp.float32), shape, 'linear', antialias=False)


def resized(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Returns `[..., h, w]` as `[..., *size]`, by the rule of `nearest`."""
  rows, columns = (nearest(int(old), int(new)) for old, new in zip(values.shape[-2:], size))
  return values[..., rows, :][..., columns]


def nearest(old: int, new: int) -> np.ndarray:
  """Returns which of `old` pixels each of `new` pixels shows: floor(i * old / new), in float32.

  That is `torch.nn.functional.interpolate(mode='nearest')`; `jax.image.resize` shows the pixel at the
  centre of each new one instead.
  """
  scale = np.float32(old) / np.float32(new)
  found = np.floor(np.arange(new, dtype=np.float32) * scale).astype(np.int32)
  return np.minimum(found, old - 1)
