"""One operation of RandAugment or AutoAugment, as arithmetic.

There is no branch per operation: one affine warp, one look-up table of 256 levels, one blend with a
degenerate image and one erased square are all there is, and each of these is the identity for images
that drew something else. All work on whole levels, as the published code does, and give its very
numbers.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from vit_jax.data.augment import color, policies
from vit_jax.data.augment.geometry import coordinates, product, read_nearest, read_smooth
from vit_jax.data.augment.policies import Kind, Operation


@dataclasses.dataclass(frozen=True)
class Flavor:
  """What differs between the published families.

  Attributes:
    operations: by name.
    arithmetic: how colours are rounded.
    offset: coordinate of the centre of the first pixel.
    probability: of an operation of RandAugment to be applied at all.
    translate, cutout: reach of magnitude 10 in RandAugment, see `Strength`.
    max_magnitude: where the published code cuts or stops.
  """
  operations: Mapping[str, Operation]
  arithmetic: color.Arithmetic
  offset: float
  probability: float
  translate: float
  cutout: float
  max_magnitude: float


FLAVORS = dict(
    tf=Flavor(policies.TF, color.TF, 0., 1., 100., 40., 30.),
    pil=Flavor(policies.PIL, color.PIL, .5, .5, .45, 0., 10.))


def _rows(kind: jax.Array, argument: jax.Array, shape: Sequence[int], offset: float):
  """Returns the rows of the inverse affine map about the image's centre, for `coordinates`."""
  height, width = (side - 1. + 2. * offset for side in shape[:2])
  of = lambda wanted: jnp.where(kind == wanted, argument, 0.)
  angle = of(Kind.ROTATE) * (jnp.pi / 180.)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  x = (width - (product(cos, width) - product(sin, height))) / 2.
  y = (height - (product(sin, width) + product(cos, height))) / 2.
  return ((cos, -sin + of(Kind.SHEAR_X), x + of(Kind.TRANSLATE_X)),
          (sin + of(Kind.SHEAR_Y), cos, y + of(Kind.TRANSLATE_Y)))


def _table(image: jax.Array, kind: jax.Array, argument: jax.Array, arithmetic: color.Arithmetic,
           kinds: frozenset[Kind]) -> jax.Array:
  """Returns the image's look-up table `[256, channels]` as uint8."""
  low, high = image.min(axis=(0, 1)).astype(jnp.int32), image.max(axis=(0, 1)).astype(jnp.int32)
  level, whole = jnp.arange(256, dtype=jnp.int32)[:, None], argument.astype(jnp.int32)
  tables = {
      Kind.AUTO_CONTRAST: lambda: color.stretch_table(low, high, arithmetic),
      Kind.EQUALIZE: lambda: color.equalize_table(image, high),
      Kind.INVERT: lambda: 255 - level,
      Kind.POSTERIZE: lambda: (level >> whole) << whole,
      Kind.SOLARIZE: lambda: jnp.where(level < whole, level, 255 - level),
      Kind.SOLARIZE_ADD: lambda: jnp.where(level < 128, jnp.minimum(level + whole, 255), level)}
  table = jnp.broadcast_to(level, (256, image.shape[-1]))
  for wanted in kinds & set(tables):
    table = jnp.where(kind == wanted, tables[wanted](), table)
  return table.astype(jnp.uint8)


def _blend(image: jax.Array, kind: jax.Array, argument: jax.Array, arithmetic: color.Arithmetic,
           kinds: frozenset[Kind]) -> jax.Array:
  """Blends the image with the degenerate one of its kind: black for brightness."""
  degenerate, gray = jnp.zeros((), jnp.uint8), None
  if kinds & {Kind.COLOR, Kind.CONTRAST}:
    gray = arithmetic.gray(image)
  if Kind.COLOR in kinds:
    degenerate = jnp.where(kind == Kind.COLOR, gray, degenerate)
  if Kind.CONTRAST in kinds:
    degenerate = jnp.where(kind == Kind.CONTRAST, arithmetic.mean(gray).astype(jnp.uint8), degenerate)
  if Kind.SHARPNESS in kinds:
    degenerate = jnp.where(kind == Kind.SHARPNESS, color.smooth(image, arithmetic), degenerate)
  return color.blend(degenerate, image, argument)


def distort(image: jax.Array, kind: jax.Array, argument: jax.Array, *, flavor: str, fill: jax.Array,
            center: jax.Array, bicubic: bool | jax.Array, kinds: frozenset[Kind] = frozenset(Kind)
            ) -> jax.Array:
  """Applies one operation to an image.

  Args:
    image: uint8 `[height, width, 1 or 3]`.
    kind: a `Kind`, may be traced.
    argument: of this kind.
    flavor: 'tf' or 'pil'.
    fill: level of what comes in from outside or is cut out, uint8 `[channels]`.
    center: (y, x) of the pixel about which Cutout cuts.
    bicubic: 'pil' reads between pixels bicubically, or else bilinearly; 'tf' takes the nearest.
    kinds: those that can occur; the arithmetic of others is left out.
  """
  look, out = FLAVORS[flavor], image
  argument = jnp.asarray(argument, jnp.float32)
  between = lambda first, last: (kind >= first) & (kind <= last)
  # Every stage reads the image that came in, which lies in memory; if they read each other, compilers
  # would compute the first anew for each reading. An image drew one operation, so it is the same.
  if any(Kind.ROTATE <= k <= Kind.TRANSLATE_Y for k in kinds):
    x, y = coordinates(_rows(kind, argument, image.shape, look.offset), image.shape, look.offset)
    out = (read_nearest(image, x, y, fill) if flavor == 'tf' else
           read_smooth(image, x, y, fill, bicubic))
  if any(Kind.AUTO_CONTRAST <= k <= Kind.SOLARIZE_ADD for k in kinds):
    table = _table(image, kind, argument, look.arithmetic, kinds)
    mapped = table[image.astype(jnp.int32), jnp.arange(image.shape[-1])]
    out = jnp.where(between(Kind.AUTO_CONTRAST, Kind.SOLARIZE_ADD), mapped, out)
  if any(Kind.COLOR <= k <= Kind.SHARPNESS for k in kinds):
    blended = _blend(image, kind, argument, look.arithmetic, kinds)
    out = jnp.where(between(Kind.COLOR, Kind.SHARPNESS), blended, out)
  if Kind.CUTOUT in kinds:
    half = jnp.where(kind == Kind.CUTOUT, argument, 0.).astype(jnp.int32)
    y, x = jnp.mgrid[:image.shape[0], :image.shape[1]]
    inside = ((y >= center[0] - half) & (y < center[0] + half)
              & (x >= center[1] - half) & (x < center[1] + half))
    out = jnp.where(inside[..., None], fill, out)
  return out
