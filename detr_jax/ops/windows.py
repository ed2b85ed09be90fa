"""Segmentation of images of any size: windows, scales and mirror images (Segmenter's `inference`)."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vit_jax.layers.resizing import rescaled
from vit_jax.errors import UserError

Predict = Callable[[jax.Array], jax.Array]  # images [batch, h, w, c] -> logits [batch, h, w, classes]


def sliding(predict: Predict, images: jax.Array, sizes: jax.Array, window: int, stride: int
            ) -> jax.Array:
  """Returns the mean of the logits of all windows that hold a pixel, `[batch, h, w, classes]`.

  Windows stand every `stride` pixels, the last ones flush with the border; all have one static shape.

  Args:
    predict: of windows `[batch, window, window, c]`.
    images: `[batch, h, w, c]`, at the upper left of the canvas.
    sizes: int `[batch, 2]`, (height, width) of the images, none below `window`.
    window, stride: pixels.
  """
  counts = [1 + max(-(-(n - window) // stride), 0) for n in images.shape[1:3]]
  steps = jnp.stack(jnp.meshgrid(*map(jnp.arange, counts), indexing='ij'), -1).reshape(-1, 2)
  last = sizes - window
  shape = (*images.shape[:3], jax.eval_shape(predict, jax.ShapeDtypeStruct(
      (len(images), window, window, images.shape[-1]), images.dtype)).shape[-1])

  def add(kept, step):
    start = jnp.minimum(step * stride, last)
    # A window that would begin behind the one that is flush with the border was there already.
    new = jnp.all((step == 0) | ((step - 1) * stride < last), -1)[:, None, None, None]
    cut = lambda x, at: jax.lax.dynamic_slice(x, (at[0], at[1], 0), (window, window, x.shape[-1]))
    logits = predict(jax.vmap(cut)(images, start))
    put = lambda x, y, at: jax.lax.dynamic_update_slice(x, cut(x, at) + y, (at[0], at[1], 0))
    total, count = kept
    return (jax.vmap(put)(total, logits * new, start),
            jax.vmap(put)(count, jnp.broadcast_to(new, (*logits.shape[:3], 1)) * 1., start)), None

  (total, count), _ = jax.lax.scan(add, (jnp.zeros(shape), jnp.zeros((*shape[:3], 1))), steps)
  return total / jnp.maximum(count, 1.)


@dataclasses.dataclass(frozen=True)
class Inference:
  """How an image of any size becomes a map of its size.

  Attributes:
    short_side, max_size: to which an image is resized first: the shorter side, and a bound of the
      longer; 0: it stays.
    window, stride: pixels of the windows; 0: the whole image at once.
    scales: of the resized image; the probabilities of all are averaged; (): 1 alone.
    flip: whether each scale is seen mirrored too.
  """
  short_side: int = 0
  max_size: int = 0
  window: int = 0
  stride: int = 0
  scales: tuple[float, ...] = ()
  flip: bool = False

  def __post_init__(self):
    object.__setattr__(self, 'scales', tuple(map(float, self.scales)) or (1.,))
    if min(self.scales) <= 0.:
      raise UserError(f'task.inference.scales={self.scales} must be positive numbers')
    if self.window and not 0 < (self.stride or self.window) <= self.window:
      raise UserError(f'task.inference.stride={self.stride} must lie between 1 and window={self.window}')

  def wanted(self, sizes, scale: float):
    """Returns the (height, width) `[..., 2]` that images of such sizes are resized to."""
    sizes = jnp.asarray(sizes)
    short, long = sizes.min(-1, keepdims=True), sizes.max(-1, keepdims=True)
    if self.short_side:
      factor = scale * self.short_side / short
      if self.max_size:
        factor = jnp.minimum(factor, scale * self.max_size / long)
    else:
      factor = jnp.full(short.shape, scale)
    return jnp.maximum((sizes * factor + .5).astype(jnp.int32), 1)

  def enlarged(self, sizes):
    """Returns the sizes, and where the shorter side is below the window, those with it as the window."""
    if not self.window:
      return sizes
    short = sizes.min(-1, keepdims=True)
    larger = jnp.where(sizes == short, self.window,
                       (sizes / short * self.window + 1e-4).astype(jnp.int32))
    return jnp.where(short < self.window, larger, sizes)

  def canvas(self, canvas: tuple[int, int], multiple: int, scale: float) -> tuple[int, int]:
    """Returns what holds every resized image of a size above `canvas - multiple` and up to `canvas`."""
    corners = [(max(canvas[0] - a, 1), max(canvas[1] - b, 1))
               for a in (0, multiple - 1) for b in (0, multiple - 1)]
    with jax.ensure_compile_time_eval():
      found = self.enlarged(self.wanted(jnp.asarray(corners), scale)).max(0)
      return tuple(int(n) + (multiple > 1) for n in found)

  def probabilities(self, predict: Predict, images: jax.Array, sizes: jax.Array, multiple: int = 1
                    ) -> jax.Array:
    """Returns float32 `[batch, height, width, classes]` of every pixel of the images' own size.

    Args:
      predict: of images, or of windows.
      images: float `[batch, height, width, c]`, normalised, at the upper left of a canvas.
      sizes: int `[batch, 2]`, (height, width) of the images in it.
      multiple: the images are at most so much smaller than the canvas, less one pixel.
    """
    total = 0.
    for scale in self.scales:
      canvas = self.canvas(images.shape[1:3], multiple, scale)
      first = self.wanted(sizes, scale)
      for mirrored in (False, True)[:1 + self.flip]:
        image = rescaled(images, sizes, first, canvas, mirrored)
        total += self.of_resized(predict, image, first, sizes, images.shape[1:3], mirrored)
    return total / (len(self.scales) * (1 + self.flip))

  def of_resized(self, predict: Predict, images: jax.Array, sizes: jax.Array, original: jax.Array,
                 canvas: tuple[int, int], mirrored: bool = False) -> jax.Array:
    """Returns probabilities of the original size, of images that were resized, and perhaps mirrored."""
    larger = self.enlarged(sizes)
    if self.window:
      factor = max(self.window / min(images.shape[1:3]), 1.)
      room = tuple(math.ceil(n * factor) for n in images.shape[1:3])
      images = rescaled(images, sizes, larger, room)
      logits = sliding(predict, images, larger, self.window, self.stride or self.window)
    else:
      logits = predict(images)
    logits = rescaled(logits.astype(jnp.float32), larger, original, canvas, mirrored)
    return jax.nn.softmax(logits, axis=-1)

