"""Pascal VOC's XML (VOC2012 development kit): one file of objects an image.

    ROOT/Annotations/ID.xml, ROOT/JPEGImages/ID.jpg, ROOT/ImageSets/Main/SPLIT.txt
    ROOT/SPLIT/ID.xml beside ROOT/SPLIT/ID.jpg

Corners are pixels from 1, both inside the object. Difficult objects count as crowds: neither training
nor evaluation asks for them, as in VOC's own evaluation.
"""

import glob
import os
import xml.etree.ElementTree as xml
from collections.abc import Iterator

from detr_jax.data.sources.objects import Problem
from vit_jax.errors import UserError

# In the order of the development kit; other data sets have their classes in alphabetical order.
CLASSES = ('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
           'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train',
           'tvmonitor')
LISTS = os.path.join('ImageSets', 'Main')


def splits(root: str) -> dict[str, str]:
  """Returns {split: its list of images, or its folder} of a folder; {} where it is not VOC's."""
  lists = sorted(glob.glob(os.path.join(glob.escape(root), LISTS, '*.txt')))
  found = {os.path.splitext(os.path.basename(path))[0]: path for path in lists}
  # Lists such as cat_train.txt are of the images of one class.
  found = {name: path for name, path in found.items() if name.rpartition('_')[0] not in CLASSES}
  if found and os.path.isdir(os.path.join(root, 'Annotations')):
    return found
  folders = sorted(os.path.dirname(path) for path in set(
      glob.glob(os.path.join(glob.escape(root), '*', '*.xml'))))
  return {os.path.basename(folder): folder for folder in folders
          if os.path.basename(folder) != 'Annotations'}


def image_folder(root: str, split: str) -> str:
  """Returns where the images of a split lie."""
  own = os.path.join(root, 'JPEGImages')
  return own if os.path.isdir(own) else os.path.join(root, split)


def read(root: str, split: str) -> tuple[dict, list[Problem]]:
  """Returns the images, objects and classes of a split in COCO's form, and what is wrong with the files.

  The classes are those of all XML in the folder, so that every split has the same.

  Raises:
    UserError: for a list that cannot be read, or a folder without objects.
  """
  place = splits(root)[split]
  folder = os.path.join(root, 'Annotations') if os.path.isfile(place) else place
  every = {path: _parse(path) for path in sorted(glob.glob(os.path.join(
      glob.escape(os.path.dirname(folder)), '*', '*.xml')))}
  names = {o.findtext('name') for tree in every.values() if not isinstance(tree, str)
           for o in tree.iter('object')} - {None}
  if not names:
    raise UserError(f'{root} has no object in any XML file; draw boxes first')
  ordered = CLASSES if names == set(CLASSES) else sorted(names)
  numbers = {name: i + 1 for i, name in enumerate(ordered)}
  images, objects, problems = [], [], []
  for stem in stems(place):
    path = os.path.join(folder, f'{stem}.xml')
    tree = every.get(path, f'the annotations {path} are missing')
    if isinstance(tree, str):
      problems.append(Problem(tree))
      continue
    images.append(_image(stem, tree))
    for entry in _objects(path, tree, numbers):
      if isinstance(entry, Problem):
        problems.append(entry)
      else:
        objects.append(dict(entry, id=len(objects) + 1, image_id=stem))
  categories = [dict(id=number, name=name) for name, number in numbers.items()]
  return dict(images=images, annotations=objects, categories=categories), problems


def stems(place: str) -> list[str]:
  """Returns the names of a split's images, without suffix, of its list or its folder of XML files.

  Raises:
    UserError: for a list that cannot be read.
  """
  if os.path.isdir(place):
    return sorted(os.path.splitext(name)[0] for name in os.listdir(place) if name.endswith('.xml'))
  try:
    with open(place, encoding='utf-8') as file:
      return list(dict.fromkeys(line.split()[0] for line in file if line.strip()))
  except (OSError, ValueError) as error:
    raise UserError(f'{place} cannot be read as a list of images ({error})') from None


def _parse(path: str) -> xml.Element | str:
  """Returns the tree of a file, or what is wrong with it."""
  try:
    with open(path, 'rb') as file:
      text = file.read()
    if b'<!DOCTYPE' in text or b'<!ENTITY' in text:  # entities may stand for gigabytes, or other files
      return f'{path} declares a DOCTYPE, which is not read; remove it'
    return xml.fromstring(text)
  except (OSError, ValueError, xml.ParseError) as error:
    return f'{path} is not XML that can be read ({error})'


def _image(stem: str, tree: xml.Element) -> dict:
  name = os.path.basename((tree.findtext('filename') or f'{stem}.jpg').replace('\\', '/'))
  suffix = os.path.splitext(name)[1] or '.jpg'
  return dict(id=stem, file_name=stem + suffix, width=tree.findtext('size/width'),
              height=tree.findtext('size/height'))


def _objects(path: str, tree: xml.Element, numbers: dict[str, int]) -> Iterator[dict | Problem]:
  """Yields the objects of an image, or what is wrong with one."""
  for n, found in enumerate(tree.iter('object')):
    corners = [found.findtext(f'bndbox/{side}') for side in ('xmin', 'ymin', 'xmax', 'ymax')]
    name = found.findtext('name')
    if name is None:
      yield Problem(f'object {n} of {path} has no name')
      continue
    try:
      left, top, right, bottom = map(float, corners)
    except (TypeError, ValueError):
      yield Problem(f'object {n} of {path} ({name}) has the corners {corners}; they must be '
                    'four numbers')
      continue
    difficult = (found.findtext('difficult') or '0').strip()
    yield dict(category_id=numbers[name], iscrowd=int(difficult == '1'),
               bbox=[left - 1., top - 1., right - left + 1., bottom - top + 1.])
