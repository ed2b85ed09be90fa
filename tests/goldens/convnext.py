"""ConvNeXt: classifier, dense features, isotropic form."""

import numpy as np

from tests.goldens.base import Fields, Golden, load, run
from vit_jax.models.convnext import ConvNeXt

TRAINING = ('drop_path_rate', 'head_init_scale')  # act in training, and at its start, alone


def build(fields: Fields, **own) -> ConvNeXt:
  """Returns the model of the arguments of `ConvNeXt`."""
  fields.skip(*TRAINING)
  scaled = fields.get('layer_scale_init_value', 1e-6)
  return ConvNeXt(depths=tuple(fields.get('depths', (3, 3, 9, 3))),
                  widths=tuple(fields.get('dims', (96, 192, 384, 768))),
                  layer_scale=scaled if scaled > 0 else None, **own)


def image_of(golden: Golden, fields: Fields) -> np.ndarray:
  """Returns the images, channels last."""
  image = golden.inputs['image'].transpose(0, 2, 3, 1)
  fields.check('in_chans', image.shape[3])
  return image


def first(x) -> np.ndarray:
  """Returns a map with its channels first, as the files have it."""
  return np.asarray(x).transpose(0, 3, 1, 2)


def stages(model: ConvNeXt, found) -> dict[str, np.ndarray]:
  """Returns the maps before and behind each stage."""
  out = {'downsample_0': first(found['stem'])}
  for i in range(len(model.depths)):
    if i:
      out[f'downsample_{i}'] = first(found[f'stage{i}/downsample'])
    out[f'stage_{i}'] = first(found[f'stage{i}'][0])
  return out


def classifier(golden: Golden) -> dict[str, np.ndarray]:
  """models/convnext.py."""
  fields = golden.meta['kwargs']
  image, model = image_of(golden, fields), build(fields, num_classes=fields.get('num_classes', 1000))
  variables, _ = load(golden, model, image)
  logits, found = run(model, variables, image)
  return {**stages(model, found), 'logits': logits, 'pooled_normed': found['norm']}


def dense(golden: Golden) -> dict[str, np.ndarray]:
  """semantic_segmentation/backbone/convnext.py, and the same of object_detection."""
  fields = golden.meta['kwargs']
  wanted = tuple(fields.get('out_indices', (0, 1, 2, 3)))
  image = image_of(golden, fields)
  model = build(fields, num_classes=None, map_norms=True, rounding='down')
  variables, _ = load(golden, model, image)
  features, found = run(model, variables, image)
  return {**stages(model, found), **{f'feature_{i}': first(features.maps[i]) for i in wanted}}


def isotropic(golden: Golden) -> dict[str, np.ndarray]:
  """models/convnext_isotropic.py."""
  fields = golden.meta['kwargs']
  image, scaled = image_of(golden, fields), fields.get('layer_scale_init_value', 0)
  fields.skip(*TRAINING)
  model = ConvNeXt(num_classes=fields.get('num_classes', 1000), depths=(fields.get('depth', 18),),
                   widths=(fields.get('dim', 384),), patch_size=fields.get('patch_size', 16),
                   stem_norm=False, layer_scale=scaled if scaled > 0 else None)
  variables, _ = load(golden, model, image)
  logits, found = run(model, variables, image)
  blocks = {f'block_{i}': first(found[f'stage0/block{i}']) for i in range(model.depths[0])}
  return {**blocks, 'logits': logits, 'pooled_normed': found['norm']}


SYSTEMS = dict(convnext=classifier, convnext_dense=dense, convnext_iso=isotropic)
