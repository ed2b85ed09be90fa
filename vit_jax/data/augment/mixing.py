"""Two images and their targets become one: mixup (arXiv:1710.09412), cutmix (arXiv:1905.04899)."""

from typing import Annotated

import jax
import jax.numpy as jnp

from vit_jax.data.augment.geometry import product
from vit_jax.data.augment.options import Choice, Number, Probability, Switch


def mixup(images: jax.Array, targets: jax.Array, key: jax.Array,
          p: Annotated[float, Number(1e-3, 100.)] = .2) -> tuple[jax.Array, jax.Array]:
  """Blends each example with the one before it (mixup, arXiv:1710.09412, as big_vision does it).

  Args:
    images: `[batch, height, width, channels]`.
    targets: `[batch, classes]`.
    key: of the step: the whole batch shares one share.
    p: of the Beta(p, p) distribution; the larger of the share and its rest goes to the example.
  """
  share = jax.random.beta(key, p, p)
  share = jnp.maximum(share, 1. - share)
  blend = lambda x: product(share, x) + product(1. - share, jnp.roll(x, 1, axis=0))
  return blend(images), blend(targets)


def boxes(share: jax.Array, center: jax.Array, height: int, width: int) -> jax.Array:
  """Returns cutmix's boxes (top, bottom, left, right), int32 `[batch, 4]`, the ends not included.

  Args:
    share: `[batch]`, of the image that keeps its place; the box takes the rest of its area.
    center: (y, x) of the boxes, int `[batch, 2]`; what sticks out of the image is cut off.
    height, width: of the images.
  """
  # float32 must not make 15.99999 of a side of 16.
  sides = jnp.floor(jnp.sqrt(1. - share)[:, None] * jnp.array([height, width]) + 1e-4).astype(jnp.int32)
  limits = jnp.array([height, width])
  low = jnp.clip(center - sides // 2, 0, limits)
  high = jnp.clip(center + (sides + 1) // 2, 0, limits)
  return jnp.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=-1)


def mix(images: jax.Array, targets: jax.Array, share: jax.Array, cut: jax.Array, center: jax.Array,
        correct: bool = True) -> tuple[jax.Array, jax.Array]:
  """Mixes each example with its partner, the one as far from the end of the batch as it from the start.

  Args:
    images: `[batch, height, width, channels]`.
    targets: `[batch, classes]`; smoothed or not: mixing and smoothing may change places.
    share: of the example itself, `[batch]`.
    cut: where the partner's pixels replace a box (cutmix) and do not shine through (mixup), `[batch]`.
    center: (y, x) of the boxes, int `[batch, 2]`.
    correct: whether a target gets the true share of pixels, where the border cuts a box.
  """
  height, width = images.shape[1:3]
  box = boxes(share, center, height, width)
  top, bottom, left, right = (side[:, None, None] for side in box.T)
  y, x = jnp.mgrid[:height, :width]
  inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
  if correct:
    area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
    share = jnp.where(cut, 1. - area / (height * width), share)
  own = jnp.where(cut[:, None, None], ~inside, share[:, None, None])[..., None]
  # Rounded alike on any number of devices, hence `product`.
  blend = lambda x, weight: product(weight, x) + product(1. - weight, x[::-1])
  return blend(images, own), blend(targets, share[:, None])


def mixup_cutmix(images: jax.Array, targets: jax.Array, key: jax.Array,
                 mixup: Annotated[float, Number(0., 100.)] = .8,
                 cutmix: Annotated[float, Number(0., 100.)] = 1.,
                 probability: Probability = 1.,
                 switch: Probability = .5,
                 mode: Annotated[str, Choice(('batch', 'pair', 'element'))] = 'batch',
                 correct: Switch = True) -> tuple[jax.Array, jax.Array]:
  """Mixup or cutmix, as timm does it and DeiT, Swin, ConvNeXt and NAT train with it.

  Args:
    images: `[batch, height, width, channels]`.
    targets: `[batch, classes]`.
    key: of the step.
    mixup: a of mixup's Beta(a, a); 0 for cutmix alone.
    cutmix: a of cutmix's Beta(a, a); 0 for mixup alone.
    probability: of mixing at all.
    switch: probability of cutmix where both are on.
    mode: whether a 'batch', a 'pair' of partners or each 'element' draws for itself.
    correct: whether targets follow the true area of a box that the border cuts.
  """
  batch, height, width, _ = images.shape
  index = jnp.arange(batch)
  drawer = dict(batch=0 * index, pair=jnp.minimum(index, batch - 1 - index), element=index)[mode]
  draws = dict(batch=1, pair=(batch + 1) // 2, element=batch)[mode]
  switch = switch if mixup and cutmix else float(cutmix > 0)

  def draw(one):
    on, cut, first, second, center = jax.random.split(one, 5)
    cut = jax.random.bernoulli(cut, switch)
    share = jnp.where(cut, jax.random.beta(first, cutmix or 1., cutmix or 1.),
                      jax.random.beta(second, mixup or 1., mixup or 1.))
    share = jnp.where(jax.random.bernoulli(on, probability if mixup or cutmix else 0.), share, 1.)
    return share, cut, jax.random.randint(center, (2,), 0, jnp.array([height, width]))

  drawn = jax.vmap(draw)(jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(draws)))
  share, cut, center = (x[drawer] for x in drawn)
  return mix(images, targets, share, cut, center, correct)
