"""COCO's JSON with each of its values replaced by what cannot be: read as it is meant, or refused in one
sentence that names the offender. On some of them pycocotools would crash, hang or read foreign memory.
"""

import contextlib
import copy
import io
import json
import re
import warnings

import numpy as np
import pytest

from detr_jax.data import sources
from detr_jax.data.config import detection_data
from detr_jax.evaluation import average_precision
from tests.detr.data import coco
from vit_jax.data import __main__ as data_command
from vit_jax.errors import UserError

GONE = object()
VALUES = (GONE, None, 'x', '', '1', -1, 0, 1.5, 1e12, 1e308, 10 ** 12, 2 ** 31, 2 ** 63, 10 ** 400,
          float('nan'), -float('inf'), True, [], [[]], [1e12], [float('nan')] * 4, {}, {'a': [1]},
          'a\0b', '\ud800', [None], 'a' * 5000)
NAMED = 'image|annotation|segment|categor|entry|examples'


def leaves(node, path=()):
  """Yields the path of every value, whole lists and objects too."""
  for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
    yield (*path, key)
    yield from leaves(node[key], (*path, key))


def mutated(content, path, value):
  content = copy.deepcopy(content)
  node = content
  for key in path[:-1]:
    node = node[key]
  if value is GONE:
    del node[path[-1]]
  else:
    node[path[-1]] = value
  return content


def cases(content):
  for path in leaves(content):
    for value in VALUES:
      yield path, value, mutated(content, path, value)


def use(root, panoptic, **options):
  """Reads all that training, evaluation and the check read; returns what it came to."""
  config = detection_data(str(root), 1, ((32, 32),), train='val', test='val', panoptic=panoptic,
                          masks=True, **options)
  split = sources.open_source(config).split('val')
  for i in range(len(split)):
    try:
      example = split.read(i)
      assert example.image().size == tuple(split.sizes[i][::-1])
      masks = example.masks()
    except UserError as error:  # of the file, which only reading it tells
      assert re.search(r'\.png|\.jpg|image', str(error)), error
      continue
    assert masks.shape == (len(example.boxes), *split.sizes[i]) and np.isfinite(example.boxes).all()
    assert (example.boxes >= 0).all() and (example.boxes <= np.tile(split.sizes[i][::-1], 2)).all()
  truth = split.annotations()
  json.dumps(truth, allow_nan=False)
  if not panoptic:
    average_precision.evaluate(truth, [], 'segm')
  return split


def fails(root, panoptic, path, value, content, how):
  """Returns what is wrong with how a file is taken; '' for nothing.

  Args:
    root, panoptic: of the data.
    path, value, content: what was changed, to what, and the whole.
    how: 0 reads it as training does, 1 skips what is wrong, 2 checks it.
  """
  file = root / 'annotations' / f'{"panoptic" if panoptic else "instances"}_val.json'
  file.write_text(json.dumps(content))
  out, said = io.StringIO(), []
  with warnings.catch_warnings(), contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
    warnings.simplefilter('error', RuntimeWarning)
    try:
      if how == 2:
        data_command.main(['--check', str(file)])
      else:
        use(root, panoptic, **(dict(on_error='skip', outside='clip') if how else {}))
    except UserError as error:
      lines = [line for line in out.getvalue().splitlines() if 'error:' in line]
      said = lines if how == 2 else [str(error)]
  wrong = [one for one in said if '\n' in one or not re.search(NAMED, one)]
  return f'{path} = {value!r}: {wrong[0]}' if wrong else ''


@pytest.mark.parametrize('panoptic', [False, True])
def test_any_value_is_read_or_refused_in_a_sentence(tmp_path, panoptic):
  coco.panoptic_scene(tmp_path)
  name = 'panoptic' if panoptic else 'instances'
  content = json.loads((tmp_path / 'annotations' / f'{name}_val.json').read_text())
  if panoptic:
    (tmp_path / 'annotations' / 'instances_val.json').unlink()
    del content['annotations'][0]['segments_info'][1:], content['categories'][1:2]
  else:
    first, crowd, last = content['annotations']  # one of each coding
    first['segmentation'] = [[3, 4, 20, 4, 20, 20]]
    crowd.update(image_id=2, category_id=1, segmentation=dict(size=[24, 32], counts=[460, 308]))
    last['category_id'] = 1
    del content['images'][0], content['categories'][1]
    first['image_id'] = 2
  wrong, count = [], 0
  for count, (path, value, changed) in enumerate(cases(content), 1):
    try:
      found = fails(tmp_path, panoptic, path, value, changed, how=(count + count // len(VALUES)) % 3)
    except Exception as error:
      raise AssertionError(f'{path} = {value!r}') from error
    wrong += [found] * bool(found)
  assert count > 1000 and not wrong, wrong[:20]
