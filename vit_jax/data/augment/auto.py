"""RandAugment (arXiv:1909.13719) and AutoAugment (arXiv:1805.09501): what is drawn for each image."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp

from vit_jax.data.augment import color, policies
from vit_jax.data.augment.distortion import FLAVORS, distort
from vit_jax.data.augment.options import Choice, Levels, Number, Switch
from vit_jax.data.augment.policies import Kind, Strength
from vit_jax.errors import UserError

_NAMES = tuple(sorted({*policies.TF, *policies.PIL}))


@dataclasses.dataclass(frozen=True)
class _Settings:
  """What the layers of a policy share; see `randaugment`."""
  flavor: str
  magnitude_std: float
  translate: float
  fill: jax.Array
  interpolation: str


def _draw(key: jax.Array, index: jax.Array, entries: Sequence[tuple[str, float, float]],
          shape: Sequence[int], settings: _Settings) -> tuple[jax.Array, ...]:
  """Draws what entry `index` (name, probability, magnitude) does: kind, argument, bicubic, centre."""
  look, rows = FLAVORS[settings.flavor], []
  apply, sign, noise, between, center = jax.random.split(key, 5)
  noise = jax.random.normal(noise)
  for name, _, magnitude in entries:
    if settings.magnitude_std:
      magnitude = jnp.clip(magnitude + settings.magnitude_std * noise, 0., look.max_magnitude)
    rows.append([look.operations[name].argument(Strength(
        magnitude / 10., s, tuple(shape[:2]), settings.translate, look.cutout)) for s in (1., -1.)])
  argument = jnp.asarray(rows, jnp.float32)[index, jax.random.bernoulli(sign).astype(jnp.int32)]
  kinds = jnp.asarray([look.operations[name].kind for name, _, _ in entries])
  apply = jax.random.bernoulli(apply, jnp.asarray([p for _, p, _ in entries])[index])
  bicubic = (jax.random.bernoulli(between) if settings.interpolation == 'random'
             else jnp.asarray(settings.interpolation == 'bicubic'))
  center = jax.random.randint(center, (2,), 0, jnp.asarray(shape[:2]))
  return jnp.where(apply, kinds[index], Kind.IDENTITY), argument, bicubic, center


def _apply(image: jax.Array, drawn: Sequence[tuple[jax.Array, ...]], kinds: frozenset[Kind],
           settings: _Settings) -> jax.Array:
  """Applies what each layer drew to a float image; a loop, so that layers are not fused together."""
  def layer(levels, one):
    kind, argument, bicubic, center = one
    bicubic = bicubic if settings.interpolation == 'random' else settings.interpolation == 'bicubic'
    return distort(levels, kind, argument, flavor=settings.flavor, fill=settings.fill, center=center,
                   bicubic=bicubic, kinds=kinds), None

  stacked = jax.tree.map(lambda *x: jnp.stack(x), *drawn)
  return color.to_unit(jax.lax.scan(layer, color.to_levels(image), stacked)[0])


def _fill(fill, flavor: str, mean: Sequence[float], channels: int) -> jax.Array:
  """Returns the level of what comes in: 128 ('tf'), the data's mean ('pil'), or what is asked for."""
  if fill is None:
    fill = 128 if flavor == 'tf' else [min(255, round(255 * value)) for value in mean]
  levels = jnp.asarray(fill, jnp.uint8).reshape(-1)
  if levels.size not in (1, channels):
    raise UserError(f'fill of an augmentation has {levels.size} levels, the images {channels} channels; '
                    'give one level or one per channel')
  return jnp.broadcast_to(levels, (channels,))


def _require_colors(image: jax.Array, name: str) -> None:
  if image.shape[-1] not in (1, 3):
    raise UserError(f'augmentation {name!r} needs images of 1 or 3 channels, not {image.shape[-1]}')


def _names(ops: Sequence[str] | None, flavor: str, increasing: bool, magnitude: float) -> Sequence[str]:
  """Returns the operations that RandAugment draws from; UserError where the flavour has none such."""
  look = FLAVORS[flavor]
  if increasing and flavor == 'tf':
    raise UserError("augmentation 'randaugment' has increasing forms in flavor='pil' alone; leave "
                    'increasing out, or set the flavor')
  if magnitude > look.max_magnitude:
    raise UserError(f"magnitude of augmentation 'randaugment' is {magnitude:g}; flavor={flavor!r} goes "
                    f'up to {look.max_magnitude:g}')
  for name in ops or ():
    if name not in look.operations:
      raise UserError(f"augmentation 'randaugment' has no operation {name!r} in flavor={flavor!r}; "
                      f'it has {", ".join(look.operations)}')
  return tuple(ops or dict(
      tf=policies.RANDAUGMENT_TF, pil=policies.RANDAUGMENT_PIL_INCREASING if increasing
      else policies.RANDAUGMENT_PIL)[flavor])


