"""Writes small COCO data sets for tests, opens and checks them."""

import contextlib
import io
import json
import os

import numpy as np
from PIL import Image

from detr_jax.data import pipeline
from detr_jax.data.config import detection_data
from vit_jax import sharding
from vit_jax.data import __main__ as data_command
from vit_jax.errors import UserError


def box(number, image, rectangle, category=1, **more):
  """Returns an annotation; `rectangle` is left, top, width, height."""
  return dict(id=number, image_id=image, category_id=category, bbox=list(rectangle), iscrowd=0,
              area=rectangle[2] * rectangle[3], **more)


def write(root, split, images, annotations, categories=((1, 'cat'), (7, 'dog')), draw=True):
  """Writes annotations/instances_SPLIT.json and the images in SPLIT/.

  Args:
    root: folder of the data set.
    split: its name.
    images: {id: (height, width)}.
    annotations: entries, see `box`.
    categories: (id, name) of each.
    draw: whether to write the images: black, each box filled with a colour of its category.
  """
  os.makedirs(os.path.join(root, split), exist_ok=True)
  os.makedirs(os.path.join(root, 'annotations'), exist_ok=True)
  entries = [dict(id=i, file_name=f'{i}.png', height=h, width=w) for i, (h, w) in images.items()]
  content = dict(images=entries, annotations=annotations,
                 categories=[dict(id=i, name=name) for i, name in categories])
  path = os.path.join(root, 'annotations', f'instances_{split}.json')
  with open(path, 'w') as file:
    json.dump(content, file)
  for number, size in images.items() if draw else ():
    pixels = np.zeros((*size, 3), np.uint8)
    for entry in annotations:
      if entry['image_id'] == number and np.isfinite(entry['bbox']).all():
        left, top, width, height = (round(n) for n in entry['bbox'])
        pixels[top:top + height, left:left + width] = 255, 10 * entry['category_id'], number % 256
    Image.fromarray(pixels).save(os.path.join(root, split, f'{number}.png'))
  return path


PANOPTIC = (1, 'cat', 1), (7, 'dog', 1), (200, 'sky', 0)  # (id, name, whether it is a thing)


def write_panoptic(root, split, images, kinds):
  """Writes annotations/panoptic_SPLIT.json, panoptic_SPLIT/, and black images in SPLIT/.

  Args:
    root: folder of the data set.
    split: its name.
    images: {id: int `[height, width]`, the segment of each pixel}.
    kinds: {segment: (category of `PANOPTIC`, whether it is a crowd)}.

  Returns:
    {id: annotations of the segments that are things, as an instance file has them}.
  """
  from pycocotools import mask as coding
  for folder in (split, f'panoptic_{split}', 'annotations'):
    os.makedirs(os.path.join(root, folder), exist_ok=True)
  things, segments, out = {i for i, _, thing in PANOPTIC if thing}, {}, {}
  for number, ids in images.items():
    Image.fromarray(np.zeros((*ids.shape, 3), np.uint8)).save(os.path.join(root, split, f'{number}.png'))
    Image.fromarray(np.stack([ids >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)).save(
        os.path.join(root, f'panoptic_{split}', f'{number}.png'))
    found = segments[number] = []
    for segment in np.unique(ids[ids > 0]).tolist():
      coded = coding.encode(np.asfortranarray(ids == segment, np.uint8))
      rectangle, (category, crowd) = coding.toBbox(coded).tolist(), kinds[segment]
      found.append(dict(box(segment, number, rectangle, category), area=int((ids == segment).sum()),
                        iscrowd=int(crowd), segmentation=dict(coded, counts=coded['counts'].decode())))
    out[number] = [dict(one, id=1000 * number + one['id']) for one in found
                   if one['category_id'] in things]
  plain = lambda one: {key: one[key] for key in ('id', 'category_id', 'bbox', 'area', 'iscrowd')}
  content = dict(
      images=[dict(id=n, file_name=f'{n}.png', height=ids.shape[0], width=ids.shape[1])
              for n, ids in images.items()],
      annotations=[dict(image_id=n, file_name=f'{n}.png', segments_info=list(map(plain, segments[n])))
                   for n in images],
      categories=[dict(id=i, name=name, isthing=thing) for i, name, thing in PANOPTIC])
  with open(os.path.join(root, 'annotations', f'panoptic_{split}.json'), 'w') as file:
    json.dump(content, file)
  return out


def panoptic_scene(root, split='val', instances=True):
  """Writes two panoptic images of a cat, a dog and a crowd of dogs under the sky.

  Returns:
    images, kinds: see `write_panoptic`.
  """
  first, second = np.full((32, 32), 5), np.full((24, 32), 300)
  first[4:20, 3:8] = first[15:20, 3:20] = 1  # L-shaped: most of its box is not in its mask
  first[2:10, 12:30] = 2
  second[10:22, 18:30] = 7
  images = {1: first, 2: second}
  kinds = {1: (1, False), 2: (7, True), 5: (200, False), 300: (200, False), 7: (7, False)}
  things = write_panoptic(root, split, images, kinds)
  if instances:
    write(root, split, {n: ids.shape for n, ids in images.items()},
          [a for n in things for a in things[n]], draw=False)
  return images, kinds


def build(root, canvas=(20, 30), **options):
  """Returns the pipelines of a data set; `options` are those of `detection_data`."""
  data = detection_data(str(root), 1, (canvas,), **{**dict(test='train'), **options})
  return pipeline.build(data, 0, sharding.make_mesh(1))


def checked(*argv):
  """Returns (what `--check` prints, its error)."""
  out, error = io.StringIO(), ''
  with contextlib.redirect_stdout(out):
    try:
      data_command.main(['--check', *map(str, argv)])
    except UserError as found:
      error = str(found)
  return out.getvalue(), error
