"""Segmentation on the loop: a run, its answers, its pages; resumed, split and padded it is the same."""

import json
import os

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax
from detr_jax.tasks import segmentation
from tests.conftest import ROOT
from tests.training.test_loop import assert_bit_equal, final_params, losses, stop_after
from vit_jax import config as config_lib, explore, sharding, task as task_lib
from vit_jax.data import __main__ as data_command
from vit_jax.errors import UserError
from vit_jax.training import loop, step as step_lib

QUICK = os.path.join(ROOT, 'configs', 'quickstart_segmentation.py')


def config(spec=QUICK, **overrides):
  options = {'total_steps': 4, 'schedule.warmup_steps': 1, 'log.every': 1, 'mesh.data': 1,
             'data.batch_size': 8, 'data.train': 'train[:32]', 'data.test': 'test[:5]',
             'model.backbone_fields.norm': 'group', 'model.backbone_fields.width': 32,
             'model.backbone_fields.depths': '(1, 1)'}
  return config_lib.load(spec, {k: str(v) for k, v in {**options, **overrides}.items()})


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('segmenter'))
  return workdir, loop.train(config(), workdir)


def test_a_run_leaves_its_measures(whole):
  workdir, results = whole
  assert results['finished']
  assert {'test_miou', 'test_pixel_accuracy', 'test_mean_accuracy'} <= set(results)
  with open(os.path.join(workdir, 'test_classes.csv')) as file:
    assert len(file.read().splitlines()) == 12
  assert np.isfinite(list(losses(workdir).values())).all()


def test_a_run_that_was_stopped_goes_on_bit_for_bit(whole, tmp_path):
  stop_after(config(), str(tmp_path), 2)
  loop.train(config(), str(tmp_path))
  assert_bit_equal(final_params(str(tmp_path)), final_params(whole[0]))


def gradients(params=None, parts=1, **mesh):
  """Returns (parameters, loss, gradients) of the first batch, on a mesh; draws parameters if None."""
  options, mesh = config(), sharding.make_mesh(**mesh)
  with jax.set_mesh(mesh):
    data, task = task_lib.build(options, mesh)
    _, batch = next(iter(data.train.after(0, 1)))
    if params is None:
      params = jax.jit(lambda key: task.init(key, data.example))(jax.random.key(0))['params']
    batch = task.augment(batch, jax.random.key(1))
    found, sums, _ = jax.jit(lambda params, batch: step_lib.gradients(
        task, params, {}, batch, jax.random.key(2), parts))(params, batch)
    return jax.device_get(params), jax.device_get(sums), jax.device_get(found)


@pytest.mark.parametrize('parts, mesh', [(2, dict(data=1)), (1, dict(data=4, fsdp=2))])
def test_a_mesh_and_parts_of_the_batch_give_the_same_gradients(parts, mesh):
  params, sums, want = gradients(data=1)
  _, others, got = gradients(params, parts, **mesh)
  np.testing.assert_allclose(others['loss'][0] / others['loss'][1], sums['loss'][0] / sums['loss'][1],
                             rtol=1e-5)
  largest = max(np.abs(x).max() for x in jax.tree.leaves(want))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5 * largest), got, want)


def test_pixels_that_do_not_count_teach_nothing(whole):
  predictor = vit_jax.load(whole[0], verbose=False)
  task, rng = predictor.task, np.random.default_rng(0)
  batch = dict(image=rng.integers(0, 255, (2, 16, 16, 3), np.uint8), mask=np.ones(2, np.float32),
               size=np.full((2, 2), 16), labels=np.full((2, 16, 16), 255, np.uint8))
  batch['labels'][0, :4] = 3
  value = lambda labels: task.loss(predictor.params, {}, task.augment({**batch, 'labels': labels}, None),
                                   jax.random.key(0))[0]
  alone = dict(batch, image=batch['image'].copy())
  alone['image'][1] = 0
  same = task.loss(predictor.params, {}, task.augment(alone, None), jax.random.key(0))[0]
  np.testing.assert_allclose(value(batch['labels']), same, rtol=1e-5)
  assert value(np.full_like(batch['labels'], 255)) == 0.  # no pixel counts: nothing is divided by none


