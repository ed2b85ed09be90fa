"""MLP-Mixer: the sizes that it takes."""

import jax
import pytest

from tests.models import tiny
from vit_jax import models
from vit_jax.errors import UserError

MODEL = models.create_model('mixer_s16', width=16, depth=1, tokens_mlp_dim=8, channels_mlp_dim=24,
                            patch_size=4, num_classes=5)


def test_parameters_belong_to_a_number_of_patches():
  variables = tiny.variables(MODEL, (8, 12))
  assert tiny.apply(MODEL, variables['params'], tiny.images((12, 8))).shape == (2, 5)
  with pytest.raises(UserError, match='mix 6 patches, the image has 2x2 = 4; .* one size'):
    MODEL.apply(variables, tiny.images((8, 8)))


def test_a_size_that_the_patches_do_not_divide_names_the_nearest():
  with pytest.raises(UserError, match='image size 9x12 is not a multiple .* 8x12 and 12x12'):
    jax.eval_shape(MODEL.init, jax.random.key(0), tiny.images((9, 12)))


def test_stochastic_depth_drops_branches_in_training_alone():
  model = MODEL.clone(depth=2, drop_path_rate=.9)
  variables, image = tiny.variables(model, (8, 8)), tiny.images((8, 8), batch=8)
  calm = model.apply(variables, image)
  rngs = {'dropout': jax.random.key(0)}
  assert not (model.apply(variables, image, train=True, rngs=rngs) == calm).all()
  assert (MODEL.clone(depth=2).apply(variables, image) == calm).all()
