"""Tiny detectors on a ResNet of one unit."""

import jax.numpy as jnp
import numpy as np

from detr_jax import models
from tests.models import tiny
from vit_jax import weights

IMAGE = (8, 12)  # pixels: two by three entries of stride 4
SIZES = ((8, 12), (4, 8))


def detr(**overrides):
  """Returns a DETR with one encoder and two decoder layers."""
  backbone = {**dict(depths=(1,), width=8, norm='frozen'), **overrides.pop('backbone_fields', {})}
  return models.create_model('detr_r50', **{**dict(
      num_classes=3, backbone='resnet18', backbone_fields=backbone, width=16, num_heads=2, mlp_dim=24,
      encoder_layers=1, decoder_layers=2, num_queries=5, dropout_rate=0.), **overrides})


def anchored(**overrides):
  """Returns one with anchors and two groups of denoising queries."""
  return detr(**{**dict(queries='anchors', classifier='sigmoid', temperature=20., denoising=2),
                 **overrides})


def variables(model):
  """Returns variables that are all alive and keep the scale of what goes through, so that no softmax is
  all or nothing."""
  rng = np.random.default_rng(0)

  def draw(path, shape):
    noise = rng.normal(size=shape)
    if path.endswith('/kernel'):
      fan_in = shape[0] if len(shape) == 3 and '/out/' not in path else np.prod(shape[:-1])
      return noise / np.sqrt(fan_in)
    if path.endswith('/var'):
      return 1. + .2 * np.abs(noise)
    return noise if '/' not in path else path.endswith('/scale') + .2 * noise

  shapes = weights.flatten(weights.variable_shapes(model, IMAGE, 3))
  return weights.unflatten({path: jnp.asarray(draw(path, shape.shape), jnp.float32)
                            for path, shape in sorted(shapes.items())})


def images(scale=1):
  """Returns two images, so many times as large as `IMAGE`."""
  return tiny.images(tuple(n * scale for n in IMAGE))


def padded(image, sizes):
  """Returns images that are zero outside their sizes."""
  inside = np.zeros(image.shape[:3] + (1,), np.float32)
  for mask, (height, width) in zip(inside, sizes, strict=True):
    mask[:height, :width] = 1.
  return image * inside


# Of the first image two targets, of the second none.
TARGETS = dict(labels=jnp.asarray([[0, 2, -1], [-1, -1, -1]]),
               boxes=jnp.asarray([[[.5, .5, .2, .3], [.2, .3, .4, .2], [0.] * 4], [[0.] * 4] * 3]))
