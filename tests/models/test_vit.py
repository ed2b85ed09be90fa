"""ViT: its fields, and what must not depend on how it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from vit_jax import trees
from vit_jax.errors import UserError
from vit_jax.layers.positions import sincos_2d

TOKENS = 6  # patches of tiny.IMAGE


def convert(params, how):
  return jax.tree.map(jnp.asarray, trees.unflatten(how(trees.flatten(params))))


def loss_and_grads(model, params, image, rng=None):
  def loss(params):
    logits = model.apply({'params': params}, image, train=True,
                         rngs=None if rng is None else {'dropout': rng})
    return jnp.square(logits).mean()
  with jax.default_matmul_precision('highest'):
    return tiny.jit(jax.value_and_grad(loss))(params)


@pytest.fixture(scope='module')
def plain():
  model = tiny.vit()
  params = tiny.params(model)
  return model, params, tiny.apply(model, params, tiny.images())


@pytest.mark.parametrize('options, paths', [
    (dict(), {'cls', 'pos'}),
    (dict(class_position=False), {'cls', 'pos'}),
    (dict(pool='mean'), {'pos'}),
    (dict(pool='mean', class_token=True), {'cls', 'pos'}),
    (dict(pool='attention'), {'pos', 'MAPHead_0'}),
    (dict(position='sincos'), {'cls'}),
    (dict(position='none', pool='mean'), set()),
    (dict(representation_size=6), {'cls', 'pos', 'pre_logits'}),
])
def test_fields_decide_which_parameters_there_are(options, paths):
  model = tiny.vit(**options)
  flat = trees.flatten(tiny.params(model))
  there = {'pos' if p.endswith('pos_embedding') else p.split('/')[0] for p in flat}
  assert there == paths | {'embedding', 'Transformer', 'head'}
  if 'pos' in paths:
    own = model.num_prefix and model.class_position
    assert flat['Transformer/posembed_input/pos_embedding'].shape == (1, TOKENS + own, 16)
  assert tiny.apply(model, tiny.params(model), tiny.images()).shape == (2, 5)


def test_pools_read_the_encoded_tokens():
  backbone = tiny.vit(num_classes=None, class_token=True)
  for pool in ('token', 'mean', 'none'):
    model = tiny.vit(pool=pool, class_token=True)
    params = tiny.params(model)
    body = {k: v for k, v in params.items() if k != 'head'}
    features = tiny.apply(backbone, body, tiny.images())
    patches = np.asarray(features.maps[0]).reshape(2, TOKENS, 16)
    assert features.maps[0].shape == (2, 2, 3, 16) and features.strides == ((4, 4),)
    pooled = {'token': features.tokens[:, 0], 'mean': patches.mean(axis=1),
              'none': np.concatenate([features.tokens, patches], 1)}[pool]
    want = pooled @ np.asarray(params['head']['kernel']) + params['head']['bias']
    np.testing.assert_allclose(tiny.apply(model, params, tiny.images()), want, atol=1e-4)


def test_a_backbone_without_class_token_has_no_tokens():
  model = tiny.vit(num_classes=None, pool='mean')
  features = tiny.apply(model, tiny.params(model), tiny.images())
  assert features.tokens is None and features.maps[0].shape == (2, 2, 3, 16)


def test_the_class_position_is_a_second_class_token(plain):
  """What vision_transformer adds to the token, big_vision holds in the token."""
  _, params, want = plain
  table = params['Transformer']['posembed_input']['pos_embedding']
  moved = {**params, 'cls': params['cls'] + table[:, :1], 'Transformer': {
      **params['Transformer'], 'posembed_input': {'pos_embedding': table[:, 1:]}}}
  got = tiny.apply(tiny.vit(class_position=False), moved, tiny.images())
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_sincos_positions_are_a_fixed_table():
  sincos, learned = tiny.vit(pool='mean', position='sincos'), tiny.vit(pool='mean')
  params = tiny.params(sincos)
  same = {**params, 'Transformer': {
      **params['Transformer'], 'posembed_input': {'pos_embedding': sincos_2d((2, 3), 16)}}}
  np.testing.assert_allclose(tiny.apply(sincos, params, tiny.images()),
                             tiny.apply(learned, same, tiny.images()), atol=1e-5)


def test_without_positions_the_order_of_patches_does_not_matter():
  image = tiny.images()
  flipped = jnp.concatenate([image[:, 4:], image[:, :4]], axis=1)  # the two rows of patches
  for position, equal in (('none', True), ('learned', False), ('sincos', False)):
    model = tiny.vit(pool='mean', position=position)
    params = tiny.params(model)
    a, b = tiny.apply(model, params, image), tiny.apply(model, params, flipped)
    assert np.allclose(a, b, atol=1e-4) == equal, position


def test_the_representation_is_a_tanh_layer():
  model = tiny.vit(representation_size=6)
  params = tiny.params(model)
  logits, state = tiny.apply(model, params, tiny.images(), mutable=['intermediates'])
  representation = state['intermediates']['representation'][0]
  assert representation.shape == (2, 6) and np.abs(representation).max() <= 1.
  np.testing.assert_allclose(
      logits, representation @ params['head']['kernel'] + params['head']['bias'], atol=1e-5)


def test_qk_norm_makes_logits_blind_to_the_scale_of_queries():
  for qk_norm in (False, True):
    model = tiny.vit(qk_norm=qk_norm, num_classes=2)
    params = tiny.params(model)
    scaled = jax.tree_util.tree_map_with_path(
        lambda path, x: 3. * x if '/query/' in trees.path_name(path) else x, params)
    a, b = (tiny.apply(model, p, tiny.images()) for p in (params, scaled))
    assert np.allclose(a, b, atol=1e-3) == qk_norm


def test_a_fresh_head_gives_its_bias():
  model = tiny.vit(head_bias=-6.9)
  params = tiny.jit(model.init)(jax.random.key(0), tiny.images())['params']
  np.testing.assert_allclose(tiny.apply(model, params, tiny.images()), -6.9, rtol=1e-6)


def test_the_two_gelu_forms_and_epsilons_are_used(plain):
  _, params, want = plain
  for options in (dict(gelu='erf'), dict(layer_norm_eps=1e-2)):
    got = tiny.apply(tiny.vit(**options), params, tiny.images())
    assert 1e-6 < np.abs(got - want).max() < 1., options


@pytest.mark.parametrize('options', [
    dict(), pytest.param(dict(pool='attention', qk_norm=True, remat='full'),
                         marks=pytest.mark.slow)])
def test_scanned_equals_unrolled_in_outputs_and_gradients(options):
  unrolled, scanned = tiny.vit(**options), tiny.vit(scan=True, **options)
  params = tiny.params(unrolled)
  stacked = convert(params, trees.stack)
  assert set(trees.flatten(stacked)) == set(trees.flatten(tiny.params(scanned)))
  a, grads = loss_and_grads(unrolled, params, tiny.images())
  b, stacked_grads = loss_and_grads(scanned, stacked, tiny.images())
  np.testing.assert_allclose(a, b, rtol=1e-5)
  back = trees.unstack(trees.flatten(stacked_grads))
  for path, grad in trees.flatten(grads).items():
    np.testing.assert_allclose(back[path], grad, atol=1e-5, rtol=1e-3, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize('remat', ['full', 'dots'])
@pytest.mark.parametrize('scan', [False, True])
def test_remat_changes_nothing_not_even_dropout(remat, scan):
  options = dict(scan=scan, dropout_rate=.2, attention_dropout_rate=.2, drop_path_rate=.5)
  model = tiny.vit(**options)
  params, rng = tiny.params(model), jax.random.key(0)
  a, grads = loss_and_grads(model, params, tiny.images(), rng)
  b, again = loss_and_grads(tiny.vit(remat=remat, **options), params, tiny.images(), rng)
  np.testing.assert_allclose(a, b, rtol=1e-5)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5, rtol=1e-3), grads, again)


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('field', ['dropout_rate', 'attention_dropout_rate', 'drop_path_rate'])
def test_noise_only_in_training_and_by_the_key(field, scan):
  model = tiny.vit(scan=scan, **{field: .5})
  params, image = tiny.params(model), tiny.images(batch=8)
  run = tiny.jit(lambda p, key: model.apply(
      {'params': p}, image, train=True, rngs={'dropout': key}))
  quiet = tiny.apply(tiny.vit(scan=scan), params, image)
  np.testing.assert_array_equal(tiny.apply(model, params, image), quiet)
  first = run(params, jax.random.key(0))
  assert not np.allclose(first, quiet, atol=1e-3)
  np.testing.assert_array_equal(run(params, jax.random.key(0)), first)
  assert not np.allclose(run(params, jax.random.key(1)), first, atol=1e-3)


def test_drop_path_rises_from_zero_in_the_first_layer():
  """One layer alone has rate 0, so nothing is dropped."""
  model = tiny.vit(depth=1, drop_path_rate=.9)
  params = tiny.params(model)
  got = tiny.apply(model, params, tiny.images(), train=True, rngs={'dropout': jax.random.key(0)})
  np.testing.assert_array_equal(got, tiny.apply(model, params, tiny.images()))


@pytest.mark.parametrize('pool', ['token', 'mean', 'attention'])
def test_bfloat16_is_close_to_float32_and_gives_float32_logits(pool):
  model, rough = tiny.vit(pool=pool), tiny.vit(pool=pool, dtype='bfloat16')
  params = tiny.params(model)
  want, got = (tiny.apply(m, params, tiny.images()) for m in (model, rough))
  assert got.dtype == jnp.float32
  difference = np.abs(got - want).max() / np.abs(want).max()
  assert 1e-5 < difference < .1
  fresh = jax.eval_shape(rough.init, jax.random.key(0), tiny.images())
  assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype('float32')}


def test_attention_maps_have_the_documented_names_and_shapes():
  found = {}
  for scan in (False, True):
    model = tiny.vit(scan=scan)
    params = tiny.params(model)
    logits, state = tiny.apply(model, params, tiny.images(), mutable=['intermediates'])
    np.testing.assert_allclose(logits, tiny.apply(model, params, tiny.images()), atol=1e-5)
    found[scan] = {k: v[0] for k, v in trees.flatten(state['intermediates']).items()}
  name = 'Transformer/encoderblock{}/MultiHeadDotProductAttention_0/attention'
  assert set(found[False]) == {name.format('_0'), name.format('_1'), 'representation'}
  assert set(found[True]) == {name.format(''), 'representation'}
  assert found[True][name.format('')].shape == (2, 2, 2, TOKENS + 1, TOKENS + 1)
  for i in range(2):
    own = found[False][name.format(f'_{i}')]
    assert own.shape == (2, 2, TOKENS + 1, TOKENS + 1)
    np.testing.assert_allclose(own.sum(-1), 1., rtol=1e-5)
    np.testing.assert_allclose(found[True][name.format('')][i], own, atol=1e-5)
  assert found[True]['representation'].shape == (2, 16)


@pytest.mark.parametrize('scan', [False, True])
def test_every_intermediate_can_be_captured(scan):
  model = tiny.vit(scan=scan)
  _, state = tiny.apply(model, tiny.params(model), tiny.images(), capture_intermediates=True,
                        mutable=['intermediates'])
  paths = set(trees.flatten(state['intermediates']))
  block = 'Transformer/encoderblock' + ('' if scan else '_1')
  assert {'embedding/__call__', 'Transformer/encoder_norm/__call__', f'{block}/__call__',
          f'{block}/MlpBlock_0/__call__', f'{block}/LayerNorm_0/__call__'} <= paths


@pytest.mark.parametrize('size', [(8, 8), (4, 20)])
def test_other_sizes_work_with_a_table_of_their_own(size):
  model = tiny.vit()
  assert tiny.apply(model, tiny.params(model, size), tiny.images(size)).shape == (2, 5)


def test_examples_do_not_see_each_other(plain):
  model, params, both = plain
  alone = tiny.apply(model, params, tiny.images()[1:])
  np.testing.assert_allclose(alone, both[1:], atol=1e-5)


@pytest.mark.parametrize('options, size, said', [
    (dict(), (10, 12), 'size 10x12 is not a multiple of the patch size 4x4; .* 8x12 and 12x12'),
    (dict(pool='max'), tiny.IMAGE, "unknown pool 'max'"),
    (dict(position='learnt'), tiny.IMAGE, "unknown position 'learnt'; did you mean 'learned'"),
    (dict(remat='ful'), tiny.IMAGE, "unknown remat 'ful'; did you mean 'full'"),
    (dict(gelu='relu'), tiny.IMAGE, "unknown GELU form 'relu'; choose one of: erf, tanh"),
    (dict(num_heads=3), tiny.IMAGE, 'width 16 is not divisible by num_heads 3'),
    (dict(class_token=False), tiny.IMAGE, "pool='token' needs class_token=True"),
    (dict(fusion='sum'), tiny.IMAGE, "unknown fusion 'sum'"),
    (dict(init_form='norml'), tiny.IMAGE, "unknown init_form 'norml'; did you mean 'normal'"),
    (dict(distillation_token=True, pool='mean'), tiny.IMAGE, "distillation_token=True needs pool"),
    (dict(norm_pooled=True, pool='none'), tiny.IMAGE, "norm_pooled=True needs pool='token' or"),
    (dict(width=18, position='sincos'), tiny.IMAGE, 'a width that 4 divides, not 18'),
])
def test_what_does_not_fit_is_told(options, size, said):
  with pytest.raises(UserError, match=said):
    jax.eval_shape(tiny.vit(**options).init, jax.random.key(0), tiny.images(size))


def test_parameters_of_another_size_name_the_remedy():
  model = tiny.vit()
  with pytest.raises(UserError, match='table holds 7 entries, the image gives 5 .*image_size'):
    model.apply({'params': tiny.params(model)}, tiny.images((8, 8)))


def test_initial_values_are_those_of_the_family():
  fields = dict(width=64, mlp_dim=256, distillation_token=True)
  draw = lambda form: trees.flatten(tiny.vit(init_form=form, **fields).init(
      jax.random.key(0), tiny.images())['params'])
  xavier, normal = draw('xavier'), draw('normal')
  assert not any(xavier[path].any() for path in ('cls', 'dist', 'head/kernel', 'head_dist/kernel'))
  for path in ('cls', 'dist', 'head/kernel', 'Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel',
               'Transformer/encoderblock_1/MultiHeadDotProductAttention_0/query/kernel'):
    assert .016 < float(normal[path].std()) < .024, path
  assert not normal['Transformer/encoderblock_0/MlpBlock_0/Dense_0/bias'].any()


def test_two_heads_are_fused_as_asked():
  logits, softmax = (tiny.vit(distillation_token=True, fusion=f) for f in ('logits', 'softmax'))
  params = tiny.params(logits)
  own, distilled = tiny.apply(logits, params, tiny.images(), train=True)
  np.testing.assert_allclose(tiny.apply(logits, params, tiny.images()), (own + distilled) / 2,
                             atol=1e-6)
  both = (jax.nn.softmax(own) + jax.nn.softmax(distilled)) / 2
  np.testing.assert_allclose(jax.nn.softmax(tiny.apply(softmax, params, tiny.images())), both, atol=1e-6)


def test_the_outputs_of_layers_are_maps_of_their_own():
  own = dict(num_classes=None, depth=3, map_layers=(0, 2))
  params, image = tiny.params(tiny.vit(**own)), tiny.images()
  got = tiny.apply(tiny.vit(**own), params, image)
  scanned = tiny.apply(tiny.vit(scan=True, **own), convert(params, trees.stack), image)
  assert len(got.maps) == 2 and got.strides[0] == got.strides[1]
  assert 'Transformer/encoder_norm/scale' not in trees.flatten(params)
  for one, other in zip(got.maps, scanned.maps):
    np.testing.assert_allclose(one, other, atol=1e-5)
  first = tiny.apply(tiny.vit(num_classes=None, depth=1, map_layers=(0,)), params, image).maps[0]
  np.testing.assert_allclose(got.maps[0], first, atol=1e-6)
  with pytest.raises(UserError, match=r'map_layers=\(3,\) must lie between 0 and 2'):
    tiny.vit(**{**own, 'map_layers': (3,)}).check()


@pytest.mark.parametrize('fields', [dict(layer_scale=.1), dict(norm_pooled=True, pool='mean'),
                                    dict(distillation_token=True)])
def test_scanned_layers_give_the_same_logits_with_every_field(fields):
  params, image = tiny.params(tiny.vit(**fields)), tiny.images()
  stacked = convert(params, trees.stack)
  np.testing.assert_allclose(tiny.apply(tiny.vit(scan=True, **fields), stacked, image),
                             tiny.apply(tiny.vit(**fields), params, image), atol=1e-5)


def test_a_stem_rounds_sizes_up_and_its_patches_down():
  hybrid = tiny.vit(patch_size=1, stem_depths=(1, 1), stem_width=32)
  assert hybrid.patch == (8, 8) and hybrid.grid((17, 24)) == (3, 3)
  coarse = tiny.vit(patch_size=2, stem_depths=(), stem_width=32)
  assert coarse.patch == (8, 8) and coarse.grid((13, 16)) == (2, 2)
  assert coarse.grid((17, 16)) == (2, 2)  # of five rows of the map, the last is dropped
  with pytest.raises(UserError, match='image size 4x16 is smaller than a patch of 8x8 pixels'):
    coarse.grid((4, 16))


@pytest.mark.parametrize('size', [(17, 16), (17, 21), (29, 8)])
def test_a_hybrid_takes_sizes_that_its_patches_do_not_divide(size):
  model = tiny.vit(patch_size=2, stem_depths=(), stem_width=32, num_classes=None)
  params, grid = tiny.params(model, size), model.grid(size)
  assert params['Transformer']['posembed_input']['pos_embedding'].shape[1] == grid[0] * grid[1] + 1
  maps = tiny.apply(model, params, tiny.images(size)).maps[0]
  assert maps.shape[1:3] == grid and np.isfinite(maps).all()
