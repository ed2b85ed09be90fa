"""Writes detections in the form of COCO, VOC or YOLO, as `detr_jax.data.sources` reads them.

    coco:FILE.json   images, annotations with a score, categories
    voc:FOLDER       Annotations/NAME.xml
    yolo:FOLDER      labels/NAME.txt and data.yaml with the classes
"""

import os
import xml.etree.ElementTree as xml
from collections.abc import Callable, Sequence

import yaml

from vit_jax import files
from vit_jax.data import listing
from vit_jax.errors import UserError

FORMS = ('coco', 'voc', 'yolo')


class Writer:
  """Takes the record of each image, and writes what was asked for."""

  def __init__(self, asked: str, names: Sequence[str], categories: dict[int, str]):
    """Makes the folder.

    Args:
      asked: FORM:PATH.
      names: of all images.
      categories: {category id: name}, in the order of the classes.

    Raises:
      UserError: for another form, a folder that cannot be, or two images that would have one file.
    """
    self._form, found, self._path = asked.partition(':')
    if self._form not in FORMS or not found or not self._path:
      raise UserError(f'--write={asked} must be coco:FILE.json, voc:FOLDER or yolo:FOLDER')
    self._names, self._categories = names, categories
    self._images, self._objects = [], []
    self._folder = os.path.join(self._path, dict(voc='Annotations', yolo='labels').get(self._form, ''))
    stems = {}
    for name in names if self._form != 'coco' else ():
      if (other := stems.setdefault(_stem(name), name)) != name:
        raise UserError(f'{other} and {name} would both have their objects in {_stem(name)}; give the '
                        'images names of their own, or call once for each folder')
    self._attempt(lambda: os.makedirs(
        os.path.dirname(self._path) or '.' if self._form == 'coco' else self._folder, exist_ok=True))

  def add(self, name: str, record: dict) -> None:
    """Writes the objects of an image, or keeps them for the end."""
    if self._form == 'coco':
      self._add_coco(name, record)
      return
    text, suffix = (_voc(name, record), 'xml') if self._form == 'voc' else (self._yolo(record), 'txt')
    self._write(os.path.join(self._folder, f'{_stem(name)}.{suffix}'), text)

  def close(self) -> str:
    """Writes what belongs to all images, and returns what was written and what training on it needs."""
    categories = [dict(id=number, name=name) for number, name in self._categories.items()]
    if self._form == 'coco':
      self._attempt(lambda: files.write_json(self._path, dict(
          images=self._images, annotations=self._objects, categories=categories)))
    elif self._form == 'yolo':
      self._write(os.path.join(self._path, 'data.yaml'), yaml.safe_dump(
          dict(names=list(self._categories.values())), allow_unicode=True))
    needed = dict(
        coco='', yolo='images/ with the images, and train: and val: in data.yaml',
        voc='JPEGImages/ with the images, and ImageSets/Main/train.txt and val.txt with their names')
    return f'wrote the objects of {len(self._names)} image(s) to {self._path}' + (
        f'; to train on them, add {needed[self._form]}' if needed[self._form] else '')

  def _attempt(self, write: Callable[[], None]) -> None:
    try:
      write()
    except OSError as error:
      raise files.cannot_write(error, self._path) from None

  def _write(self, path: str, text: str) -> None:
    def write():
      with files.replacing(path) as file:
        file.write(text)
    self._attempt(write)

  def _add_coco(self, name: str, record: dict) -> None:
    number = len(self._images) + 1
    self._images.append(dict(id=number, file_name=listing.shown(os.path.basename(name)),
                             width=record['width'], height=record['height']))
    for one in record['detections']:
      left, top, right, bottom = one['box']
      box = [left, top, right - left, bottom - top]
      self._objects.append(dict(
          id=len(self._objects) + 1, image_id=number, bbox=box, iscrowd=0, area=box[2] * box[3],
          category_id=one['category_id'], score=one['score']))

  def _yolo(self, record: dict) -> str:
    order, lines = list(self._categories), []
    width, height = record['width'], record['height']
    for one in record['detections']:
      left, top, right, bottom = one['box']
      places = ((left + right) / 2. / width, (top + bottom) / 2. / height, (right - left) / width,
                (bottom - top) / height)
      lines.append(' '.join([str(order.index(one['category_id'])), *(f'{x:.6f}' for x in places)]))
    return ''.join(f'{line}\n' for line in lines)


def _stem(name: str) -> str:
  return os.path.splitext(os.path.basename(name))[0]


def _voc(name: str, record: dict) -> str:
  """Returns the XML of an image; corners are pixels from 1, both inside the object."""
  root = xml.Element('annotation')
  put = lambda parent, tag, value: setattr(xml.SubElement(parent, tag), 'text', str(value))
  put(root, 'filename', listing.shown(os.path.basename(name)))
  size = xml.SubElement(root, 'size')
  for side, value in (('width', record['width']), ('height', record['height']), ('depth', 3)):
    put(size, side, value)
  for one in record['detections']:
    found, (left, top, right, bottom) = xml.SubElement(root, 'object'), one['box']
    for tag, value in (('name', one['class']), ('difficult', 0), ('confidence', one['score'])):
      put(found, tag, value)
    box = xml.SubElement(found, 'bndbox')
    for tag, value in (('xmin', left + 1), ('ymin', top + 1), ('xmax', right), ('ymax', bottom)):
      put(box, tag, round(value, 2))
  xml.indent(root)
  return xml.tostring(root, encoding='unicode') + '\n'
