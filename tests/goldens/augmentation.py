"""Golden functions of what is done to images: RandAugment's operations, mixup and cutmix.

Each takes a `Golden` and returns {output: our value}.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.goldens.base import Golden, Unknown
from vit_jax.tasks import losses
from vit_jax.data import augment
from vit_jax.data.augment import distortion, mixing, policies


def big_vision_mixup(golden: Golden) -> dict[str, np.ndarray]:
  """Mixup from a key: the key is split once, as the authors' code does it."""
  out = {}
  for i, (seed, p) in enumerate(golden.meta['kwargs']['cases']):
    new_key, key = jax.random.split(jax.random.PRNGKey(seed))
    images, targets = augment.mixup(golden.inputs['images'], golden.inputs['labels'], key, p)
    share, _ = augment.mixup(jnp.array([1., 0.]), jnp.array([1., 0.]), key, p)
    out |= {f'{i}/new_rng': new_key, f'{i}/images': images, f'{i}/labels': targets,
            f'{i}/a': share[0]}
  return out


def mixup_cutmix(golden: Golden) -> dict[str, np.ndarray]:
  """timm's Mixup with its draws given."""
  config, out = golden.meta['config'], {}
  images = jnp.moveaxis(golden.inputs['images'], 1, -1)
  batch, height, width, _ = images.shape
  for i, case in enumerate(config['cases']):
    # What is drawn once for the batch, for a pair of partners or for each image, and the same of all.
    drawn, whole = case.choose('mode', dict(
        batch=(1, lambda x: np.repeat(x, batch, axis=0)), elem=(batch, lambda x: x),
        pair=(batch // 2, lambda x: np.concatenate([x, x[::-1]]))))
    share, cut = (np.broadcast_to(np.asarray(case[k]), drawn) for k in ('lam', 'cutmix'))
    users = np.flatnonzero(cut & (share != 1.))  # boxes are listed in the order of use
    if len(case['centers']) != len(users):
      raise Unknown(f'meta.config.cases[{i}] has {len(case["centers"])} centers for {len(users)} boxes')
    centers = np.zeros((drawn, 2), np.int32)
    centers[users] = np.reshape(case['centers'], (-1, 2))
    targets = jax.nn.one_hot(golden.inputs['labels'], config['num_classes'])
    targets = losses.smooth(targets, case.get('smoothing', config.get('smoothing', 0.)))
    mixed, targets = mixing.mix(images, targets, *map(jnp.asarray, map(whole, (share, cut, centers))),
                                correct=case.get('correct_lam', config.get('correct_lam', True)))
    boxes = mixing.boxes(jnp.asarray(share), jnp.asarray(centers), height, width)
    out |= {f'{i}/images': np.moveaxis(np.asarray(mixed), -1, 1), f'{i}/targets': targets,
            f'{i}/boxes_yl_yh_xl_xh': np.asarray(boxes)[users]}
  return out


@functools.partial(jax.jit, static_argnames='flavor')
def _distort(image, kind, argument, flavor, fill, center, bicubic):
  return distortion.distort(image, kind, argument, flavor=flavor, fill=fill, center=center,
                             bicubic=bicubic)


def _operations(golden, config, flavor, fill, translates, cutout=0., center=(0, 0), bicubic=False):
  """Each operation at each magnitude with either sign; translates gives their reach by name."""
  image, look, out = golden.inputs['image'], distortion.FLAVORS[flavor], {}
  fill = np.broadcast_to(np.asarray(fill, np.uint8), image.shape[-1])
  for name in config['ops']:
    if name not in look.operations:
      raise Unknown(f'no operation {name!r} of the flavor {flavor!r}')
  for magnitude in config['magnitudes']:
    share = min(magnitude, look.max_magnitude) / 10.
    for name in config['ops']:
      kind, argument = look.operations[name]
      for sign, value in dict(pos=1., neg=-1.).items():
        strength = policies.Strength(share, value, image.shape[:2], translates(name), cutout)
        out[f'm{magnitude}/{name}/{sign}'] = _distort(
            image, int(kind), float(argument(strength)), flavor, fill, np.asarray(center), bicubic)
  return out


def randaugment_tf(golden: Golden) -> dict[str, np.ndarray]:
  """big_vision's operations."""
  kwargs = golden.meta['kwargs']
  return _operations(golden, kwargs, 'tf', kwargs.get('replace', 128),
                     lambda name: kwargs.get('translate_const', 100), kwargs.get('cutout_const', 40),
                     kwargs.get('cutout_center', (0, 0)))


def randaugment_pil(golden: Golden) -> dict[str, np.ndarray]:
  """timm's operations."""
  config = golden.meta['config']
  bicubic = config.choose('interpolation', dict(bicubic=True, bilinear=False), 'bilinear')
  reach = config.get('translate_pct', .45)
  return _operations(golden, config, 'pil', config.get('img_mean', (128, 128, 128)), lambda name: reach,
                     bicubic=bicubic)


def geometric(system: str, name: str) -> bool:
  """Whether an output is of an operation that moves pixels."""
  return system.startswith('randaug') and name.split('/')[1].startswith(('Rotate', 'Shear', 'Translate'))


def mean_difference(got, want: np.ndarray) -> float:
  """Returns the mean difference of levels; NaN where shapes differ."""
  if np.shape(got) != want.shape:
    return float('nan')
  return float(np.abs(np.asarray(got, np.float64) - want).mean())


SYSTEMS = dict(bv_mixup=big_vision_mixup, mixup_cutmix=mixup_cutmix, randaug_bv=randaugment_tf,
               randaug_timm=randaugment_pil)
