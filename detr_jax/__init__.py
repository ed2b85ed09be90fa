"""Sets of boxes and masks, and an answer per pixel, on what `vit_jax` is made of.

    model = detr_jax.create_model('detr_r50', num_classes=3)
    model, params, info = detr_jax.load('runs/my_detector')
    detr_jax.list_models('detr_r50*')

The names are imported when they are used, so that `import detr_jax` costs nothing.
"""

import importlib

_HOME = dict(list_models='detr_jax.models', create_model='detr_jax.models',
             load='vit_jax.faces', UserError='vit_jax.errors')

__all__ = sorted(_HOME)


def __getattr__(name):
  if name in _HOME:
    return getattr(importlib.import_module(_HOME[name]), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  return sorted([*globals(), *_HOME])