def test_files_of_any_size_are_segmented(whole, tmp_path, capsys, monkeypatch):
  folder = tmp_path / 'images'
  folder.mkdir()
  for i, size in enumerate([(64, 64), (50, 91)]):
    Image.fromarray(np.random.default_rng(i).integers(0, 255, (*size, 3), np.uint8)).save(
        folder / f'{i}.png')
  predictor = vit_jax.load(whole[0], verbose=False)
  found = predictor.predict(folder)
  assert [(r['height'], r['width']) for r in found] == [(64, 64), (50, 91)]
  assert sum(c['share'] for c in found[1]['classes']) == pytest.approx(1., abs=1e-4)
  maps, picture = tmp_path / 'maps', tmp_path / 'out.png'
  monkeypatch.setattr('sys.argv', ['predict', whole[0], str(folder), f'--segments={maps}',
                                   f'--out={picture}', '--json'])
  from vit_jax import predict
  predict.main()
  assert json.loads(capsys.readouterr().out)[1]['width'] == 91
  ids = np.asarray(Image.open(maps / '1.png'))
  assert ids.shape == (50, 91) and np.bincount(ids.reshape(-1)).max() == found[1]['classes'][0]['pixels']
  assert Image.open(maps / '1_colours.png').size == (91, 50) and picture.exists()


def test_the_page_and_the_sheet_are_drawn(whole, tmp_path):
  path = explore.explore(whole[0], count=2)
  with open(path) as file:
    assert 'IoU of each class' in file.read()
  data_command.main([QUICK, '--show', f'--out={tmp_path}/sheet.png', '--count=3'])
  assert Image.open(tmp_path / 'sheet.png').size[0] > 300


def test_what_is_written_is_read_again(whole, tmp_path):
  import detr_jax.weights.pixels as weights
  from detr_jax.models import pixels
  from tests.models import tiny
  vit = dict(width=64, depth=2, num_heads=2, mlp_dim=96)
  resnet, mask = dict(width=8, depths=(1, 1, 1, 1)), dict(decoder_heads=2)
  for name, own, fields in (
      ('segmenter_s16_mask', mask, vit), ('segmenter_s16_linear', mask, vit),
      ('upernet_swin_t', dict(width=8, auxiliary_width=4), dict(
          width=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4)),
      ('upernet_r101', dict(width=8, auxiliary_width=4), resnet),
      ('upernet_r101', dict(width=8, auxiliary_width=4), dict(resnet, deep_root=False)),
      ('deeplabv3plus_r101', dict(width=8, fine_width=4, auxiliary_width=4), resnet),
      ('ocrnet_r101', dict(width=8, context_width=4, coarse_width=4), resnet),
      ('ocrnet_hrnet_w48', dict(width=8, context_width=4), dict(
          width=8, modules=(1, 1, 1), depth=1, root_depth=1, root_width=8)),
      ('setr_l16_naive', dict(width=8), dict(vit, map_layers=(0, 1))),
      ('setr_l16_pup', dict(width=8), dict(vit, map_layers=(0, 1))),
      ('setr_l16_mla', dict(width=8, level_width=4), dict(vit, map_layers=(0, 1)))):
    fields = {**pixels.variant(name).arguments['backbone_fields'], **fields}
    model = pixels.create_model(name, num_classes=4, backbone_fields=fields, **own)
    state = tiny.variables(model, (64, 64))
    path = str(tmp_path / f'{name}.safetensors')
    weights.export(path, model, state)
    got = vit_jax.load(name, path, verbose=False, backbone_fields=fields, image_size=64, **own)
    assert got.model == model
    jax.tree.map(np.testing.assert_array_equal, got.variables, state)


