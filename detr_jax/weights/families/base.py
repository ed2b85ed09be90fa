"""What is known of the files of weights of a family of detectors."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from vit_jax import trees
from vit_jax.weights.families import Published


@dataclasses.dataclass(frozen=True)
class PublishedDetector(Published):
  """What `Published` says, and how images are made for published detectors.

  Attributes:
    num_classes: (module, parameters) -> the classes of weights; None where they have none.
    canvases: (height, width) of the arrays that images lie on.
    test_transforms: as `config.data.test_transforms`.
  """
  num_classes: Callable[[nn.Module, trees.Flat], int | None] = lambda model, flat: None
  canvases: tuple[tuple[int, int], ...] = ()
  test_transforms: tuple[Mapping[str, Any], ...] = ()
