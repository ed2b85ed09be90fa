"""One segment per pixel, of things and stuff, from a detector with a mask head (DETR, section 4.4)."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from detr_jax.data import sources
from detr_jax.evaluation.panoptic_quality import PanopticQuality
from detr_jax.ops import postprocess
from detr_jax.tasks.detection import Detection
from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Panoptic(Detection):
  """Boxes as in `Detection`, and masks that compete for each pixel.

  Attributes:
    open_split: (name of a split in `config.data`) -> that split, whose pictures are the truth.
    on_error: 'raise', or 'skip' pictures that cannot be read.
  """
  open_split: Callable | None = None
  on_error: str = 'raise'

  best = 'pq'

  @classmethod
  def from_config(cls, config, info) -> 'Panoptic':
    """Builds the task of a config; UserError where model or data have no segments."""
    base = Detection.from_config(config, info)
    if not base.model.masks:
      raise UserError(f'{config.model.name} has no mask head; set model.masks=true, or choose one of '
                      'the models detr_*_panoptic')
    if not info.panoptic:
      raise UserError(f'the data {info.source} is not read as panoptic; set data.panoptic=true')
    split = functools.cache(lambda name: sources.open_source(config.data).split(config.data[name]))
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return cls(**fields, open_split=split, on_error=config.data.on_error)

  def segment(self, params, model_state, batch) -> dict[str, jax.Array]:
    """Returns what a picture is made of, logits and masks of the last layer and the sizes; and what
    `detect` does."""
    outputs = self.predict(params, model_state, batch)
    return {**self._detections(outputs, batch), **self._sizes(batch), 'logits': outputs.logits[-1],
            'masks': outputs.masks}

  def picture(self, row, threshold: float = postprocess.PANOPTIC_THRESHOLD
              ) -> tuple[np.ndarray, list[dict]]:
    """Returns segment ids `[height, width]` of the image as it was, and its segments, of a row of
    `segment`; see `ops.postprocess.panoptic`."""
    return postprocess.panoptic(row['logits'], row['masks'], row['canvas'], row['size'],
                                row['original_size'], self.info.things, threshold,
                                self.model.classifier)

  def _truth(self, split: str, index: int):
    """Returns segment ids and `segments_info` of an image; None where they are to be skipped."""
    try:
      return self.open_split(split).panoptic(index)
    except UserError as error:
      if self.on_error == 'raise':
        raise
      sources.say(f'skipped in panoptic quality: {error}')
      return None

  def evaluators(self, split: str = 'test'):
    """Returns the evaluators of boxes and of segments."""
    info, truth = self.info, functools.partial(self._truth, split)
    return [*super().evaluators(split), PanopticQuality(self.segment, self.picture, truth, info.classes,
                                                        info.category_ids, info.things)]
