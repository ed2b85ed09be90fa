"""An image with all that is known of it, and the four ways to move its pixels.

Every function here moves the pixels of the image, the boxes, the masks and the per-pixel maps together,
so that a transform cannot forget one of them.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from detr_jax.ops.masks import resized

GREY = (128, 128, 128)  # what `pad` adds to an image


@dataclasses.dataclass(frozen=True)
class PixelMap:
  """A value for each pixel, such as its class.

  Attributes:
    array: `[..., height, width]`, any dtype.
    fill: value of the pixels that `pad` adds, such as 255 for labels that are ignored.
    interpolation: 'nearest', by the rule of `ops.masks.nearest`, or 'linear' (antialiased) for amounts,
      whose array is float32.
  """
  array: np.ndarray
  fill: float = 0
  interpolation: str = 'nearest'

  def flip(self, axis: int) -> 'PixelMap':
    """Returns the mirror image along an axis: -1 left to right, -2 top to bottom."""
    return dataclasses.replace(self, array=np.flip(self.array, axis))

  def crop(self, left: int, top: int, width: int, height: int) -> 'PixelMap':
    """Returns a window of whole pixels."""
    return dataclasses.replace(self, array=self.array[..., top:top + height, left:left + width])

  def resize(self, height: int, width: int) -> 'PixelMap':
    """Returns the map at another size."""
    if self.interpolation == 'nearest':
      return dataclasses.replace(self, array=resized(self.array, (height, width)))
    planes = self.array.reshape(-1, *self.array.shape[-2:])
    out = [np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
           for plane in planes]
    return dataclasses.replace(self, array=np.reshape(out, (*self.array.shape[:-2], height, width)))

  def pad(self, height: int, width: int) -> 'PixelMap':
    """Returns the map at the top left of a larger one that holds `fill`."""
    array = np.full((*self.array.shape[:-2], height, width), self.fill, self.array.dtype)
    array[..., :self.array.shape[-2], :self.array.shape[-1]] = self.array
    return dataclasses.replace(self, array=array)


@dataclasses.dataclass(frozen=True)
class Sample:
  """An image with its n objects.

  Attributes:
    image: RGB.
    boxes: float64 `[n, 4]`, (left, top, right, bottom) in pixels.
    labels: int32 `[n]`.
    masks: bool `[n, height, width]` or None.
    objects: {name: array `[n, ...]`}: what else is known of each object and does not change with its
      pixels, such as `is_crowd`, `ids`, or `areas` as annotated.
    maps: {name: `PixelMap` of the image's size}.
  """
  image: Image.Image
  boxes: np.ndarray
  labels: np.ndarray
  masks: np.ndarray | None = None
  objects: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  maps: Mapping[str, PixelMap] = dataclasses.field(default_factory=dict)

  def keep(self, chosen: np.ndarray) -> 'Sample':
    """Returns the sample with the chosen objects alone; bool or int `[n]`."""
    return dataclasses.replace(
        self, boxes=self.boxes[chosen], labels=self.labels[chosen],
        masks=None if self.masks is None else self.masks[chosen],
        objects={name: values[chosen] for name, values in self.objects.items()})

  def moved(self, image: Image.Image, boxes: np.ndarray, move: Callable[[PixelMap], PixelMap]
            ) -> 'Sample':
    """Returns the sample with another image and boxes, and `move` of its masks and maps."""
    masks = None if self.masks is None else move(PixelMap(self.masks, fill=False)).array
    return dataclasses.replace(self, image=image, boxes=boxes, masks=masks,
                               maps={name: move(one) for name, one in self.maps.items()})


def areas(boxes: np.ndarray) -> np.ndarray:
  """Returns the areas `[n]` of boxes `[n, 4]`, 0 for those that are turned inside out."""
  return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.), -1)


def flip(sample: Sample, vertical: bool = False) -> Sample:
  """Returns the mirror image: left and right change places, or top and bottom."""
  axis, side = (1, sample.image.height) if vertical else (0, sample.image.width)
  how = Image.Transpose.FLIP_TOP_BOTTOM if vertical else Image.Transpose.FLIP_LEFT_RIGHT
  boxes = sample.boxes.copy()
  boxes[:, axis], boxes[:, axis + 2] = side - sample.boxes[:, axis + 2], side - sample.boxes[:, axis]
  return sample.moved(sample.image.transpose(how), boxes, lambda one: one.flip(-2 if vertical else -1))


def crop(sample: Sample, left: int, top: int, width: int, height: int, visible: float = 0.) -> Sample:
  """Returns a window; boxes are cut at its edge, and left out where nothing remains.

  Args:
    sample: what to cut.
    left, top, width, height: of the window, within the image.
    visible: the least share of a box's area that must remain.
  """
  boxes = np.clip(sample.boxes - [left, top, left, top], 0., [width, height, width, height])
  image = sample.image.crop((left, top, left + width, top + height))
  kept = areas(boxes)
  keep = (kept > 0.) & (kept >= visible * areas(sample.boxes))
  return sample.moved(image, boxes, lambda one: one.crop(left, top, width, height)).keep(keep)


def resize(sample: Sample, height: int, width: int) -> Sample:
  """Returns the sample at another size; the image is resized bilinearly and antialiased."""
  if (width, height) == sample.image.size:
    return sample
  scale = np.asarray([width / sample.image.width, height / sample.image.height] * 2)
  image = sample.image.resize((width, height), Image.Resampling.BILINEAR)
  return sample.moved(image, sample.boxes * scale, lambda one: one.resize(height, width))


def pad(sample: Sample, height: int, width: int) -> Sample:
  """Returns the sample at the top left of a larger one: the image grey around, maps as their `fill`."""
  if (width, height) == sample.image.size:
    return sample
  image = Image.new('RGB', (width, height), GREY)
  image.paste(sample.image)
  return sample.moved(image, sample.boxes, lambda one: one.pad(height, width))
