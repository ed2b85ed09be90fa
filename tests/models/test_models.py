"""Every named model keeps the contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from vit_jax import faces, models, trees, weights
from vit_jax.errors import UserError
from vit_jax.models.features import Features
from vit_jax.models.mixer import Mixer
from vit_jax.models.vit import ViT

# Of the authors' code, or timm's for the same network, at the size in the name (224) with 1000 classes;
# vit_m, vit_g, vit_G, mixer_h14, r50_b32, r50_l16 and r50x2_l32 follow from the closed form.
PARAMETERS = dict(
    vit_ti16=5_717_416, vit_s16=22_050_664, vit_s32=22_878_952, vit_b16=86_567_656,
    vit_b32=88_224_232, vit_b8=86_576_872, vit_l16=304_326_632, vit_l32=306_535_400,
    vit_h14=632_045_800, vit_m32=39_942_120, vit_m16=38_837_736, vit_g14=1_012_611_432,
    vit_G14=1_844_440_680,
    r_ti16=6_337_704, r26_s32=36_431_912, r26_b32=101_383_976, r50_l32=328_994_856,
    r50_b16=98_659_112, r50_b32=110_945_832, r50_l16=316_483_624, r50x2_l32=401_491_048,
    deit_ti16=5_717_416, deit_s16=22_050_664, deit_b16=86_567_656, deit_b16_384=86_859_496,
    deit_ti16_distilled=5_910_800, deit_s16_distilled=22_436_432, deit_b16_distilled=87_338_192,
    deit_b16_distilled_384=87_630_032, deit3_s16=22_059_496, deit3_m16=38_849_512,
    deit3_b16=86_585_320, deit3_l16=304_374_760, deit3_h14=632_126_440, deit3_s16_384=22_205_416,
    deit3_b16_384=86_877_160, deit3_l16_384=304_763_880,
    mixer_s32=19_104_624, mixer_s16=18_528_264, mixer_b32=60_293_428, mixer_b16=59_880_472,
    mixer_l32=206_939_264, mixer_l16=208_196_168, mixer_h14=432_350_952,
    resnet18=11_689_512, resnet34=21_797_672, resnet50=25_557_032, resnet101=44_549_160,
    resnet152=60_192_808, resnet50_gn=25_557_032,
    # 0.27, 0.46, 0.66 and 0.85 million in table 6 of the paper, with 10 classes: 64,350 fewer.
    resnet20_cifar=334_072, resnet32_cifar=528_504, resnet44_cifar=722_936, resnet56_cifar=917_368,
    bit_r50x1=25_549_352, bit_r50x3=217_319_080, bit_r101x1=44_541_480, bit_r101x3=387_934_888,
    bit_r152x2=236_335_208, bit_r152x4=936_533_224,
    nat_mini=19_984_174, nat_tiny=27_901_582, nat_small=50_743_297, nat_base=89_769_652,
    dinat_mini=19_984_174, dinat_tiny=27_901_582, dinat_small=50_719_681, dinat_base=89_769_652,
    # With 21 x 21 biases for each of 738 heads instead of 13 x 13.
    swin_t=28_288_354, swin_s=49_606_258, swin_b=87_768_224, swin_b_384=87_903_584,
    swin_l=196_532_476, swin_l_384=196_735_516,
    convnext_t=28_589_128, convnext_s=50_223_688, convnext_b=88_591_464, convnext_l=197_767_336,
    convnext_xl=350_196_968, convnext_iso_s=22_308_712, convnext_iso_b=87_083_752,
    convnext_iso_l=305_905_640,
    # torchvision's counts, and timm's of 4GF and L2.
    regnetx_400mf=5_495_976, regnetx_800mf=7_259_656, regnetx_1_6gf=9_190_136,
    regnetx_3_2gf=15_296_552, regnetx_8gf=39_572_648, regnetx_16gf=54_278_536,
    regnetx_32gf=107_811_560, regnety_400mf=4_344_144, regnety_800mf=6_432_512,
    regnety_1_6gf=11_202_430, regnety_3_2gf=19_436_338, regnety_4gf=20_646_656,
    regnety_8gf=39_381_472, regnety_16gf=83_590_140, regnety_32gf=145_046_770,
    efficientnet_b0=5_288_548, efficientnet_b1=7_794_184, efficientnet_b2=9_109_994,
    efficientnet_b3=12_233_232, efficientnet_b4=19_341_616, efficientnet_b5=30_389_784,
    efficientnet_b6=43_040_704, efficientnet_b7=66_347_960, efficientnet_l2=480_309_308,
    # torchvision's and 19,232 for the deep root; timm's.
    resnet50_c=25_576_264, resnet101_c=44_568_392, hrnet_w18=21_299_004, hrnet_w32=41_232_680,
    hrnet_w48=77_469_864,
    dinat_large=200_943_514, dinat_large_384=200_943_514, dinat_large_384_11x11=201_144_250)


def shrunken(name):
  """Returns a small model of the same family; nothing of the family's own shape is lost."""
  model = models.create_model(name)
  fields = {'ViT': dict(width=16, depth=1, num_heads=2, mlp_dim=24),
            'Mixer': dict(width=16, depth=1, tokens_mlp_dim=8, channels_mlp_dim=24),
            'ResNet': dict(width=32, depths=(1, 1)), 'BiT': dict(width=32, depths=(1, 1)),
            'ConvNeXt': dict(widths=(16, 24), depths=(1, 1)),
            'RegNet': dict(widths=(16, 24), depths=(1, 2), group_widths=(8, 8), stem_width=8),
            'EfficientNet': dict(stem_width=8, widths=(8, 16), depths=(1, 2), expansions=(1, 6),
                                 kernel_sizes=(3, 5), strides=(1, 2), last_width=32),
            'HRNet': dict(width=8, modules=(1, 1), depth=1, root_depth=1, root_width=8),
            'Swin': dict(width=16, depths=(2, 1), num_heads=(2, 4), window_size=3),
            'NAT': dict(width=16, depths=(1, 1), num_heads=(2, 4), kernel_size=3, dilations=((2,), (1,)))
            }[type(model).__name__]
  if getattr(model, 'stem_depths', None):
    fields |= dict(stem_width=32, stem_depths=(1, 1))
  return models.create_model(name, num_classes=3, **fields)


