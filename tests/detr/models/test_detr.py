"""DETR: its fields, its padding, what it lets others see."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import detr_jax
from detr_jax import models
from detr_jax.ops.outputs import Outputs
from tests.detr.models import tiny
from tests.models import tiny as vit_tiny
from vit_jax.models import flops
from vit_jax import models as backbones, sharding, trees, weights
from vit_jax.errors import UserError
from vit_jax.models.family import Family
from vit_jax.models.features import Features
from vit_jax.models.variant import Variant


def shapes(model) -> dict[str, tuple[int, ...]]:
  return {k: v.shape for k, v in trees.flatten(weights.init_shapes(model, tiny.IMAGE, 3)).items()}


@pytest.fixture(scope='module')
def plain():
  model = tiny.detr()
  state = tiny.variables(model)
  return state, vit_tiny.apply(model, state, tiny.images())


@pytest.mark.parametrize('name', models.list_models())
def test_published_models_have_the_published_parameters(name):
  variant = models.variant(name)
  found = weights.init_shapes(models.create_model(name), (64, 64), 3)
  assert trees.count(found) == variant.parameters


@pytest.mark.parametrize('name, giga', [('detr_r50', 81.2), ('detr_r50_dc5', 173.3),
                                        ('detr_r101', 144.7), ('detr_r101_dc5', 236.7)])
def test_published_models_cost_what_the_authors_code_costs(name, giga):
  variant = models.variant(name)
  assert round(flops.multiply_adds(models.create_model(name), variant.image_size) / 1e9, 1) == giga


def test_the_face_is_imported_when_it_is_used():
  assert detr_jax.create_model is models.create_model
  assert 'detr_r101_dc5' in detr_jax.list_models('*dc5*')
  with pytest.raises(UserError, match="did you mean 'detr_r50_dc5'"):
    detr_jax.create_model('detr_r50_d5')


# Field: what it adds to the parameters, what it removes.
FIELDS = (
    (dict(encoder_layers=0), '', 'encoder/layer_0'),
    (dict(encoder_layers=2), 'encoder/layer_1', ''),
    (dict(decoder_layers=1), '', 'decoder/layer_1'),
    (dict(encoder_positions='none'), '', ''),
    (dict(encoder_positions='sine_input'), '', ''),
    (dict(decoder_positions='sine_input'), '', ''),
    (dict(decoder_positions='none'), '', ''),
    (dict(encoder_positions='learned_attn', decoder_positions='learned_attn'), '(row|col)_embed', ''),
    (dict(query_positions='input'), '', ''),
    (dict(temperature=20.), '', ''),
    (dict(ffn=False), '', '(linear[12]|encoder/layer_./norm2|norm3)'),
    (dict(pre_norm=True), 'encoder/norm', ''),
    (dict(classifier='sigmoid'), '', ''),
    (dict(queries='anchors'), '(anchors|decoder/anchor_embed|decoder/query_scale|.*_position/)', ''),
)


@pytest.mark.parametrize('fields, added, removed', FIELDS)
def test_every_field_changes_the_answer_and_the_parameters_that_it_names(plain, fields, added, removed):
  model, want = tiny.detr(**fields), plain[1]
  before, after = shapes(tiny.detr()), shapes(model)
  for more, fewer, pattern in ((after, before, added), (before, after, removed)):
    names = sorted(set(more) - set(fewer))
    assert bool(names) == bool(pattern) and all(re.search(pattern, name) for name in names), names
  got = model.apply(tiny.variables(model), tiny.images())  # operations are compiled once for all fields
  assert got.boxes.shape == (model.decoder_layers, 2, 5, 4)
  assert got.logits.shape[-1] == 3 + (model.classifier == 'softmax')
  change = max(np.abs(got.boxes[-1] - want.boxes[-1]).max(), 0. if model.classifier == 'softmax' else 1.)
  assert change > 1e-4


@pytest.fixture(scope='module')
def start():
  """Returns what a model with anchors starts with."""
  model = tiny.anchored(num_queries=20, width=64, mlp_dim=256, decoder_layers=1)
  return vit_tiny.jit(model.init)(jax.random.key(0), tiny.images())


def test_anchors_start_at_a_grid_and_stay_there(start):
  params = start['params']
  x, y, *sizes = np.asarray(jax.nn.sigmoid(params['anchors'])).T
  rows, count = np.unique(y.round(5), return_counts=True)
  np.testing.assert_allclose(rows, [.125, .375, .625, .875], atol=1e-4)
  np.testing.assert_array_equal(count, 5)
  np.testing.assert_allclose(x[:5], [.1, .3, .5, .7, .9], atol=1e-5)
  np.testing.assert_allclose(sizes, [[.2] * 20, [.25] * 20], atol=1e-5)
  assert not any(leaf.any() for leaf in params['bbox_embed']['layers_2'].values())


def test_initial_scales_are_those_of_the_authors(start):
  params = trees.flatten(start['params'])
  bounds = {'encoder/layer_0/self_attn/key/kernel': (6. / (4. * 64.)) ** .5,
            'encoder/layer_0/self_attn/out/kernel': (6. / (2. * 64.)) ** .5,
            'encoder/layer_0/linear1/kernel': (6. / (64. + 256.)) ** .5,
            'encoder/layer_0/linear2/bias': 256. ** -.5, 'class_embed/kernel': 64. ** -.5,
            'bbox_embed/layers_1/bias': 64. ** -.5, 'input_proj/kernel': 8. ** -.5}
  for path, bound in bounds.items():
    assert .9 * bound < np.abs(params[path]).max() <= bound * 1.00001, path
  np.testing.assert_allclose(params['query_embed'].std(), 1., atol=.05)
  np.testing.assert_allclose(jax.nn.sigmoid(params['class_embed/bias']), .01, rtol=1e-5)


def deep(**fields):
  return dict(backbone_fields={'depths': (1, 1, 1, 1), **fields})


@pytest.mark.parametrize('scale, fields', [
    (1, dict(queries='anchors', encoder_positions='sine_input')),
    (8, dict(encoder_positions='learned_attn', decoder_positions='none', **deep(output_stride=16))),
    (8, dict(masks=True, width=128, num_heads=8, **deep()))], ids=str)
def test_padding_changes_no_prediction(scale, fields):
  model, sizes = tiny.detr(**fields), np.asarray(tiny.SIZES) * scale
  state, (height, width) = tiny.variables(model), sizes[1]
  batch = tiny.padded(tiny.images(scale), sizes)
  got = vit_tiny.apply(model, state, batch, size=jnp.asarray(sizes))
  alone = vit_tiny.apply(model, state, batch[1:, :height, :width])
  for a, b in ((got.logits, alone.logits), (got.boxes, alone.boxes)):
    np.testing.assert_allclose(a[:, 1:], b, atol=1e-5)
  if model.masks:
    scale = np.abs(alone.masks).max()
    np.testing.assert_allclose(got.masks[1:, :, :height // 4, :width // 4] / scale,
                               alone.masks / scale, atol=1e-5)


def test_the_authors_features_depend_on_the_padding(plain):
  state, whole = plain
  batch = tiny.padded(tiny.images(), tiny.SIZES)
  got = vit_tiny.apply(tiny.detr(mask_padding=False), state, batch, size=jnp.asarray(tiny.SIZES))
  want = vit_tiny.apply(tiny.detr(), state, batch, size=jnp.asarray(tiny.SIZES))
  for result in (got, want):
    np.testing.assert_allclose(result.boxes[:, 0], whole.boxes[:, 0], atol=1e-5)
  assert np.abs(got.boxes[:, 1] - want.boxes[:, 1]).max() > 1e-4


@pytest.mark.parametrize('make', [tiny.detr, tiny.anchored])
def test_attention_is_sown_and_looks_at_no_padding(make):
  model = make()
  batch, sizes = tiny.padded(tiny.images(), tiny.SIZES), jnp.asarray(tiny.SIZES)
  _, found = model.apply(tiny.variables(model), batch, sizes, mutable=['intermediates'])
  maps = {k: v[0] for k, v in trees.flatten(found['intermediates']).items()}
  assert {k: v.shape for k, v in maps.items()} == {
      'encoder/layer_0/self_attn/attention': (2, 2, 6, 6),
      **{f'decoder/layer_{i}/self_attn/attention': (2, 2, 5, 5) for i in range(2)},
      **{f'decoder/layer_{i}/cross_attn/attention': (2, 2, 5, 6) for i in range(2)}}
  for path, attention in maps.items():
    np.testing.assert_allclose(attention.sum(-1), 1., atol=1e-5)
    if 'decoder' not in path or 'cross' in path:
      assert not attention[1, ..., [2, 3, 4, 5]].any() and attention[1, ..., [0, 1]].all()


def gradients(model, state, mesh=None):
  """Returns the loss of all outputs on four images, and its gradients."""
  twice = lambda x: jnp.tile(x, (2,) + (1,) * (x.ndim - 1))
  batch = jax.tree.map(twice, (tiny.images(), jnp.asarray(tiny.SIZES), tiny.TARGETS))
  params = state['params']

  def loss(params, image, size, targets):
    out = model.apply({**state, 'params': params}, image, size, train=True, targets=targets,
                      rngs=dict(dropout=jax.random.key(1), denoising=jax.random.key(2)))
    return sum(jnp.square(x).mean() for x in jax.tree.leaves(out))

  if mesh is not None:
    params = jax.device_put(params, sharding.shardings(params, models.family('detr_r50').rules, mesh)[0])
    batch = jax.device_put(batch, jax.sharding.NamedSharding(mesh, sharding.BATCH))
  with jax.default_matmul_precision('highest'):
    return vit_tiny.jit(jax.value_and_grad(loss))(params, *batch)


@pytest.fixture(scope='module')
def trained():
  """Returns a model with every random part, its variables, its loss and gradients."""
  model = tiny.anchored(dropout_rate=.1, encoder_layers=1, decoder_layers=1)
  state = tiny.variables(model)
  return model, state, gradients(model, state)


def test_every_parameter_but_the_frozen_ones_learns(trained):
  found = trees.flatten(trained[2][1])
  assert all(np.isfinite(gradient).all() for gradient in found.values())
  still = {path for path, gradient in found.items() if not gradient.any()}
  assert still == {path for path in found if '/bn' in path}


def test_eight_devices_that_compute_layers_again_give_the_same_gradients(trained, assert_close):
  model, state, want = trained
  with jax.set_mesh(mesh := sharding.make_mesh(2, 2, 2)):
    assert_close(gradients(model.clone(remat='full'), state, mesh), want)


@pytest.mark.parametrize('path, axes', [
    ('backbone/block1/unit1/conv1/kernel', (None, None, None, 'fsdp')),
    ('encoder/layer_0/self_attn/query/kernel', ('fsdp', 'model', None)),
    ('decoder/layer_0/cross_attn/key_position/bias', ('model', None)),
    ('decoder/layer_0/cross_attn/out/kernel', ('model', None, 'fsdp')),
    ('decoder/layer_0/linear1/kernel', ('fsdp', 'model')),
    ('decoder/layer_0/linear2/kernel', ('model', 'fsdp')), ('class_embed/kernel', ())])
def test_parameters_lie_where_the_rules_say(trained, path, axes):
  shape = trees.flatten(trained[1]['params'])[path].shape
  where, undivided = sharding.spec(f'params/{path}', shape, models.family('detr_r50').rules,
                                   sharding.make_mesh(2, 2, 2))
  assert tuple(where) == axes and not undivided


def test_bfloat16_keeps_boxes_in_float32(plain):
  state, want = plain
  got = vit_tiny.apply(tiny.detr(dtype='bfloat16'), state, tiny.images())
  assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype('float32')}
  np.testing.assert_allclose(got.boxes, want.boxes, atol=.1)


@pytest.mark.parametrize('fields, said', [
    (dict(encoder_positions='sin_attn'), "did you mean 'sine_attn'"),
    (dict(decoder_layers=0), 'decoder_layers=0 must be a whole number, at least 1'),
    (dict(width=18), 'divisible by 4'),
    (dict(denoising=2), "needs queries='anchors'"),
    (dict(queries='anchors', decoder_positions='none'), "needs decoder_positions='sine_attn'"),
    (dict(masks=True), 'multiple of 128'),
    (dict(encoder_positions='learned_attn', max_positions=2), 'set max_positions=24'),
    (dict(backbone_fields=dict(depth=2)), 'unknown field'),
    (dict(backbone='vit_ti16', backbone_fields=dict(norm='frozen')), 'unknown field')])
def test_fields_that_do_not_fit_are_refused(fields, said):
  make = functools.partial(models.create_model, 'detr_r50') if 'backbone' in fields else tiny.detr
  with pytest.raises(UserError, match=said):
    model = make(**fields)
    jax.eval_shape(model.init, jax.random.key(0), tiny.images(8))


def test_any_backbone_serves():
  fields = dict(width=16, depth=1, num_heads=2, mlp_dim=16, patch_size=32)
  model = tiny.detr().clone(backbone='vit_ti16', backbone_fields=fields)
  assert model.norm == '' and tiny.detr().norm == 'frozen'
  got = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), tiny.images(8))[0])
  assert isinstance(got, Outputs) and got.boxes.shape == (2, 2, 5, 4)


SMALL = dict(width=16, depth=1, num_heads=2, mlp_dim=16, position='sincos')
NAT = dict(width=16, depths=(2, 1), num_heads=(2, 4))
# Backbone, its fields, the size of the image alone, and canvases of no stride.
PADDED = {
    **{norm: ('resnet18', dict(depths=(1, 1, 1), width=32, norm=norm), (45, 61), ((62, 75), (96, 64)))
       for norm in ('batch', 'frozen', 'group')},
    'dilated': ('resnet50', dict(depths=(1, 1, 1), width=8, norm='frozen', output_stride=8), (45, 61),
                ((62, 75), (96, 64))),
    'bit': ('bit_r50x1', dict(depths=(1, 1, 1), width=32), (45, 61), ((62, 75), (96, 64))),
    'vit': ('vit_ti16', dict(SMALL, patch_size=4), (32, 48), ((48, 64), (80, 48))),
    'nat': ('nat_mini', dict(NAT, map_norms=True), (45, 61), ((62, 75), (96, 64))),
    'swin': ('swin_t', dict(width=16, depths=(2, 1), num_heads=(2, 4), window_size=4, map_norms=True),
             (45, 61), ((62, 75), (96, 64))),
    'convnext': ('convnext_t', dict(widths=(16, 32), depths=(1, 1), map_norms=True), (45, 61),
                 ((62, 75), (96, 64))),
    'dinat': ('dinat_base', dict(NAT, dilations=((1, 4), (2,))), (45, 61), ((62, 75), (96, 64))),
    'hybrid': ('r50_b16', dict(SMALL, patch_size=1, stem_depths=(1, 1), stem_width=32), (45, 61),
               ((62, 75), (96, 64)))}


@pytest.mark.parametrize('name', PADDED)
def test_whatever_an_image_is_padded_to_it_is_given_the_same_boxes(name):
  backbone, fields, (height, width), canvases = PADDED[name]
  model = tiny.detr().clone(backbone=backbone, backbone_fields=fields)
  rng = np.random.default_rng(0)
  image = jnp.asarray(rng.normal(size=(1, height, width, 3)), jnp.float32)
  state = tiny.variables(model)
  want = vit_tiny.apply(model, state, image)
  for canvas in canvases:
    batch = np.full((2, *canvas, 3), 3., np.float32)  # whatever stands beside the image
    batch[:1, :height, :width], batch[1] = image, rng.normal(size=(*canvas, 3))
    got = vit_tiny.apply(model, state, jnp.asarray(batch), size=jnp.asarray([(height, width), canvas]))
    for a, b in ((got.logits, want.logits), (got.boxes, want.boxes)):
      np.testing.assert_allclose(a[:, :1], b, atol=1e-4)


def test_a_backbone_that_does_not_know_the_image_is_refused(monkeypatch):
  class Patches(nn.Module):
    num_classes: int | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image, train=False):
      x = nn.LayerNorm()(nn.Conv(16, (7, 7), 4, dtype=self.dtype)(image))
      return Features((x,), None, ((4, 4),))

  family = Family(Patches, {'patches': Variant(Patches, {}, 1, '')}, (('.*', P()),))
  monkeypatch.setattr(backbones, 'FAMILIES', (*backbones.FAMILIES, family))
  model = tiny.detr().clone(backbone='patches', backbone_fields={})
  mixer = tiny.detr().clone(backbone='mixer_s16', backbone_fields={})
  sizes, image = jnp.asarray(tiny.SIZES) * 4, tiny.images(4)
  for one, said in ((model, "'patches' does not read which pixels"), (mixer, 'a Mixer mixes')):
    for call in (lambda m=one: m.check_canvases([(32, 48)]),
                 lambda m=one: jax.eval_shape(lambda: m.init(jax.random.key(0), image, sizes))):
      with pytest.raises(UserError, match=f'{said}.*model.mask_padding=false'):
        call()
    free = one.clone(mask_padding=False)
    jax.eval_shape(lambda m=free: m.init(jax.random.key(0), image, sizes))


@pytest.mark.parametrize('fields, canvases, said', [
    (dict(backbone='vit_ti16', backbone_fields={}), ((32, 48), (48, 64)), 'other parameters'),
    (dict(backbone='vit_ti16', backbone_fields={}), ((32, 40),),
     'canvas 32x40 of data.canvases .* nearest sizes are 32x32 and 32x48$'),
    (dict(encoder_positions='learned_attn', max_positions=8), ((32, 32), (32, 60)), 'max_positions=15')])
def test_canvases_that_the_model_does_not_take_are_refused(fields, canvases, said):
  with pytest.raises(UserError, match=said):
    tiny.detr().clone(**fields).check_canvases(canvases)
  tiny.detr().check_canvases(canvases)
