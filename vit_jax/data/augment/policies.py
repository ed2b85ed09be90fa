"""The operations of AutoAugment and RandAugment, what a magnitude means to each, and the policies.

Two published families differ in both: 'tf', the code of the TPU EfficientNets that big_vision and
AugReg use, and 'pil', timm's, that DeiT, Swin and ConvNeXt use.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Kind(enum.IntEnum):
  """What is done to an image, once the magnitude has become an argument."""
  IDENTITY = 0
  ROTATE = 1           # argument: degrees
  SHEAR_X = 2          # columns per row
  SHEAR_Y = 3          # rows per column
  TRANSLATE_X = 4      # pixels
  TRANSLATE_Y = 5
  AUTO_CONTRAST = 6
  EQUALIZE = 7
  INVERT = 8
  POSTERIZE = 9        # low bits that are cleared
  SOLARIZE = 10        # level from which on is inverted
  SOLARIZE_ADD = 11    # what is added below level 128
  COLOR = 12           # factor: 0 grey, 1 unchanged
  CONTRAST = 13
  BRIGHTNESS = 14
  SHARPNESS = 15
  CUTOUT = 16          # half the side of the square, in pixels


class Strength(NamedTuple):
  """What the argument of an operation is computed from.

  Attributes:
    share: magnitude over 10; a float, or traced where it is drawn.
    sign: 1. or -1.
    size: (height, width) of the image.
    translate: of magnitude 10; pixels ('tf'), or share of the side ('pil').
    cutout: of magnitude 10; pixels.
  """
  share: float | jax.Array
  sign: float
  size: tuple[int, int]
  translate: float
  cutout: float


class Operation(NamedTuple):
  """A named operation: its kind, and its argument from a strength."""
  kind: Kind
  argument: Callable[[Strength], float | jax.Array]


def _whole(x: float | jax.Array) -> float | jax.Array:
  """Cuts to a whole number: known ones in float64, as the published Python code does."""
  return jnp.trunc(x) if isinstance(x, jax.Array) else float(np.trunc(x))


def _none(s: Strength) -> float:
  return 0.


def _rotate(s: Strength):
  return s.sign * (s.share * 30.)


def _shear(s: Strength):
  return s.sign * (s.share * .3)


def _factor(s: Strength):
  """Factors from .1 to 1.9, 1 in the middle: small magnitudes degrade."""
  return s.share * 1.8 + .1


def _factor_increasing(s: Strength):
  """Factors that leave 1 either way as the magnitude rises."""
  factor = 1. + s.sign * (s.share * .9)
  return jnp.maximum(factor, .1) if isinstance(factor, jax.Array) else max(factor, .1)


def _cleared_tf(s: Strength):
  """Bits that uint8 shifts clear in TensorFlow: never more than 7, and 7 for a negative shift."""
  return jnp.minimum((8. - _whole(s.share * 4.)) % 256., 7.)


def _solarize_tf(s: Strength):
  """The threshold as a uint8: 256, of magnitude 10, becomes 0 and inverts every pixel."""
  return _whole(s.share * 256.) % 256.


_COMMON = {
    'AutoContrast': Operation(Kind.AUTO_CONTRAST, _none),
    'Equalize': Operation(Kind.EQUALIZE, _none),
    'Invert': Operation(Kind.INVERT, _none),
    'Rotate': Operation(Kind.ROTATE, _rotate),
    'SolarizeAdd': Operation(Kind.SOLARIZE_ADD, lambda s: _whole(s.share * 110.)),
    'Color': Operation(Kind.COLOR, _factor),
    'Contrast': Operation(Kind.CONTRAST, _factor),
    'Brightness': Operation(Kind.BRIGHTNESS, _factor),
    'Sharpness': Operation(Kind.SHARPNESS, _factor),
    'ShearX': Operation(Kind.SHEAR_X, _shear),
    'ShearY': Operation(Kind.SHEAR_Y, _shear),
}

TF = _COMMON | {
    'Posterize': Operation(Kind.POSTERIZE, _cleared_tf),
    'Solarize': Operation(Kind.SOLARIZE, _solarize_tf),
    'TranslateX': Operation(Kind.TRANSLATE_X, lambda s: s.sign * (s.share * s.translate)),
    'TranslateY': Operation(Kind.TRANSLATE_Y, lambda s: s.sign * (s.share * s.translate)),
    'Cutout': Operation(Kind.CUTOUT, lambda s: _whole(s.share * s.cutout)),
}

PIL = _COMMON | {
    'Posterize': Operation(Kind.POSTERIZE, lambda s: 8. - _whole(s.share * 4.)),
    'PosterizeIncreasing': Operation(Kind.POSTERIZE, lambda s: 4. + _whole(s.share * 4.)),
    'PosterizeOriginal': Operation(Kind.POSTERIZE, lambda s: 4. - _whole(s.share * 4.)),
    'Solarize': Operation(Kind.SOLARIZE, lambda s: _whole(s.share * 256.)),
    'SolarizeIncreasing': Operation(Kind.SOLARIZE, lambda s: 256. - _whole(s.share * 256.)),
    'ColorIncreasing': Operation(Kind.COLOR, _factor_increasing),
    'ContrastIncreasing': Operation(Kind.CONTRAST, _factor_increasing),
    'BrightnessIncreasing': Operation(Kind.BRIGHTNESS, _factor_increasing),
    'SharpnessIncreasing': Operation(Kind.SHARPNESS, _factor_increasing),
    'TranslateXRel': Operation(
        Kind.TRANSLATE_X, lambda s: s.sign * (s.share * s.translate) * s.size[1]),
    'TranslateYRel': Operation(
        Kind.TRANSLATE_Y, lambda s: s.sign * (s.share * s.translate) * s.size[0]),
}

# RandAugment's lists: big_vision/pp/autoaugment.py; timm/data/auto_augment.py without and with `inc`.
RANDAUGMENT_TF = (
    'AutoContrast', 'Equalize', 'Invert', 'Rotate', 'Posterize', 'Solarize', 'Color', 'Contrast',
    'Brightness', 'Sharpness', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY', 'Cutout', 'SolarizeAdd')
RANDAUGMENT_PIL = (
    'AutoContrast', 'Equalize', 'Invert', 'Rotate', 'Posterize', 'Solarize', 'SolarizeAdd', 'Color',
    'Contrast', 'Brightness', 'Sharpness', 'ShearX', 'ShearY', 'TranslateXRel', 'TranslateYRel')
RANDAUGMENT_PIL_INCREASING = tuple(
    name + 'Increasing' if name + 'Increasing' in PIL else name for name in RANDAUGMENT_PIL)


def _policy(text: str, **renamed: str) -> tuple:
  """Reads sub-policies 'Name probability magnitude', two a line with a comma between them."""
  entry = lambda words: (renamed.get(words[0], words[0]), float(words[1]), float(words[2]))
  return tuple(tuple(entry(part.split()) for part in line.split(','))
               for line in text.strip().splitlines())


_V0 = """
  Equalize .8 1, ShearY .8 4
  Color .4 9, Equalize .6 3
  Color .4 1, Rotate .6 8
  Solarize .8 3, Equalize .4 7
  Solarize .4 2, Solarize .6 2
  Color .2 0, Equalize .8 8
  Equalize .4 8, SolarizeAdd .8 3
  ShearX .2 9, Rotate .6 8
  Color .6 1, Equalize 1 2
  Invert .4 9, Rotate .6 0
  Equalize 1 9, ShearY .6 3
  Color .4 7, Equalize .6 0
  Posterize .4 6, AutoContrast .4 7
  Solarize .6 8, Color .6 9
  Solarize .2 4, Rotate .8 9
  Rotate 1 7, TranslateY .8 9
  ShearX 0 0, Solarize .8 4
  ShearY .8 0, Color .6 4
  Color 1 0, Rotate .6 2
  Equalize .8 4, Equalize 0 8
  Equalize 1 4, AutoContrast .6 2
  ShearY .4 7, SolarizeAdd .6 7
  Posterize .8 2, Solarize .6 10
  Solarize .6 8, Equalize .6 1
  Color .8 6, Rotate .4 5"""

_ORIGINAL = """
  Posterize .4 8, Rotate .6 9
  Solarize .6 5, AutoContrast .6 5
  Equalize .8 8, Equalize .6 3
  Posterize .6 7, Posterize .6 6
  Equalize .4 7, Solarize .2 4
  Equalize .4 4, Rotate .8 8
  Solarize .6 3, Equalize .6 7
  Posterize .8 5, Equalize 1 2
  Rotate .2 3, Solarize .6 8
  Equalize .6 8, Posterize .4 6
  Rotate .8 8, Color .4 0
  Rotate .4 9, Equalize .6 2
  Equalize 0 7, Equalize .8 8
  Invert .6 4, Equalize 1 8
  Color .6 4, Contrast 1 8
  Rotate .8 8, Color 1 2
  Color .8 8, Solarize .8 7
  Sharpness .4 7, Invert .6 8
  ShearX .6 5, Equalize 1 9
  Color .4 0, Equalize .6 3
  Equalize .4 7, Solarize .2 4
  Solarize .6 5, AutoContrast .6 5
  Invert .6 4, Equalize 1 8
  Color .6 4, Contrast 1 8
  Equalize .8 8, Equalize .6 3"""

_CIFAR10 = """
  Invert .1 7, Contrast .2 6
  Rotate .7 2, TranslateX .3 9
  Sharpness .8 1, Sharpness .9 3
  ShearY .5 8, TranslateY .7 9
  AutoContrast .5 8, Equalize .9 2
  ShearY .2 7, Posterize .3 7
  Color .4 3, Brightness .6 7
  Sharpness .3 9, Brightness .7 9
  Equalize .6 5, Equalize .5 1
  Contrast .6 7, Sharpness .6 5
  Color .7 7, TranslateX .5 8
  Equalize .3 7, AutoContrast .4 8
  TranslateY .4 3, Sharpness .2 6
  Brightness .9 6, Color .2 8
  Solarize .5 2, Invert 0 3
  Equalize .2 0, AutoContrast .6 0
  Equalize .2 8, Equalize .6 4
  Color .9 9, Equalize .6 6
  AutoContrast .8 4, Solarize .2 8
  Brightness .1 3, Color .7 0
  Solarize .4 5, AutoContrast .9 3
  TranslateY .9 9, TranslateY .7 9
  AutoContrast .9 2, Solarize .8 3
  Equalize .8 8, Invert .1 3
  TranslateY .7 9, AutoContrast .9 1"""

_RELATIVE = dict(TranslateX='TranslateXRel', TranslateY='TranslateYRel')
_FEWER_BITS = dict(Posterize='PosterizeIncreasing')
_KEPT_BITS = dict(Posterize='PosterizeOriginal')

# Name: (flavour, sub-policies). 'v0' is the policy of the TPU EfficientNets; 'original' and 'cifar10'
# are Tables 9 and 7 of AutoAugment (arXiv:1805.09501). timm's 'r' clears more bits the higher the
# magnitude.
POLICIES = {
    'v0': ('tf', _policy(_V0)),
    'v0_pil': ('pil', _policy(_V0, **_RELATIVE)),
    'v0r': ('pil', _policy(_V0, **_RELATIVE, **_FEWER_BITS)),
    'original': ('pil', _policy(_ORIGINAL, **_KEPT_BITS)),
    'originalr': ('pil', _policy(_ORIGINAL, **_FEWER_BITS)),
    'cifar10': ('pil', _policy(_CIFAR10, **_RELATIVE, **_KEPT_BITS)),
}
