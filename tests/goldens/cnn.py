"""EfficientNet and RegNet, torchvision's."""

import dataclasses

import numpy as np

from tests.goldens.base import Golden, load, run
from tests.goldens.convnext import first, image_of
from vit_jax.models.efficientnet import EfficientNet
from vit_jax.models.regnet import Design, RegNet


def efficientnet(golden: Golden) -> dict[str, np.ndarray]:
  """models/efficientnet.py; the last convolution stands behind as many stages as there are."""
  kwargs = golden.meta['kwargs']
  image = image_of(golden, kwargs)
  expansions, sizes, strides, before, widths, depths = map(tuple, zip(*kwargs.get('setting')))
  count = len(widths)
  model = EfficientNet(
      num_classes=kwargs.get('num_classes', 1000), stem_width=before[0], widths=widths, depths=depths,
      expansions=expansions, kernel_sizes=sizes, strides=strides, last_width=kwargs.get('last_channel'),
      padding='symmetric', epsilon=1e-5)
  renamed = {name.replace(f'features.{count + 1}.', 'features.8.'): array
             for name, array in golden.weights.items()}
  variables, _ = load(dataclasses.replace(golden, weights=renamed), model, image)
  logits, found = run(model, variables, image)
  maps = [found['stem'], *(found[f'stage{i}'] for i in range(count)), found['last']]
  return {**{f'features_{i}': first(x) for i, x in enumerate(maps)}, 'logits': logits}


def regnet(golden: Golden) -> dict[str, np.ndarray]:
  """models/regnet.py."""
  kwargs = golden.meta['kwargs']
  image, p = image_of(golden, kwargs), kwargs.get('params')
  design = Design(p['depth'], p['w_0'], p['w_a'], p['w_m'], p['group_width'])
  model = RegNet(num_classes=kwargs.get('num_classes', 1000), **design.fields(),
                 se_ratio=p.get('se_ratio', 0.) or 0., stem_width=kwargs.get('stem_width', 32))
  variables, _ = load(golden, model, image)
  logits, found = run(model, variables, image)
  blocks = {f'block{i + 1}': first(found[f'stage{i}']) for i in range(len(model.depths))}
  return {'stem': first(found['stem']), **blocks, 'logits': logits}


SYSTEMS = dict(efficientnet=efficientnet, regnet=regnet)
