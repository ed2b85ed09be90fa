"""Writes small COCO data sets for tests."""

import json
import os

import numpy as np
from PIL import Image


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
