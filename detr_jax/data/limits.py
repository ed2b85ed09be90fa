"""Tells what a model cannot find whatever it learns: objects beyond its queries or those counted."""

import numpy as np

from detr_jax.data.info import DetectionInfo
from detr_jax.data.sources.base import say

MANY = 5  # times the queries: so many denoising queries are worth a word


def histogram(counts: np.ndarray) -> tuple[tuple[int, int], ...]:
  """Returns (objects, images that have so many), for the `DetectionInfo`, of the objects per image."""
  return tuple(zip(*(found.tolist() for found in np.unique(counts, return_counts=True))))


def tell(info: DetectionInfo, num_queries: int, denoising: int, max_detections: int) -> None:
  """Prints a line for each limit that the data exceeds.

  Args:
    info: facts of the data.
    num_queries: of the model; 0: it has no limit.
    denoising: groups of denoising queries.
    max_detections: per image that are evaluated.
  """
  kinds = (('training', info.box_counts), ('test', info.test_box_counts)) if num_queries else ()
  for kind, counts in kinds:
    _tell_more(kind, counts, num_queries, f'the model has queries ({num_queries})', 'model.num_queries')
  _tell_more('test', info.test_box_counts, max_detections, f'detections are counted ({max_detections})',
             'task.max_detections')
  extra = denoising * info.max_boxes
  if extra > MANY * num_queries:
    say(f'model.denoising={denoising} groups of {info.max_boxes} box slots add {extra} queries to the '
        f'{num_queries} of each image; a smaller data.max_boxes saves memory')


def _tell_more(kind: str, counts, limit: int, what: str, key: str) -> None:
  over = [(boxes, images) for boxes, images in counts if boxes > limit]
  if over:
    count, most = sum(images for _, images in over), over[-1][0]
    say(f'{count} {kind} image(s) have more objects (up to {most}) than {what}; the others cannot '
        f'be found: set {key} higher')
