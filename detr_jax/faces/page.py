"""The picture page of a detector.

Detections beside the truth, self-attention of the encoder and attention of the decoder over images (as
figures 3 and 6 of the DETR paper), where the boxes of each query lie (figure 7), and panoptic pictures
of a model with masks.
"""

import numpy as np

LOOKED = 4  # images whose attention is drawn
OBJECTS = 4  # detections, or points, of each
SIDE = 300  # pixels of an image on a sheet
SURVEYED = 300  # images of the test split whose boxes are gathered


def sections(detector, config: dict, names, split) -> list:
  """Returns the sections of the page.

  Args:
    detector: a `detr_jax.faces.detector.Detector`.
    config: of its run.
    names: image files to look at; an int: so many of the test split.
    split: the test split, or None where its data is gone.
  """
  del config
  own = isinstance(names, int)
  if own:
    examples = [split.read(i) for i in range(min(names, len(split)))] if split else []
  else:
    examples = [detector.prepare(name) for name in names]
  out = detections(detector, examples, truth=own) if examples else []
  if detector.task.family.look is None:
    return out
  looks = [detector.look(example) for example in examples[:LOOKED]]
  if looks:
    out += attention(detector, looks)
  if looks and looks[0].masks is not None:
    out += segments(detector, looks)
  return out + (queries(detector, split) if split else [])


def detections(detector, examples, truth: bool) -> list:
  """The images with what was found, beside the truth where it is known."""
  from detr_jax.visual import boxes
  from vit_jax.data import images
  from vit_jax.visual.page import Picture, Section
  pictures, classes = [], detector.info.classes
  for example in examples:
    pixels = images.to_array(example.image())
    found = detector.detect(example, detector.threshold)
    shown = [(example.boxes, example.labels, None)] if truth else []
    for corners, labels, scores in [*shown, (found.boxes, found.labels, found.scores)]:
      small, corners = boxes.enlarged(pixels, corners, SIDE)
      pictures.append(boxes.draw_boxes(small, corners, labels, classes, scores))
  text = f'Boxes with a score of at least {detector.threshold:g}.'
  return [Section('Detections', 'Left the truth, right what was found. ' * truth + text, [
      Picture(boxes.sheet(pictures, 4), 'truth, detections' if truth else 'detections')])]


def attention(detector, looks) -> list:
  """Where points of the encoder look, and where the decoder looks for each object."""
  from detr_jax.visual import boxes
  from vit_jax.visual.page import Picture, Section
  points = [row for look in looks if look.encoder is not None for row in encoder_row(look)]
  objects = [row for look in looks for row in decoder_row(look, detector.info.classes)]
  columns = 1 + min(OBJECTS, len(looks[0].scores))
  sections = []
  if points:
    sections.append(Section(
        'Encoder self-attention', 'Where the last encoder layer looks from a point, marked by a cross '
        '(DETR, figure 3): objects are told apart before there is any box.',
        [Picture(boxes.sheet(points, OBJECTS + 1), 'the image, and the attention of points in it')]))
  return [*sections, Section(
      'Decoder attention', 'Where the last decoder layer looks for the objects it is surest of (DETR, '
      'figure 6): mostly at their extremities.',
      [Picture(boxes.sheet(objects, columns), 'the image, and the attention for each object')])]


def encoder_row(look) -> list:
  """Returns an image, and itself under the attention of each of some points in it."""
  from detr_jax.visual import attention, boxes
  size = look.image.shape[:2]
  points = attention.reference_points(look.boxes[np.argsort(-look.scores)], size, OBJECTS)
  tokens = [attention.token_at(point, look.grid, look.canvas) for point in points]
  maps = attention.over_image(look.encoder[tokens], look.grid, look.canvas, size)
  plain, moved = boxes.enlarged(look.image, np.tile(points, 2), SIDE)
  return [boxes.draw_boxes(plain, moved[:0], (), ()), *(
      boxes.draw_cross(attention.light(look.image, lit, SIDE), point[:2])
      for lit, point in zip(maps, moved))]


def decoder_row(look, classes) -> list:
  """Returns an image, and itself under the attention for each of its surest objects, in their boxes."""
  from detr_jax.ops import postprocess
  from detr_jax.visual import attention, boxes
  # Different objects first; then the rest, so that every row has as many pictures.
  apart = postprocess.suppress(look.boxes, look.scores, np.zeros_like(look.labels), .5)
  best = list(dict.fromkeys([*apart, *np.argsort(-look.scores)]))[:OBJECTS]
  maps = attention.over_image(look.decoder[best], look.grid, look.canvas, look.image.shape[:2])
  plain, corners = boxes.enlarged(look.image, look.boxes[best], SIDE)
  return [boxes.draw_boxes(plain, corners[:0], (), ()), *(
      boxes.draw_boxes(attention.light(look.image, lit, SIDE), corners[i:i + 1],
                       look.labels[best][i:i + 1], classes, look.scores[best][i:i + 1])
      for i, lit in enumerate(maps))]


def segments(detector, looks) -> list:
  """Panoptic pictures beside their images."""
  from detr_jax.ops import postprocess
  from detr_jax.visual import boxes
  from detr_jax.visual.segments import draw_segments
  from vit_jax.visual.page import Picture, Section
  info, pictures = detector.info, []
  for look in looks:
    plain, _ = boxes.enlarged(look.image, look.boxes[:0], 2 * SIDE)
    found = postprocess.panoptic(look.logits, look.masks, look.canvas, look.image.shape[:2],
                                 plain.shape[:2], info.things, classifier=detector.task.model.classifier)
    pictures += [boxes.draw_boxes(plain, look.boxes[:0], (), ()),
                 draw_segments(plain, *found, info.classes)]
  return [Section('Panoptic pictures', 'Each pixel belongs to the segment that is surest of it, grey '
                  f'ones to none; segments are of queries with a score above '
                  f'{postprocess.PANOPTIC_THRESHOLD:g}.', [
                      Picture(boxes.sheet(pictures, 2), 'the image, and its segments')])]


def queries(detector, split) -> list:
  """Where the boxes of each query lie, over the test split."""
  from detr_jax.visual.queries import draw_query_boxes
  from vit_jax.visual.page import Picture, Section
  count = min(len(split), SURVEYED)
  found = np.stack([detector.boxes(split.read(i)) for i in range(count)])
  return [Section('What each query looks for', f'The centres of all boxes of the first queries over '
                  f'{count} test images, as shares of the image: green small, red wide, blue tall '
                  '(DETR, figure 7).', [Picture(draw_query_boxes(found), 'a square per query')])]