def randaugment(image: jax.Array, key: jax.Array, mean: Sequence[float],
                flavor: Annotated[str, Choice(('tf', 'pil'))] = 'tf',
                layers: Annotated[int, Number(1, 16, whole=True)] = 2,
                magnitude: Annotated[float, Number(0., 30.)] = 10.,
                magnitude_std: Annotated[float, Number(0., 30.)] = 0.,
                probability: Annotated[float | None, Number(0., 1.)] = None,
                increasing: Switch = False,
                ops: Annotated[Sequence[str] | None, Choice(_NAMES, several=True)] = None,
                translate: Annotated[float | None, Number(0., 4096.)] = None,
                fill: Annotated[Sequence[int] | int | None, Levels()] = None,
                interpolation: Annotated[str, Choice(('random', 'bilinear', 'bicubic'))] = 'random'
                ) -> jax.Array:
  """Applies `layers` operations drawn with equal chance, one after another.

  AugReg's randaug(2, 15) is flavor='tf', layers=2, magnitude=15; DeiT's and Swin's
  rand-m9-mstd0.5-inc1 is flavor='pil', layers=2, magnitude=9, magnitude_std=.5, increasing=True.

  Args:
    image: float `[height, width, 1 or 3]` in [0, 1]; it is rounded to whole levels.
    key: of this image.
    mean: of the data, in [0, 1].
    flavor: 'tf' (big_vision) or 'pil' (timm).
    layers: operations per image.
    magnitude: 10 is strong; up to 30 for 'tf', to 10 for 'pil'.
    magnitude_std: of normal noise on the magnitude, of each image and layer.
    probability: of each operation to be applied; None: 1 for 'tf', .5 for 'pil'.
    increasing: 'pil' in the forms whose effect grows with the magnitude.
    ops: names of those to draw from; None: the published list of the flavour.
    translate: reach of magnitude 10; pixels for 'tf' (None: 100), share of the side for 'pil' (.45).
    fill: level, or one per channel, of what comes in; None: 128 for 'tf', the data's mean for 'pil'.
    interpolation: of 'pil'; 'random' draws bilinear or bicubic. 'tf' takes the nearest pixel.
  """
  _require_colors(image, 'randaugment')
  names, look = _names(ops, flavor, increasing, magnitude), FLAVORS[flavor]
  probability = look.probability if probability is None else probability
  settings = _Settings(flavor, magnitude_std, look.translate if translate is None else translate,
                       _fill(fill, flavor, mean, image.shape[-1]), interpolation)
  entries, drawn = [(name, probability, magnitude) for name in names], []
  for one in jax.random.split(key, layers):
    choose, draw = jax.random.split(one)
    index = jax.random.randint(choose, (), 0, len(names))
    drawn.append(_draw(draw, index, entries, image.shape, settings))
  return _apply(image, drawn, frozenset(look.operations[name].kind for name in names), settings)


def autoaugment(image: jax.Array, key: jax.Array, mean: Sequence[float],
                policy: Annotated[str, Choice(tuple(policies.POLICIES))] = 'v0',
                magnitude_std: Annotated[float, Number(0., 30.)] = 0.,
                fill: Annotated[Sequence[int] | int | None, Levels()] = None,
                interpolation: Annotated[str, Choice(('random', 'bilinear', 'bicubic'))] = 'random'
                ) -> jax.Array:
  """Applies a sub-policy of two operations, drawn with equal chance from a searched policy.

  Args:
    image: float `[height, width, 1 or 3]` in [0, 1]; it is rounded to whole levels.
    key: of this image.
    mean: of the data, in [0, 1].
    policy: a name of `policies.POLICIES`.
    magnitude_std, fill, interpolation: as in `randaugment`.
  """
  _require_colors(image, 'autoaugment')
  flavor, found = policies.POLICIES[policy]
  look = FLAVORS[flavor]
  settings = _Settings(flavor, magnitude_std, 250. if flavor == 'tf' else look.translate,
                       _fill(fill, flavor, mean, image.shape[-1]), interpolation)
  choose, draw = jax.random.split(key)
  index = jax.random.randint(choose, (), 0, len(found))
  drawn = [_draw(one, index, column, image.shape, settings)
           for one, column in zip(jax.random.split(draw, len(found[0])), zip(*found))]
  kinds = frozenset(look.operations[name].kind for sub in found for name, _, _ in sub)
  return _apply(image, drawn, kinds, settings)
