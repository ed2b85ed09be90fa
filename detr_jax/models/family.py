"""What a family of detectors is: beside what every family says, its losses and its answers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from vit_jax.models.family import Family


@dataclasses.dataclass(frozen=True)
class Head(Family):
  """A detector's architecture.

  Its module is called as `model(image, size, train=False, targets=None)` and has the fields
  `num_classes`, `backbone` and `backbone_fields`, and the methods `check_canvases`, which refuses sizes,
  and `encode(image, size)`, which gives the backbone's `Features`.

  Attributes:
    losses: dataclass whose fields are options of `config.task`; called as `losses(outputs, targets,
      shares)` it gives (scalar, {name: (sum, count)}); `losses.shares(batch, slots)` gives each image's
      share of the divisors, arrays `[batch]` by the names of `losses.SHARES`.
    decided: module -> the fields of `losses` that follow from the model.
    slots: module -> the largest number of objects that it finds in an image; 0: no limit.
    decode: (module, outputs, original sizes int `[batch, 2]`, count) -> `scores`, `labels`, `queries`
      `[batch, n]` and `boxes` `[batch, n, 4]`, see `ops.postprocess.detections`.
    threshold: module -> the score from which a detection is worth showing.
    capture: filter of `capture_intermediates` for `look`.
    look: (module, outputs, {path: intermediate}) -> dict(logits, labels, scores, boxes, masks, tokens,
      encoder, decoder), see `faces.detector.Look`; None: there is no attention to draw.
  """
  losses: type | None = None
  decided: Callable[[nn.Module], dict[str, Any]] = lambda model: {}
  slots: Callable[[nn.Module], int] = lambda model: 0
  decode: Callable[..., Mapping[str, jax.Array]] | None = None
  threshold: Callable[[nn.Module], float] = lambda model: .5
  capture: Callable = lambda module, method: False
  look: Callable[..., dict[str, Any]] | None = None
