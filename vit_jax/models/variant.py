"""A published model: constructor arguments, where they come from, and how its images are made."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

# Of ImageNet's training images; torchvision, timm and the DeiT family use them.
IMAGENET_MEAN, IMAGENET_STD = (.485, .456, .406), (.229, .224, .225)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """How an image becomes a model's input.

  Attributes:
    mean, std: per channel, of values in [0, 1].
    crop: 'squash' to the size, or 'center': cut the middle after a resize.
    crop_ratio: share of the shorter side that 'center' keeps.
    interpolation: 'bilinear' or 'bicubic', antialiased.
  """
  mean: tuple[float, ...] = (.5, .5, .5)
  std: tuple[float, ...] = (.5, .5, .5)
  crop: str = 'center'
  crop_ratio: float = .875
  interpolation: str = 'bilinear'


@dataclasses.dataclass(frozen=True)
class Variant:
  """One row of a paper's table of models.

  Attributes:
    module: the linen module.
    arguments: of its constructor.
    parameters: exact number at `image_size`, three channels and 1000 classes.
    source: paper and table.
    image_size: (height, width) at which `parameters` counts.
    preprocessing: of its published weights.
  """
  module: Callable[..., nn.Module]
  arguments: Mapping[str, Any]
  parameters: int
  source: str
  image_size: tuple[int, int] = (224, 224)
  preprocessing: Preprocessing = Preprocessing()
