"""Detectors in and out: what is exported is imported bit by bit, and what does not fit is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

import detr_jax
from detr_jax import models, pretrained, weights
from detr_jax.data.info import DetectionInfo
from detr_jax.weights.families import detr_names as detr
from tests.models import tiny
from vit_jax import models as classifiers
from vit_jax import convert, sharding
from vit_jax import weights as classifier_weights
from vit_jax.errors import UserError
from vit_jax.weights import containers, runs, safetensors
from vit_jax.weights.fit import grouped
from vit_jax.weights.table import to_theirs

SIZE = (64, 64)
TINY = dict(width=16, num_heads=2, mlp_dim=24, encoder_layers=2, decoder_layers=1, num_queries=5,
            num_classes=3)
MASKS = dict(TINY, width=128, num_heads=8)
TRUNK = dict(width=8, depths=(1, 1, 1, 1), norm='frozen')
DC5 = dict(TRUNK, output_stride=16)
CASES = [('detr_r50', dict(TINY)), ('detr_r50', dict(TINY, backbone='resnet18')),
         ('detr_r50_dc5', dict(TINY, backbone_fields=DC5)), ('detr_r50_panoptic', MASKS),
         ('detr_r50', dict(TINY, encoder_positions='learned_attn', decoder_positions='learned_attn',
                           max_positions=9))]


def built(name='detr_r50', **fields):
  """Returns a small detector."""
  return models.create_model(name, **{'backbone_fields': TRUNK, **TINY, **fields})


def saved(tmp_path, to='detr', name='detr_r50', **fields):
  """Returns (path, model, variables) of an exported detector in which all parameters are alive."""
  model = built(name, **fields)
  variables = tiny.variables(model, SIZE)
  path = str(tmp_path / f'{to}.safetensors')
  weights.export(path, model, variables, to)
  return path, model, variables


def loaded(path, name='detr_r50', **fields):
  """Returns what is loaded into a small detector; `fields` are what the file does not show."""
  return detr_jax.load(name, path, **{'backbone_fields': TRUNK, 'num_heads': 2, 'image_size': SIZE,
                                      'verbose': False, **fields})


def assert_equal(got, want):
  jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize('to', weights.exporting.FORMATS)
@pytest.mark.parametrize('name, fields', CASES)
def test_export_and_import_give_the_same_bits_and_the_same_model(name, fields, to, tmp_path):
  path, model, variables = saved(tmp_path, to, name, **fields)
  kept = {key: fields[key] for key in ('backbone', 'backbone_fields', 'num_heads') if key in fields}
  got = loaded(path, name, **kept)
  assert_equal(got.variables, variables)
  assert got.model == model and got.info.num_classes == 3


def test_a_norm_in_front_has_the_authors_names_alone(tmp_path):
  path, model, variables = saved(tmp_path, pre_norm=True)
  assert_equal(loaded(path).variables, variables)
  with pytest.raises(UserError, match="'huggingface_detr' does not know: encoder/norm/bias, enc"):
    weights.export(path, model, variables, 'huggingface')


@pytest.mark.parametrize('name, depths, masks, count', [
    ('detr_r50', (3, 4, 6, 3), False, 458), ('detr_r101', (3, 4, 23, 3), False, 713),
    ('detr_r50_panoptic', (3, 4, 6, 3), True, 490)])
def test_there_are_as_many_names_as_in_the_published_files(name, depths, masks, count):
  fields = dict(MASKS if masks else TINY, encoder_layers=6, decoder_layers=6)
  model = built(name, **fields, backbone_fields=dict(TRUNK, depths=depths))
  shapes = classifier_weights.flatten(classifier_weights.variable_shapes(model, SIZE, 3))
  flat = {path: np.zeros(shape.shape, np.float32) for path, shape in shapes.items()}
  theirs = to_theirs(detr.AUTHORS_MASKS if masks else detr.AUTHORS, flat)
  assert len(theirs) == count
  begin = 'detr.' * masks
  assert {f'{begin}transformer.decoder.layers.5.multihead_attn.in_proj_weight',
          f'{begin}backbone.0.body.layer4.2.bn3.running_var', f'{begin}bbox_embed.layers.2.bias',
          f'{begin}query_embed.weight'} <= set(theirs)
  assert len(to_theirs(detr.HUGGINGFACE_MASKS if masks else detr.HUGGINGFACE, flat)) == (
      count + 6 * 4 + 6 * 8)  # three matrices and biases in place of one, in each of 18 layers


def test_other_classes_and_queries_start_anew_and_say_so(tmp_path, capsys):
  path, _, variables = saved(tmp_path, encoder_layers=0, backbone='resnet18', mlp_dim=8)
  got = loaded(path, backbone='resnet18', num_classes=7, num_queries=8, verbose=True)
  said = capsys.readouterr().out
  assert 'reinitialised: class_embed/kernel (16, 4) -> (16, 8)' in said
  assert 'resampled: query_embed 5 -> 8 rows, the last 3 fresh' in said
  assert got.params['class_embed']['bias'].shape == (8,) and got.info.num_classes == 7
  queries = got.params['query_embed']
  np.testing.assert_array_equal(queries[:5], variables['params']['query_embed'])
  assert queries.shape == (8, 16) and np.abs(queries[5:]).min() > 0.
  fewer = loaded(path, backbone='resnet18', num_queries=2).params
  np.testing.assert_array_equal(fewer['query_embed'], variables['params']['query_embed'][:2])
  assert_equal(fewer['class_embed'], variables['params']['class_embed'])


def test_a_detector_of_boxes_becomes_one_of_masks(tmp_path):
  path, model, variables = saved(tmp_path, **MASKS)
  masked, heads = model.clone(masks=True), ['bbox_attention (4 arrays)', 'mask_head (28 arrays)']
  fresh, got, report = started(masked, path)
  assert report.fresh() == heads
  assert_equal(got['params']['mask_head'], fresh['params']['mask_head'])
  assert_equal(got['params']['decoder'], variables['params']['decoder'])
  again = loaded(saved(tmp_path, name='detr_r50_panoptic', **MASKS)[0], num_heads=8, masks=False)
  assert again.model == model and grouped(again.report.ignored) == heads


def started(model, path, classes='abc', **options):
  """Returns what a run starts from: (fresh variables, those that it has, the report)."""
  fresh = tiny.variables(model, SIZE, seed=1)
  info = DetectionInfo('somewhere', tuple(classes), 3, SIZE)
  return fresh, *weights.initialize(model, fresh, info, path, **options)


def test_a_classifier_becomes_the_backbone(tmp_path):
  trunk = classifiers.create_model('resnet50', num_classes=9, **dict(TRUNK, norm='batch'))
  variables = tiny.variables(trunk, SIZE)
  path = str(tmp_path / 'resnet.safetensors')
  classifier_weights.export(path, trunk, variables, 'timm')
  fresh, got, report = started(built(), path)
  want = {k: v for k, v in variables['params'].items() if k != 'head'}
  assert_equal(got['params']['backbone'], want)
  assert_equal(got['batch_stats']['backbone'], variables['batch_stats'])
  rest = lambda tree: {k: v for k, v in tree['params'].items() if k != 'backbone'}
  assert_equal(rest(got), rest(fresh))
  said = report.lines()
  assert 'note: these are weights of a classifier: the backbone has them, all else starts anew' in said
  assert any(line.startswith('reinitialised: decoder (') for line in said) and len(said) < 15


def test_the_positions_of_a_backbone_are_resampled(tmp_path):
  own = dict(width=16, depth=2, num_heads=2, mlp_dim=24)
  vit = classifiers.create_model('deit_ti16', num_classes=None, **own)
  variables = tiny.variables(vit, (32, 32))
  path = str(tmp_path / 'vit.safetensors')
  classifier_weights.export(path, vit, variables, 'timm')
  model = built(backbone='deit_ti16', backbone_fields=own)
  _, got, report = started(model, path)
  assert any('2x2 -> 4x4 by antialiased_bicubic' in line for line in report.resampled)
  table = got['params']['backbone']['Transformer']['posembed_input']['pos_embedding']
  assert table.shape == (1, 17, 16)
  assert_equal(got['params']['backbone']['embedding'], variables['params']['embedding'])


def test_a_run_starts_from_a_detector_on_a_mesh(tmp_path):
  path, model, variables = saved(tmp_path)
  mesh = sharding.make_mesh(1, 2, 2)
  shapes = jax.eval_shape(lambda: model.clone(num_queries=6).init(jax.random.key(0),
                                                                  jnp.zeros((1, *SIZE, 3))))
  where, _ = sharding.shardings(shapes, models.family(model).rules, mesh)
  fresh = jax.jit(lambda: jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes),
                  out_shardings=where)()
  info = DetectionInfo('somewhere', ('a', 'b', 'c'), 3, SIZE)
  got, _ = weights.initialize(model.clone(num_queries=6), fresh, info, path)
  assert jax.tree.map(lambda x: x.sharding, got) == where
  np.testing.assert_array_equal(got['params']['query_embed'][:5], variables['params']['query_embed'])
  np.testing.assert_array_equal(got['params']['query_embed'][5:], 1.)
  assert_equal(got['params']['encoder'], variables['params']['encoder'])


def test_reset_head_starts_the_classes_anew(tmp_path):
  path, model, _ = saved(tmp_path)
  fresh, got, report = started(model, path, reset_head=True)
  assert_equal(got['params']['class_embed'], fresh['params']['class_embed'])
  with pytest.raises(UserError, match='lacks what detects the 3 classes .*class_embed'):
    weights.check_head(path, DetectionInfo('somewhere', ('a', 'b', 'c'), 3, SIZE), report)
  assert 'with the head' in started(model, path)[2].lines()[0]


def test_a_remedy_is_told_where_it_applies(tmp_path):
  path, model, _ = saved(tmp_path)  # of three classes
  ids = {'ab': (1, 2), 'xy': (1, 9)}
  for classes, remedy in (('ab', 'data.id_slots=3 makes the ids'), ('xy', 'fine-tune it on them')):
    info = DetectionInfo('coco', tuple(classes), 3, SIZE, category_ids=ids[classes])
    own = model.clone(num_classes=2)
    _, report = weights.initialize(own, tiny.variables(own, SIZE), info, path)
    with pytest.raises(UserError, match=f'lacks what detects the 2 classes .*class_embed.*{remedy}'):
      weights.check_head(path, info, report)


def test_other_names_of_as_many_classes_are_told(tmp_path):
  path, _, _ = saved(tmp_path, num_classes=91)
  known = pretrained.list_pretrained()['detr_r50.coco'].classes
  coco = tuple('N/A' if name.startswith('no class') else name for name in known)
  for classes, said in ((coco, []), (('cell', *coco[1:]), ["0 is 'cell' here and 'no class 0' there"])):
    _, _, report = started(built(num_classes=91), path, classes)
    assert [any(text in line for line in report.note) for text in said] == [True] * len(said)
    assert len(report.note) == len(said) and 'with the head' in report.lines()[0]
  assert 'does not name its 3 classes' in started(built(), saved(tmp_path)[0])[2].note[0]


@pytest.mark.parametrize('run, data, said', [
    (('N/A', 'a', 'b'), ('a', 'b'), 'set data.id_slots=3'),
    (('a', 'b'), ('N/A', 'a', 'b'), 'set data.id_slots=0'),
    (('a', 'b'), ('b', 'a'), 'evaluate it on its own data')])
def test_classes_of_a_run_that_are_numbered_otherwise(run, data, said, tmp_path, monkeypatch):
  ids = lambda classes: tuple(range(3)) if len(classes) == 3 else (1, 2)
  own, info = (DetectionInfo('coco', names, 3, SIZE, category_ids=ids(names)) for names in (run, data))
  own.save(str(tmp_path))
  monkeypatch.setattr(runs, 'is_run', lambda path: True)
  monkeypatch.setattr(runs, 'find', lambda path: (path, ''))
  with pytest.raises(UserError, match=said):
    weights.check_classes(str(tmp_path), info)
  weights.check_classes(str(tmp_path), own)


@pytest.mark.parametrize('change, said', [
    (lambda a: a.pop('transformer.encoder.layers.1.norm2.bias'),
     '1 missing: encoder/layer_1/norm2/bias'),
    (lambda a: a.update(extra=a['class_embed.bias']), "'detr' does not know: extra"),
    (lambda a: a.update({'input_proj.bias': np.zeros(7, np.float32)}),
     r'1 misshapen: input_proj/bias \(7,\) instead of \(16,\)'),
    (lambda a: a.update({'transformer.decoder.layers.0.self_attn.in_proj_bias': np.zeros(50)}),
     r'in_proj_bias has the shape \(50,\), which does not fit .* with heads=2')])
def test_keys_that_are_missing_unknown_or_misshapen_are_named(change, said, tmp_path):
  arrays = dict(containers.read(saved(tmp_path)[0]))
  change(arrays)
  path = str(tmp_path / 'changed.safetensors')
  safetensors.write(path, arrays)
  with pytest.raises(UserError, match=said):
    loaded(path)


def test_what_a_file_is_of(tmp_path):
  trunk = FrozenDict(TRUNK, depths=(3, 4, 6, 3))
  path, _, _ = saved(tmp_path, backbone_fields=trunk)
  assert weights.candidates(path) == ['detr_r50', 'detr_r50_dc5']
  with pytest.raises(UserError, match='may be of detr_r50 or detr_r50_dc5, .* name it: detr_jax.load'):
    detr_jax.load(path)
  with pytest.raises(UserError, match='detector without weights'):
    detr_jax.load('detr_r50')
  with pytest.raises(UserError, match='unknown published checkpoint'):
    detr_jax.load('detr_r50.voc')
  classifier = str(tmp_path / 'resnet.safetensors')
  model = classifiers.create_model('resnet18', width=8, depths=(1, 1))
  classifier_weights.export(classifier, model, tiny.variables(model, SIZE), 'timm')
  with pytest.raises(UserError, match='weights of a classifier; .*give it as init_from'):
    weights.load(classifier)


def test_the_command_line_converts(tmp_path, monkeypatch, capsys):
  trunk = FrozenDict(TRUNK, depths=(3, 4, 6, 3), width=64)
  path, _, variables = saved(tmp_path, backbone_fields=trunk, num_heads=8)
  target = str(tmp_path / 'out.safetensors')
  monkeypatch.setattr('sys.argv', ['convert', path, target, '--to=huggingface'])
  convert.main()
  assert 'parameters to' in capsys.readouterr().out
  assert_equal(loaded(target, backbone_fields=trunk, num_heads=8).variables, variables)


def test_the_list_of_published_detectors():
  found = pretrained.list_pretrained()
  assert len(found) == 7 and set(found) <= {f'{name}.coco' for name in models.variants()}
  for name, known in found.items():
    assert known.url.endswith(f'-{known.sha256}.pth') and len(known.sha256) == 8
    assert weights.candidates(name) == [known.model] and len(known.classes) == known.num_classes
  assert len(pretrained.THINGS) == 80 and len(pretrained.STUFF) == 53
  assert found['detr_r50.coco'].classes[12::5][:2] == ('no class 12', 'cat')
  assert sum(found['detr_r50_panoptic.coco'].is_thing) == 250 - 53
