"""What is wrong with options is said before training."""

import inspect

import pytest

from vit_jax.data import augment
from vit_jax.data.augment import options
from vit_jax.errors import UserError

OPS = {**augment.IMAGE_OPS, **augment.BATCH_OPS}


@pytest.mark.parametrize('name', OPS)
def test_every_option_has_limits_that_its_default_keeps(name):
  for option, limit in options.limits(OPS[name]).items():
    default = inspect.signature(OPS[name]).parameters[option].default
    assert default is not inspect.Parameter.empty
    if default is not None:
      limit.check(option, default)


@pytest.mark.parametrize('op, said', [
    (dict(name='randaugmet'), "unknown augmentation 'randaugmet'; did you mean 'randaugment'"),
    (dict(name='randaugment', magnitud=9), "'randaugment': 'magnitud'; did you mean 'magnitude'"),
    (dict(name='randaugment', magnitude=31), 'magnitude of augmentation .* is 31; .* from 0 to 30'),
    (dict(name='randaugment', magnitude=True), 'is True; it must be a number'),
    (dict(name='randaugment', layers=2.5), 'layers .* is 2.5; it must be a whole number from 1 to 16'),
    (dict(name='randaugment', flavor='timm'), "value of flavor .*: 'timm'; choose one of: pil, tf"),
    (dict(name='randaugment', increasing=1), 'increasing .* is 1; it must be true or false'),
    (dict(name='randaugment', ops='Rotate'), 'ops .* must be a list of names'),
    (dict(name='randaugment', ops=['Rotat']), "value of ops .*: 'Rotat'; did you mean 'Rotate'"),
    (dict(name='randaugment', fill=[0, 300, 0]), 'fill .* is 300; .* from 0 to 255'),
    (dict(name='randaugment', mean=.5), "unknown option of augmentation 'randaugment': 'mean'"),
    (dict(name='autoaugment', policy='v1'), "value of policy .*: 'v1'; choose one of: cifar10"),
    (dict(name='random_erasing', area=(.4, .1)), 'area .* two numbers in rising order from 0 to 1'),
    (dict(name='random_erasing', area=.3), 'area .* two numbers'),
    (dict(name='random_erasing', mode='pixels'), "'pixels'; did you mean 'pixel'"),
    (dict(name='random_erasing', probability=None), 'probability .* is None'),
    (dict(name='mixup_cutmix', switch=1.2), 'switch .* is 1.2; it must be a number from 0 to 1'),
    (dict(name='mixup', p=0), 'p of augmentation .mixup. is 0'),
    (dict(name='color_jitter', hue=.6), 'hue .* is 0.6')])
def test_what_cannot_be(op, said):
  with pytest.raises(UserError, match=said):
    augment.check([dict(name='flip'), op])


def test_none_stands_for_the_own_choice():
  augment.check([dict(name='randaugment', probability=None, ops=None, fill=None, translate=None)])
  augment.check([dict(name='randaugment', fill=7), dict(name='randaugment', fill=[7, 8, 9])])