def test_every_model_has_its_count_here():
  assert set(models.list_models()) == set(PARAMETERS)


@pytest.mark.parametrize('name', models.list_models())
def test_named_model(name):
  variant = models.variant(name)
  assert variant.source and variant.parameters == PARAMETERS[name]
  scan = dict(scan=True) if hasattr(variant.module, 'scan') else {}  # traced once, not depth times
  shapes = weights.init_shapes(models.create_model(name, **scan), variant.image_size, 3)
  assert trees.count(shapes) == variant.parameters
  _check_small(shrunken(name))


@functools.cache  # shrunken, many differ by nothing
def _check_small(model):
  """Features at a size that is not square, and at an odd one where that can be; live gradients."""
  cut = isinstance(model, (ViT, Mixer))
  sizes = [(model.patch[0], 2 * model.patch[1])] if cut else [(40, 32), (29, 42)]
  if getattr(model, 'stem_depths', None) is not None and model.kernel == (1, 1):
    sizes.append((23, 31))
  for size in sizes:
    _check_features(model.clone(num_classes=None), size)
  _check_gradients(model, sizes[0])


def _check_features(backbone, size):
  variables = tiny.variables(backbone, size)
  got = tiny.jit(backbone.apply)(variables, tiny.images(size))
  assert isinstance(got, Features)
  for (down, right), m in zip(got.strides, got.maps, strict=True):
    assert m.shape[:3] == (2, -(-size[0] // down), -(-size[1] // right))
    assert np.isfinite(m).all() and m.dtype == jnp.float32
  tokens = getattr(backbone, 'num_prefix', 0)
  assert got.tokens is None if not tokens else got.tokens.shape == (2, tokens, backbone.width)


def _check_gradients(model, size):
  """It computes finite logits and gradients that reach every parameter."""
  variables, image = tiny.variables(model, size), tiny.images(size)
  state = {k: v for k, v in variables.items() if k != 'params'}
  def loss(params):
    logits, _ = model.apply({'params': params, **state}, image, train=True, mutable=list(state))
    return sum(jnp.square(z - jnp.arange(3.)).sum() for z in jax.tree.leaves(logits)), logits
  (_, logits), grads = tiny.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])
  for z in jax.tree.leaves(logits):
    assert z.shape == (2, 3) and np.isfinite(z).all()
  for path, grad in trees.flatten(grads).items():
    assert np.isfinite(grad).all(), path
    # Softmax does not change when the same is added to all scores of a query.
    assert np.abs(grad).max() > 0 or path.endswith('key/bias'), path


@pytest.mark.parametrize('name', ['vit_ti16', 'vit_l32'])
def test_one_by_one_and_stacked_models_have_equal_counts(name):
  count = lambda scan: trees.count(weights.init_shapes(
      models.create_model(name, scan=scan), (224, 224), 3))
  assert count(False) == count(True) == PARAMETERS[name]


@pytest.mark.parametrize('name', models.list_models('vit_*'))
def test_counts_follow_from_the_table_of_the_paper(name):
  model = models.create_model(name)
  d, m, p, n = model.width, model.mlp_dim, model.patch_size, (224 // model.patch_size) ** 2
  layer = 4 * (d * d + d) + 2 * d * m + m + d + 4 * d
  total = p * p * 3 * d + d + d + (n + 1) * d + model.depth * layer + 2 * d + d * 1000 + 1000
  assert total == PARAMETERS[name]


def test_names_are_listed_by_pattern():
  assert models.list_models('vit_b*') == ['vit_b16', 'vit_b32', 'vit_b8']
  assert models.list_models('nothing*') == []


def test_overrides_become_fields():
  model = models.create_model('vit_b16', num_classes=7, patch_size=[8, 4], dtype='bfloat16')
  assert (model.num_classes, model.patch, model.dtype) == (7, (8, 4), jnp.bfloat16)
  assert model.width == 768
  hash(model)  # what comes from JSON as a list too


@pytest.mark.parametrize('name, fields, said', [
    ('vit_b61', {}, "unknown model 'vit_b61'; did you mean 'vit_b16'"),
    ('vit_b16', dict(num_clases=3), "model 'vit_b16': 'num_clases'; did you mean 'num_classes"),
    ('vit_b16', dict(parent=None), "unknown field of model 'vit_b16': 'parent'"),
    ('vit_b16', dict(dtype='int8'), "dtype 'int8' is not one of float32, bfloat16"),
])
def test_unknown_names_and_fields(name, fields, said):
  with pytest.raises(UserError, match=said):
    models.create_model(name, **fields)


def test_the_face_of_the_package_is_this():
  import vit_jax
  assert vit_jax.create_model('vit_ti16') == models.create_model('vit_ti16')
  assert vit_jax.list_models() == models.list_models()
  assert vit_jax.load is faces.load and vit_jax.UserError is UserError
  assert {'load', 'create_model', 'list_models'} <= set(dir(vit_jax))
  with pytest.raises(AttributeError, match='no attribute'):
    vit_jax.nothing  # noqa: B018