VARIANT = """
net_kwargs: {n_heads: 2, n_layers: 2, d_model: 64, normalization: deit}
inference_kwargs: {im_size: 96, window_size: 64, window_stride: 48}
"""


@pytest.mark.parametrize('text, said', [
    (VARIANT, ''), (VARIANT.replace('n_layers: 2', 'n_layers: 3'), 'says depth=3, the model .* has 2'),
    ('- nothing', 'is not what Segmenter writes'), ('a: [', 'is not what Segmenter writes'),
    (VARIANT.replace('deit', 'other'), "KeyError: 'other'")])
def test_variant_yml_is_read_beside_a_file(text, said, tmp_path):
  import detr_jax.weights.pixels as weights
  from detr_jax.models import pixels
  from tests.models import tiny
  fields = dict(width=64, depth=2, num_heads=2, mlp_dim=96, gelu='erf')
  own = dict(backbone_fields=fields, decoder_heads=2)
  model = pixels.create_model('segmenter_s16_mask', num_classes=4, **own)
  path = str(tmp_path / 'checkpoint.safetensors')
  weights.export(path, model, tiny.variables(model, (64, 64)))
  (tmp_path / 'variant.yml').write_text(text)
  load = lambda **more: vit_jax.load('segmenter_s16_mask', path, verbose=False, **own, **more)
  if said:
    with pytest.raises(UserError, match=said):
      load()
    return
  got = load()
  assert got.info.inference == dict(short_side=96, max_size=384, window=64, stride=48)
  assert got.info.mean == (.485, .456, .406) and got.info.image_size == (64, 64)
  found = got.predict(np.zeros((70, 90, 3), np.uint8))[0]
  assert (found['height'], found['width']) == (70, 90)


def test_positions_in_a_segmenters_file_are_resampled(tmp_path):
  import detr_jax.weights.pixels as weights
  from detr_jax.models import pixels
  from tests.models import tiny
  from vit_jax.layers import positions
  fields = dict(width=64, depth=1, num_heads=2, mlp_dim=96, gelu='erf')
  own = dict(backbone_fields=fields, decoder_heads=2)
  model = pixels.create_model('segmenter_s16_mask', num_classes=4, **own)
  path, state = str(tmp_path / 'w.safetensors'), tiny.variables(model, (64, 64))
  weights.export(path, model, state)
  got = vit_jax.load('segmenter_s16_mask', path, verbose=False, image_size=96, **own)
  table = lambda params: np.asarray(
      params['backbone']['Transformer']['posembed_input']['pos_embedding'])
  want = positions.resample(table(state['params']), (4, 4), (6, 6), 1, 'bilinear')
  np.testing.assert_allclose(table(got.params), want, atol=1e-6)
  assert any('4x4 -> 6x6 by bilinear' in line for line in got.report.lines())


@pytest.mark.parametrize('overrides, said', [
    ({'task.class_weights': '(1., 2.)'}, 'class_weights has 2 numbers, the data 11 classes'),
    ({'task.auxilliary': '1.'}, "unknown option of the task: 'auxilliary'"),
    ({'data.transforms': '()', 'data.window': '(32, 32)'}, 'larger than data.window=32x32')])
def test_what_cannot_be_is_told(overrides, said, tmp_path):
  with pytest.raises(UserError, match=said):
    loop.train(config(**overrides), str(tmp_path))


def test_class_weights_weigh(whole):
  predictor = vit_jax.load(whole[0], verbose=False)
  labels = np.arange(10, dtype=np.uint8).reshape(1, 2, 5)
  task = segmentation.Segmentation(predictor.model, predictor.info,
                                   class_weights=(0.,) + (1.,) * 9 + (2.,))
  assert np.asarray(task._weights(labels)).tolist() == [[[0.] + [1.] * 4, [1.] * 5]]
