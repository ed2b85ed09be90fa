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
  """Returns the mean of the logits of all windows that hold a pixel, `[batch, h, w, classes]`; see
  `summed`."""
  return _mean(*summed(predict, images, sizes, window, stride))


def _mean(total: jax.Array, count: jax.Array) -> jax.Array:
  return total / jnp.maximum(count, 1.)


def summed(predict: Predict, images: jax.Array, sizes: jax.Array, window: int, stride: int
           ) -> tuple[jax.Array, jax.Array]:
  """Returns the sum of the logits of all windows that hold a pixel, `[batch, h, w, classes]`, and the
  number of these windows, `[batch, h, w, 1]`.

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
  return total, count


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

  def classes(self, predict: Predict, images: jax.Array, sizes: jax.Array, multiple: int = 1
              ) -> jax.Array:
    """Returns the likeliest class of every pixel, int32 `[batch, height, width]`; as `probabilities`.

    Of one view, it is that of the largest logit: the probabilities are never made.
    """
    if len(self.scales) > 1 or self.flip:
      return self.probabilities(predict, images, sizes, multiple).argmax(-1).astype(jnp.int32)
    first, canvas = self.wanted(sizes, self.scales[0]), images.shape[1:3]
    image = _resized(images, sizes, first, self.canvas(canvas, multiple, self.scales[0]))
    total, count, larger = self.logits(predict, image, first)
    back = lambda total, count: largest(rescaled(_mean(total, count), larger, sizes, canvas))
    if total.shape[1] < canvas[0] or total.shape[2] < canvas[1]:
      return back(total, count)
    # The windows of a pixel are as many for each class: the largest sum is the largest mean.
    same = lambda total, count: largest(total[:, :canvas[0], :canvas[1]])
    return jax.lax.cond((larger == sizes).all(), same, back, total, count)

  def logits(self, predict: Predict, images: jax.Array, sizes: jax.Array
             ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns sums of logits and the number of summands, see `summed`, of images that were resized, then
    enlarged to a window at least; and the sizes of the images in them."""
    larger = self.enlarged(sizes)
    if not self.window:
      return predict(images).astype(jnp.float32), jnp.ones(()), larger
    factor = max(self.window / min(images.shape[1:3]), 1.)
    room = tuple(math.ceil(n * factor) for n in images.shape[1:3])
    images = _resized(images, sizes, larger, room)
    return *summed(predict, images, larger, self.window, self.stride or self.window), larger

  def of_resized(self, predict: Predict, images: jax.Array, sizes: jax.Array, original: jax.Array,
                 canvas: tuple[int, int], mirrored: bool = False) -> jax.Array:
    """Returns probabilities of the original size, of images that were resized, and perhaps mirrored."""
    total, count, larger = self.logits(predict, images, sizes)
    logits = rescaled(_mean(total, count), larger, original, canvas, mirrored)
    return jax.nn.softmax(logits, axis=-1)


LANES = 16


def largest(x: jax.Array) -> jax.Array:
  """Returns the index of the largest value along the last axis, the first of equal ones, int32.

  By slices of 16 classes: XLA's CPU compiler makes `argmax` of 150 classes of 480x640 pixels in 166 ms,
  and this in 43.
  """
  count = x.shape[-1]
  width = min(LANES, count)
  best, found = x[..., :width], jnp.broadcast_to(jnp.arange(width), (*x.shape[:-1], width))
  for first in range(width, count, width):
    first = min(first, count - width)
    new = x[..., first:first + width] > best
    best = jnp.where(new, x[..., first:first + width], best)
    found = jnp.where(new, jnp.arange(first, first + width), found)
  top = best.max(-1, keepdims=True)
  return jnp.where(best == top, found, count - 1).min(-1).astype(jnp.int32)


def _resized(images: jax.Array, sizes: jax.Array, wanted: jax.Array, canvas: tuple[int, int]
             ) -> jax.Array:
  """As `rescaled`, and nothing is computed where all images have the sizes that are wanted."""
  if images.shape[1:3] != tuple(canvas):
    return rescaled(images, sizes, wanted, canvas)
  return jax.lax.cond((sizes == wanted).all(), lambda x: x,
                      lambda x: rescaled(x, sizes, wanted, canvas), images)

