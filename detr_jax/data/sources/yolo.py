"""YOLO's text files (the layout of ultralytics): a line an object, in shares of the image.

    ROOT/data.yaml                   names: [cat, dog], train: images/train, val: images/val
    ROOT/images/train/ID.jpg         the images
    ROOT/labels/train/ID.txt         CLASS CX CY W H, or CLASS X Y X Y X Y ... for an outline

An image without a label file has no objects. A class is counted from 0.
"""

import os
from collections.abc import Iterator

import yaml
from PIL import Image

from detr_jax.data.sources.objects import Problem
from vit_jax.data import images, listing
from vit_jax.errors import UserError

FILES = ('data.yaml', 'data.yml', 'dataset.yaml')
SPLITS = ('train', 'val', 'test')
SLACK = .01  # by which a share may lie outside 0 to 1, as rounding leaves it


def description(root: str) -> str:
  """Returns the path of the YAML file of a folder; '' where it has none."""
  return next((path for name in FILES if os.path.isfile(path := os.path.join(root, name))), '')


def splits(root: str) -> dict[str, str]:
  """Returns {split: folder or list of its images} of a folder; {} where it is not YOLO's."""
  path = description(root)
  if not path:
    return {}
  content = _load(path)
  base = os.path.join(root, str(content.get('path') or ''))
  base = base if os.path.isdir(base) else root  # written on another machine
  found = {}
  for name in SPLITS:
    if isinstance(content.get(name), str) and content[name]:
      places = [os.path.join(base, content[name]), os.path.join(root, content[name].lstrip('./'))]
      found[name] = next((place for place in places if os.path.exists(place)), places[0])
  return found


def _load(path: str) -> dict:
  try:
    with open(path, encoding='utf-8') as file:
      content = yaml.safe_load(file)
  except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
    raise UserError(f'{path} is not YAML that can be read ({" ".join(str(error).split())})') from None
  if not isinstance(content, dict):
    raise UserError(f'{path} holds no keys; it must have names and train')
  return content


def names(path: str) -> list[str]:
  """Returns the classes of a YAML file; UserError where it does not name them."""
  found = _load(path).get('names')
  if isinstance(found, dict) and found and sorted(found) == list(range(len(found))):
    found = [found[i] for i in range(len(found))]
  if not isinstance(found, list) or not found:
    raise UserError(f'{path} must have names: a list of the classes, or a number from 0 and a name for '
                    'each')
  return list(map(str, found))


def read(root: str, split: str) -> tuple[dict, list[Problem]]:
  """Returns the images, objects and classes of a split in COCO's form, and what is wrong with the files.

  Raises:
    UserError: for a YAML file without classes, or a split that is not there.
  """
  place, classes = splits(root)[split], names(description(root))
  entries, objects, problems = [], [], []
  for path in _images(place):
    try:
      width, height = _size(path)
    except UserError as error:
      problems.append(Problem(str(error)))
      continue
    name = os.path.relpath(path, root)
    entries.append(dict(id=len(entries) + 1, file_name=name, width=width, height=height))
    for found in _objects(label_file(path), width, height, len(classes)):
      if isinstance(found, Problem):
        problems.append(found)
      else:
        objects.append(dict(found, id=len(objects) + 1, image_id=len(entries)))
  categories = [dict(id=i, name=name) for i, name in enumerate(classes)]
  return dict(images=entries, annotations=objects, categories=categories), problems


def _images(place: str) -> list[str]:
  """Returns the images of a split: those below a folder, or those that a list names."""
  if os.path.isdir(place):
    return listing.images_below(place).files
  try:
    with open(place, encoding='utf-8') as file:
      lines = [line.strip() for line in file if line.strip()]
  except (OSError, ValueError) as error:
    raise UserError(f'the images {place} of a split cannot be read ({error})') from None
  return [line if os.path.isabs(line) else os.path.join(os.path.dirname(place), line) for line in lines]


def label_file(image: str) -> str:
  """Returns the label file of an image: `labels` for the last `images` in its path, .txt behind."""
  before, found, after = image.rpartition(f'{os.sep}images{os.sep}')
  moved = f'{before}{os.sep}labels{os.sep}{after}' if found else image
  return os.path.splitext(moved)[0] + '.txt'


def _size(path: str) -> tuple[int, int]:
  """Returns (width, height) of the upright image, from the header of the file."""
  try:
    with Image.open(path) as file:
      turned = images.orientation(file) > 4
      return file.size[::-1] if turned else file.size
  except images.DAMAGE as error:
    raise images.damaged(path, error) from None


def _objects(path: str, width: int, height: int, classes: int) -> Iterator[dict | Problem]:
  """Yields the objects of an image, or what is wrong with a line."""
  if not os.path.exists(path):
    return
  try:
    with open(path, encoding='utf-8') as file:
      lines = file.read().splitlines()
  except (OSError, ValueError) as error:
    yield Problem(f'{path} cannot be read ({error})')
    return
  for n, line in enumerate(lines, 1):
    words = line.split()
    if words:
      yield _object(f'line {n} of {path}', words, width, height, classes)


def _object(where: str, words: list[str], width: int, height: int, classes: int) -> dict | Problem:
  try:
    label, *numbers = map(float, words)
  except ValueError:
    return Problem(f'{where} holds {" ".join(words)[:60]!r}; it must be numbers')
  if label not in range(classes):
    return Problem(f'{where} has the class {words[0]}; data.yaml names {classes}, from 0')
  outline = len(numbers) >= 6 and len(numbers) % 2 == 0
  if len(numbers) != 4 and not outline:
    return Problem(f'{where} has {len(words)} numbers; it must have 5, or a class and three points or '
                   'more')
  if not all(-SLACK <= x <= 1. + SLACK for x in numbers):
    return Problem(f'{where} has {" ".join(words)[:60]!r}; places must be shares of the image, 0 to 1')
  if outline:
    xs, ys = [x * width for x in numbers[::2]], [y * height for y in numbers[1::2]]
    points = [n for pair in zip(xs, ys) for n in pair]
    return dict(category_id=int(label), segmentation=[points], iscrowd=0,
                bbox=[min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)])
  x, y, w, h = numbers
  return dict(category_id=int(label), iscrowd=0, bbox=[
      (x - w / 2.) * width, (y - h / 2.) * height, w * width, h * height])
