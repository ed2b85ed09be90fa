"""Colours change the same whatever an image is padded to, and on any number of devices."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detr_jax.data import colours
from tests.conftest import ROOT
from vit_jax import config as config_lib, sharding, task as task_lib
from vit_jax.data import augment
from vit_jax.errors import UserError

OPS = [dict(name='color_jitter', brightness=.5, contrast=.8, saturation=.5, hue=.2)]


def test_what_is_around_an_image_counts_nowhere():
  image = np.random.default_rng(0).random((3, 12, 17, 3), np.float32)
  inside, key = np.ones((3, 12, 17, 1), bool), jax.random.key(3)
  want = colours.apply(jnp.asarray(image), inside, key, OPS)
  sides = ((0, 0), (0, 9), (0, 4), (0, 0))
  padded = np.pad(image, sides, constant_values=.9)
  got = colours.apply(jnp.asarray(padded), np.pad(inside, sides), key, OPS)
  np.testing.assert_allclose(got[:, :12, :17], want, atol=1e-5)
  assert np.abs(np.asarray(want) - image).max() > .05
  alone, _ = augment.apply(jnp.asarray(image), jnp.zeros((3, 1)), key, OPS)  # as for a classifier
  np.testing.assert_allclose(want, alone, atol=1e-6)


@pytest.mark.parametrize('ops, said', [
    ([dict(name='flip')], "'flip' is not for detectors, .* data.augment takes color_jitter"),
    ([dict(name='mixup')], "'mixup' is not for detectors"),
    ([dict(name='color_jiter')], "did you mean 'color_jitter'"),
    ([dict(name='color_jitter', hue=2.)], 'hue of augmentation .* from 0 to 0.5')])
def test_what_detectors_cannot_have_is_refused(ops, said):
  with pytest.raises(UserError, match=said):
    colours.check(ops)


def test_a_batch_is_the_same_on_eight_devices():
  spec = os.path.join(ROOT, 'configs', 'detr_small.py:smoke')

  def batch(**mesh):
    config = config_lib.load(spec).copy_and_resolve_references().unlock()
    config.data.augment = OPS
    mesh = sharding.make_mesh(**mesh)
    with jax.set_mesh(mesh):
      data, task = task_lib.build(config, mesh)
      _, found = next(iter(data.train.after(0, 1)))
      made = jax.jit(lambda batch: task._images(task.augment(batch, jax.random.key(1))))(found)
      return np.asarray(made), np.asarray(task._images(found))

  alone, plain = batch(data=1)
  np.testing.assert_allclose(batch(data=8)[0], alone, atol=1e-5)
  assert np.abs(alone - plain).max() > .1
