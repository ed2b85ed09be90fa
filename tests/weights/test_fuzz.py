"""Damaged files of every format: an error in a sentence, or what the file held."""

import json
import os
import pathlib

import numpy as np
import pytest

from tests.models import tiny
from tests.weights import test_folders
from tests.weights.test_containers import make_torch, write_torch
from vit_jax import models, trees, weights
from vit_jax.errors import UserError
from vit_jax.weights import containers, npz, published, safetensors

VIT = dict(width=8, depth=1, num_heads=2, mlp_dim=12, patch_size=4, num_classes=3)
MIXER = dict(width=8, depth=1, tokens_mlp_dim=4, channels_mlp_dim=12, patch_size=4, num_classes=3)
RESNET = dict(width=32, depths=(1,), num_classes=3)
SIZE = (8, 8)
# name, fields, format of the names, container; 'zip' and 'legacy' are PyTorch's, 'hub' is a folder of
# parts with an index and a config.
CASES = [
    ('vit_ti16', VIT, 'npz', 'npz'), ('vit_ti16', dict(VIT, class_position=False), 'npz', 'npz'),
    ('mixer_b16', MIXER, 'npz', 'npz'), ('bit_r50x1', RESNET, 'npz', 'npz'),
    ('deit_ti16', VIT, 'timm', 'safetensors'), ('deit3_s16', VIT, 'deit', 'safetensors'),
    ('deit_ti16_distilled', VIT, 'huggingface', 'safetensors'),
    ('deit_ti16', VIT, 'timm', 'zip'), ('resnet18', RESNET, 'torchvision', 'zip'),
    ('deit_ti16_distilled', VIT, 'deit', 'legacy'), ('deit_ti16', VIT, 'huggingface', 'hub')]
CONFIG = dict(model_type='vit', hidden_act='gelu', layer_norm_eps=1e-12, num_attention_heads=2,
              image_size=8, id2label={str(i): f'kind {i}' for i in range(3)})
BYTES, KEYS = 300, 60  # mutations of each case


def write(path, arrays, container):
  if container in ('npz', 'safetensors'):
    dict(npz=npz, safetensors=safetensors)[container].write(path, arrays)
  elif container == 'hub':
    test_folders.sharded(path, arrays)
    with open(os.path.join(path, 'config.json'), 'w') as file:
      json.dump(CONFIG, file)
  else:
    write_torch(path, arrays, make_torch(), container == 'legacy')


class Case:
  """A file that is damaged, and what reads it."""

  def __init__(self, folder, name, fields, to, container):
    model, self.container = models.create_model(name, **fields), container
    self.path, self.arguments = os.path.join(folder, 'damaged'), (name, SIZE, fields)
    first = os.path.join(folder, 'w.npz' if to == 'npz' else 'w.safetensors')
    weights.export(first, model, tiny.variables(model, SIZE), to)
    self.arrays = containers.read(first)
    self.shapes = trees.unstack(weights.flatten(weights.variable_shapes(model, SIZE, 3)))
    self.model = model
    write(self.path, self.arrays, container)
    names = os.listdir(self.path) if container == 'hub' else ['']
    self.files = [os.path.join(self.path, name) if name else self.path for name in sorted(names)]
    self.contents = [pathlib.Path(file).read_bytes() for file in self.files]
    self.whole = self.load()

  def damage(self, rng):
    """Damages one of the files; the others are whole."""
    damaged_one = rng.integers(len(self.files))
    for i, (file, content) in enumerate(zip(self.files, self.contents, strict=True)):
      pathlib.Path(file).write_bytes(damaged(content, rng) if i == damaged_one else content)

  def load(self):
    """Returns the fitted arrays: all of `vit_jax.load` but the device."""
    _, source, _, _ = published.read(weights.origin(self.path), *self.arguments)
    found, _ = weights.fit_model(source, self.model, self.shapes, SIZE)
    return found

  def outcome(self):
    """Returns whether the damaged file was refused; fails when what was loaded cannot be right."""
    try:
      found = self.load()
    except UserError as error:
      assert str(error) and '\n' not in str(error)
      return True
    for path, array in found.items():
      assert array.shape == self.shapes[path].shape and np.isfinite(array).all()
      if self.container in ('npz', 'zip'):  # they have checksums
        np.testing.assert_array_equal(array, self.whole[path])
    return False


def damaged(content, rng):
  """Returns bytes changed, cut out, repeated or cut off at random."""
  out, kind = bytearray(content), rng.integers(0, 8)
  if kind == 0:
    return out[:rng.integers(0, len(out))]
  start, end = sorted(rng.integers(0, len(out), 2))
  if kind == 1:
    del out[start:end]
  elif kind == 2:
    out[start:start] = out[start:min(end, start + 64)]
  elif kind == 3:  # what reads begins there or at the end
    out[rng.integers(0, min(len(out), 512))] = rng.integers(0, 256)
  elif kind == 4:
    out[-rng.integers(1, min(len(out), 512))] = rng.integers(0, 256)
  else:
    for at in rng.integers(0, len(out), rng.integers(1, 5)):
      out[at] = rng.integers(0, 256)
  return out


def changed(arrays, rng):
  """Returns (arrays of which one is missing, renamed, added, of another shape or type, or NaN; kind)."""
  layers = [name for name in arrays if 'lock' in name or 'layer' in name]  # nothing may replace them
  out, name = dict(arrays), layers[rng.integers(len(layers))]
  kind = ('missing', 'renamed', 'extra', 'shape', 'type', 'nan')[rng.integers(6)]
  array = out.pop(name)
  if kind == 'renamed':
    out[name[:-1] + 'x'] = array
  elif kind == 'extra':
    out |= {name: array, f'{name}/more': array}
  elif kind == 'shape':
    out[name] = np.ascontiguousarray(np.stack([array, array]))
  elif kind == 'type':
    out[name] = np.zeros(array.shape, np.int64)
  elif kind == 'nan':
    out[name] = np.full_like(array, np.nan)
  return out, kind


@pytest.mark.parametrize('name, fields, to, container', CASES)
def test_a_damaged_file_is_refused_in_a_sentence_or_read_rightly(
    name, fields, to, container, tmp_path):
  case = Case(str(tmp_path), name, fields, to, container)
  rng, refused = np.random.default_rng(0), 0
  for _ in range(BYTES):
    case.damage(rng)
    refused += case.outcome()
  assert refused > BYTES // 4
  for _ in range(KEYS):
    arrays, kind = changed(case.arrays, rng)
    write(case.path, arrays, container)
    assert case.outcome(), kind
