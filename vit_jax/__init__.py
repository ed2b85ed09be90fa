"""Image-recognition transformers in JAX: train, evaluate, explore.

    model = vit_jax.create_model('vit_b16', num_classes=10)
    predictor = vit_jax.load('runs/quickstart')
    predictor.predict(['photo.jpg'])
    logits = predictor.model.apply(predictor.variables, predictor.normalize(images))
    model, params, info = predictor
    vit_jax.list_models('vit_*')
    vit_jax.list_pretrained('*b16*')

The names are imported when they are used, so that `import vit_jax` costs nothing.
"""

import importlib

__version__ = '0.1.0'

_HOME = dict(list_models='vit_jax.models', create_model='vit_jax.models', load='vit_jax.faces',
             list_pretrained='vit_jax.pretrained', UserError='vit_jax.errors')

__all__ = sorted(_HOME)


def __getattr__(name):
  if name in _HOME:
    return getattr(importlib.import_module(_HOME[name]), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  return sorted([*globals(), *_HOME])
