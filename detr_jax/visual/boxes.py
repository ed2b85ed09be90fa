"""Draws boxes with their names and scores on an image, with Pillow: as many pixels as the image has."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vit_jax.errors import UserError
from vit_jax.visual import style

if TYPE_CHECKING:
  from PIL.Image import Image

Colour = tuple[int, int, int]


def colour(number: int) -> Colour:
  """Returns the colour of a class or segment, bright and unlike that of its neighbours.

  Hues a golden section apart never come close to any of the last few.
  """
  red, green, blue = colorsys.hsv_to_rgb((.58 + number * .618034) % 1., (.75, .55, .7)[number % 3],
                                         (1., .95, .8)[number // 3 % 3])
  return round(255 * red), round(255 * green), round(255 * blue)


def text_colour(background: Colour) -> Colour:
  """Returns black or white, whichever stands out more (luminance of ITU-R BT.601)."""
  return (0, 0, 0) if np.dot(background, (.299, .587, .114)) > 140 else (255, 255, 255)


def draw_boxes(image: np.ndarray, boxes: np.ndarray, labels: Sequence[int], classes: Sequence[str],
               scores: Sequence[float] | None = None) -> Image:
  """Returns the image with a box around each object, the most probable ones on top.

  Args:
    image: uint8 `[height, width, 1|3]`.
    boxes: `[n, 4]` (left, top, right, bottom) in pixels of the image.
    labels: `[n]` numbers of the classes.
    classes: their names.
    scores: `[n]`, written behind the names; None for none.
  """
  from PIL import Image, ImageDraw
  out = Image.fromarray(style.rgb(image).copy())
  pen = ImageDraw.Draw(out)
  line, typeface = _line_width(out), font(out)
  # Also where a coordinate is NaN there is nothing to draw.
  sound = [i for i, (x0, y0, x1, y1) in enumerate(np.asarray(boxes).tolist()) if x1 > x0 and y1 > y0]
  order = sound if scores is None else sorted(sound, key=lambda i: scores[i])
  inks = {i: colour(int(labels[i])) for i in order}
  for i in order:
    pen.rectangle(np.asarray(boxes[i]).tolist(), outline=inks[i], width=line)
  for i in order:  # so that no line crosses a name
    text = style.shorten(classes[int(labels[i])], 24)
    text = text if scores is None else f'{text} {scores[i]:.2f}'
    write(pen, boxes[i][:2], text, inks[i], typeface)
  return out


def draw_cross(image: np.ndarray, point: Sequence[float]) -> Image:
  """Returns the image with a cross at a point (x, y)."""
  from PIL import Image, ImageDraw
  out = Image.fromarray(style.rgb(image).copy())
  pen, (x, y), size = ImageDraw.Draw(out), point, max(4, min(out.size) // 24)
  for width, ink in ((_line_width(out) + 4, 'black'), (_line_width(out) + 1, 'white')):
    pen.line((x - size, y, x + size, y), fill=ink, width=width)
    pen.line((x, y - size, x, y + size), fill=ink, width=width)
  return out


def write(pen, corner: tuple[float, float], text: str, ink: Colour, typeface) -> None:
  """Writes text on a ground of colour above a point, or below where the image ends above it."""
  _, _, width, height = pen.textbbox((0, 0), text, font=typeface)
  width, height = width + 4, height + 3
  limit = pen.im.size
  left = min(max(corner[0], 0), max(limit[0] - width, 0))
  top = corner[1] - height if corner[1] >= height else max(corner[1], 0)
  top = min(top, max(limit[1] - height, 0))
  pen.rectangle((left, top, left + width, top + height), fill=ink)
  pen.text((left + 2, top), text, fill=text_colour(ink), font=typeface)


def _line_width(image: Image) -> int:
  return max(1, round(min(image.size) / 200))


def font(image: Image):
  """Returns a typeface of a size that suits an image."""
  import matplotlib
  from PIL import ImageFont
  path = os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
  return ImageFont.truetype(path, max(10, round(min(image.size) / 28)))


def enlarged(image: np.ndarray, boxes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns an image whose longer side has `side` pixels, and its boxes, so that names fit."""
  from PIL import Image
  image = style.rgb(image)
  factor = side / max(image.shape[:2])
  size = tuple(max(1, round(n * factor)) for n in image.shape[1::-1])
  resized = Image.fromarray(image.copy()).resize(size, Image.Resampling.BILINEAR)
  scale = np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2)
  return np.asarray(resized), np.asarray(boxes, np.float64).reshape(-1, 4) * scale


def sheet(pictures: Sequence[Image], columns: int, gap: int = 8) -> Image:
  """Returns pictures side by side on white, each in the upper left of its cell; UserError for none."""
  from PIL import Image
  if not pictures:
    raise UserError('there are no images to draw.')
  columns = min(columns, len(pictures))
  rows = -(-len(pictures) // columns)
  width, height = (max(p.size[axis] for p in pictures) + gap for axis in (0, 1))
  out = Image.new('RGB', (columns * width + gap, rows * height + gap), 'white')
  for i, picture in enumerate(pictures):
    out.paste(picture, (gap + i % columns * width, gap + i // columns * height))
  return out
