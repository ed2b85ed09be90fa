"""Our numbers equal those of the authors' own code, and the readers of such files use all of them.

Files with other options than the given ones are made of these: what another option must give follows
from a file's own outputs, or from a closed form written down here once more.
"""

import json
import math
import os
import re

import jax
import numpy as np
import pytest

from detr_jax.weights.families.detr_names import AUTHORS
from tests import golden
from tests.conftest import golden_files
from tests.goldens import base, detr_models
from vit_jax import weights
from vit_jax.weights.table import to_theirs

# Objects of `meta` whose keys are names of cases or arguments of a function.
MAPPINGS = ('schedules', 'variants', 'costs')

READ = ('A1_*', 'A2_*', 'A3_*', 'B_deit3_*', 'B_deit_distilled*', 'B_deit_load_*', 'B_deit_losses*',
        'I1_*', 'H1_posemb_resize_*', 'H2_*', 'H3_*', 'H4_lr_schedules_*', 'H5_layer_decay_vit*',
        'D2_*', 'F1_*', 'F2_*', 'F3_*', 'F4_*', 'F5_*', 'F6_*')


class File:
  """A golden file in memory, to be changed and written."""

  def __init__(self, path):
    with np.load(path) as archive:
      arrays = {k: archive[k] for k in archive.files}
    self.meta = json.loads(str(arrays.pop('meta')))
    self.kwargs = self.meta.get('kwargs') or self.meta.get('config') or {}
    self.out, self.weights, self.inputs = ({k.removeprefix(p): v for k, v in arrays.items()
                                            if k.startswith(p)} for p in ('out/', 'weights/', 'in/'))

  def keep(self, *patterns):
    """Drops all outputs but those of some names, and their tolerances."""
    self.out = {k: v for k, v in self.out.items() if any(re.fullmatch(p, k) for p in patterns)}

  def give(self, atol=1e-5, **outputs):
    """Sets outputs with a tolerance, a share of their largest value."""
    for name, value in outputs.items():
      self.out[name] = np.asarray(value)
      most = float(np.abs(self.out[name]).max(initial=0)) if self.out[name].dtype.kind != 'U' else 0.
      self.meta.setdefault('outputs', {})[name] = {'suggested_atol': atol * max(most, 1e-6)}

  def errors(self, folder):
    """Writes the file and returns the errors of its outputs."""
    path = os.path.join(folder, 'made.npz')
    parts = {'in/': self.inputs, 'out/': self.out, 'weights/': self.weights}
    np.savez(path, meta=json.dumps(self.meta),
             **{prefix + k: v for prefix, part in parts.items() for k, v in part.items()})
    return golden.errors(path)

  def passes(self, folder):
    """Asserts that all outputs are within their tolerances."""
    found = self.errors(folder)
    assert len(found) == len(self.out)
    assert not [e for e in found if not e.passed]


@pytest.fixture
def made(shared, tmp_path):
  """Returns a function that gives a `File` by its name, and the folder for changed ones."""
  return lambda name: File(shared(f'golden/{name}.npz'))


@pytest.mark.parametrize('path', golden_files(*READ))
def test_golden(path):
  failed = [e for e in golden.errors(path) if not e.passed]
  assert not failed, failed


def objects(value, path='meta'):
  """Yields every JSON object in meta but its tolerances, with its path."""
  if isinstance(value, dict):
    if path.rpartition('.')[2] not in MAPPINGS:
      yield path, value
    for key, child in list(value.items()):
      if key != 'outputs':
        yield from objects(child, f'{path}.{key}')
  elif isinstance(value, list):
    for i, child in enumerate(value):
      yield from objects(child, f'{path}[{i}]')


@pytest.mark.parametrize('path', golden_files(
    'A1_timm_vit_gap*', 'A1_timm_vit_load*', 'A2_google_hybrid*', 'A2_google_load*', 'A2_google_mixer',
    'A3_bv_bit*', 'A3_bv_load*', 'B_deit_losses*', 'D2_*', 'F1_detr_panoptic', 'F2_detr_criterion',
    'F3_*', 'F4_*', 'F5_*', 'F6_*', 'I1_*', 'H1_*', 'H2_*', 'H3_*', 'H4_*', 'H5_layer_decay_vit'))
def test_a_key_that_no_reader_knows_fails_wherever_it_stands(path, tmp_path):
  file = File(path)
  wanted = ['in.unheard_of']
  for i, (where, values) in enumerate(list(objects(file.meta))):
    values[f'unheard_of_{i}'] = 1
    wanted.append(f'{where}.unheard_of_{i}')
  file.inputs['unheard_of'] = np.zeros(3)
  with pytest.raises(base.Unknown, match='does not use') as error:
    file.errors(tmp_path)
  assert sorted(re.findall(r'[\w.\[\]]*unheard_of\w*', str(error.value))) == sorted(wanted)


@pytest.mark.parametrize('change, message', [
    (lambda f: f.out.update(unheard_of=np.zeros(3)), 'does not compute unheard_of'),
    (lambda f: f.weights.update({'unheard.of': np.zeros(3)}), r'unheard\.of'),
    (lambda f: f.weights.pop('blocks.1.norm1.bias'), 'blocks|LayerNorm_0/bias'),
    (lambda f: f.weights.pop('head.weight'), 'lacks: head/kernel'),
    (lambda f: f.meta['outputs'].pop('logits'), 'no tolerance for logits'),
    (lambda f: f.meta.update(system='unheard_of'), "no reader of the system 'unheard_of'"),
    (lambda f: f.kwargs.update(global_pool='avgmax'), "global_pool='avgmax' is not one of"),
    (lambda f: f.kwargs.update(qk_norm=True), 'qk_norm=True is not supported'),
    (lambda f: f.kwargs.update(img_size=128), 'position table is of a grid'),
    (lambda f: f.out.clear(), 'no outputs')])
def test_what_a_reader_cannot_judge_is_said(change, message, made, tmp_path):
  file = made('A1_timm_vit_token')
  change(file)
  with pytest.raises(Exception, match=message):
    file.errors(tmp_path)


def test_the_table_tells_failures_and_what_is_not_judged(shared, made, tmp_path, capsys):
  file = made('F4_detr_posenc_sine')
  right, waiting = shared('golden/F4_detr_posenc_sine.npz'), shared('golden/E_videoswin_cls.npz')
  file.out['plain_16'] = file.out['plain_16'] + 1e-3
  assert [not e.passed for e in file.errors(tmp_path)] == [k == 'plain_16' for k in file.out]
  wrong = str(tmp_path / 'made.npz')
  runs = [right], [right, waiting], [wrong, waiting], []
  assert [golden.main(paths) for paths in runs] == [0, 3, 1, 2]
  table = capsys.readouterr().out
  assert 'not judged: no reader yet; it waits for Video Swin' in table
  assert re.search(r'plain_16 +1\.00e-03 .* FAILED', table) and '1 FAILED, 1 not judged' in table
  (tmp_path / 'broken.npz').write_text('nothing')
  assert golden.main([str(tmp_path / 'broken.npz'), str(tmp_path / 'absent.npz')]) == 1


# Any number of images.

@pytest.mark.parametrize('rows', [[1], [1, 0, 1]])
@pytest.mark.parametrize('name', [
    'A1_timm_vit_gap_nonsquare', 'A2_google_hybrid_r50style', 'A2_google_mixer', 'A3_bv_bit_resnet',
    'A3_bv_vit_map_learn', 'B_deit_load_384style', 'I1_bit_resnetv2'])
def test_any_number_of_images(name, rows, made, tmp_path):
  file = made(name)
  number = len(file.inputs['image'])
  file.inputs['image'] = file.inputs['image'][rows]
  file.out = {k: v[rows] if len(v) == number else v for k, v in file.out.items()}
  file.passes(tmp_path)


def test_a_detector_reads_three_images(made, tmp_path):
  file, rows = made('F1_detr_panoptic'), [0, 1, 0]
  file.inputs['image_2'] = file.inputs['image_0']
  axis = lambda name: int(name == 'hs' or name.startswith('enc_layer'))
  file.out = {k: np.take(v, rows, axis(k)) for k, v in file.out.items()}
  file.passes(tmp_path)


@pytest.mark.parametrize('backbone, depths', [('resnet18', [2, 1, 1, 2]), ('resnet50', [1, 1, 1, 1])])
def test_a_detector_reads_one_image_and_basic_blocks(backbone, depths, made, tmp_path):
  file = made('F1_detr_r50_padded_batch')
  file.kwargs['resnet_layers'], file.meta['args']['backbone'] = depths, backbone
  del file.inputs['image_1']
  file.weights, file.out = {}, {}
  made_of = base.Golden(base.Fields(file.meta, 'meta'), {}, base.Fields(file.inputs, 'in'), {}, {})
  model, (image, size) = detr_models.build(made_of), detr_models.batch(made_of)
  assert image.shape == (1, 128, 192, 3)
  variables = jax.jit(model.init)(jax.random.key(3), image, size)
  file.weights = to_theirs(AUTHORS, weights.flatten(variables))
  assert ('backbone.0.body.layer1.0.conv3.weight' in file.weights) == (backbone == 'resnet50')
  outputs = model.apply(variables, image)  # one image has no padding
  file.give(pred_logits=outputs.logits[-1], pred_boxes=outputs.boxes[-1])
  file.passes(tmp_path)


# Other options of classifiers: what they must give follows from the outputs of a file.

def layer_norm(x, scale, bias, eps=1e-6):
  """Returns the normalised last axis, in float64."""
  x = np.asarray(x, np.float64)
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * scale + bias


@pytest.mark.parametrize('fc_norm', [None, True, False])
def test_timm_pools_patches_beside_a_class_token(fc_norm, made, tmp_path):
  file = made('A1_timm_vit_token')
  file.kwargs['global_pool'] = 'avg'
  pooled = file.out['norm'][:, 1:].mean(1)
  if fc_norm is not False:
    scale, bias = (file.weights.pop(f'norm.{leaf}') for leaf in ('weight', 'bias'))
    file.weights |= {'fc_norm.weight': scale, 'fc_norm.bias': bias}
    pooled = layer_norm(file.out['block_2'][:, 1:].mean(1), scale, bias)
    file.keep('patch_embed', r'block_\d')
    file.give(fc_norm=pooled)
  if fc_norm is not None:
    file.kwargs['fc_norm'] = fc_norm
  file.give(pre_logits=pooled, logits=pooled @ file.weights['head.weight'].T + file.weights['head.bias'])
  file.passes(tmp_path)


def test_timm_without_a_head_and_without_pooling(made, tmp_path):
  file = made('A1_timm_vit_token')
  file.kwargs.update(num_classes=0, global_pool='')
  del file.weights['head.weight'], file.weights['head.bias']
  file.give(logits=file.out['norm'], pre_logits=file.out['norm'])
  file.passes(tmp_path)


def test_layer_scale_in_either_spelling(made, tmp_path):
  file = made('B_deit3_layerscale')
  file.meta['system'] = 'timm_vit'
  file.kwargs.update(init_values=1e-4, no_embed_class=True)
  file.passes(tmp_path)
  file.weights = {re.sub(r'gamma_(\d)', r'ls\1.gamma', k): v for k, v in file.weights.items()}
  file.passes(tmp_path)
  file.kwargs['init_values'] = None
  with pytest.raises(base.Unknown, match='init_values'):
    file.errors(tmp_path)


def test_antialias_of_a_resampled_table_counts(made, tmp_path):
  file = made('A1_timm_vit_load_higher_res')
  file.kwargs['antialias'] = False
  assert 'pos_embed_resized' in [e.output for e in file.errors(tmp_path) if not e.passed]


@pytest.mark.parametrize('token', [False, True])
def test_google_without_a_head_gives_all_tokens(token, made, tmp_path):
  file = made('A2_google_vit_token_prelogits' if token else 'A2_google_vit_gap_nonsquare')
  file.kwargs.update(num_classes=None, classifier='token_unpooled' if token else 'unpooled')
  file.weights = {k: v for k, v in file.weights.items() if not k.startswith('head/')}
  tokens = file.out['inter/Transformer/encoder_norm'].astype(np.float64)
  if token:  # its representation is a layer of its own
    tokens = np.tanh(tokens @ file.weights['pre_logits/kernel'] + file.weights['pre_logits/bias'])
  file.keep('inter/Transformer/.*', 'inter/embedding')
  file.give(logits=tokens)
  file.passes(tmp_path)


def test_big_vision_pools_the_first_patch(made, tmp_path):
  file = made('A3_bv_vit_gap_sincos')
  file.kwargs['pool_type'] = '0'
  first = file.out['inter/encoded'][:, 0]
  head = {leaf: file.weights[f'head/{leaf}'].astype(np.float64) for leaf in ('kernel', 'bias')}
  file.give(**{'inter/head_input': first, 'inter/pre_logits': first,
               'result': first @ head['kernel'] + head['bias']})
  file.passes(tmp_path)


def test_older_names_of_big_vision(made, tmp_path):
  file = made('A3_bv_vit_map_learn')
  file.weights = {k.removeprefix('MAPHead_0/'): v for k, v in file.weights.items()}
  file.weights['Transformer/pos_embedding'] = file.weights.pop('pos_embedding')
  file.passes(tmp_path)


@pytest.mark.parametrize('classes', [10, None])
def test_big_visions_mixer(classes, made, tmp_path):
  file = made('A2_google_mixer')
  file.meta.update(system='bv_mixer', cls='big_vision.models.mlp_mixer.Model')
  del file.kwargs['arch']
  file.kwargs.update(patch_size=file.kwargs.pop('patches')['size'], stoch_depth=.1, num_classes=classes)
  logits, pooled = file.out['logits'], file.out['inter/pre_head_layer_norm'].mean(1)
  if classes is None:
    file.weights, logits = {k: v for k, v in file.weights.items() if not k.startswith('head/')}, pooled
  blocks = {f'inter/block_{i}': file.out[f'inter/MixerBlock_{i}'] for i in range(3)}
  stem = file.out['inter/stem']
  file.out = {}
  file.give(**blocks, **{'result': logits, 'inter/pre_logits': pooled, 'inter/stem': stem,
                         'inter/input_tokens': stem.reshape(len(stem), -1, stem.shape[-1])})
  file.passes(tmp_path)


# Closed forms, written once more in plain Python.

def cosine(share):
  return .5 * (1. + math.cos(math.pi * share))


def ramp(step, warmup, start, goal):
  return start + (goal - start) * step / warmup


def swin(step, name='cosine', epochs=0, warmup_epochs=0, iters_per_epoch=0, base_lr=0., min_lr=0.,
         warmup_lr=0., warmup_prefix=True, decay_epochs=30, decay_rate=.1, multisteps=(), gamma=.1):
  total, warmup = int(epochs * iters_per_epoch), int(warmup_epochs * iters_per_epoch)
  if step < warmup:
    return ramp(step, warmup, warmup_lr, base_lr)
  if name == 'step':
    return base_lr * decay_rate ** (step // int(decay_epochs * iters_per_epoch))
  if name == 'multistep':
    return base_lr * gamma ** sum(step >= n * iters_per_epoch for n in multisteps)
  if name == 'linear':
    return base_lr - base_lr * .99 * (step - warmup) / (total - warmup)
  at, length = (step - warmup, total - warmup) if warmup_prefix else (step, total)
  return min_lr + (base_lr - min_lr) * cosine(at / length)


def deit(step, epochs, base_lr, min_lr, warmup_lr, warmup_epochs, decay_rate=.1, cooldown_epochs=0):
  if step < warmup_epochs:
    return ramp(step, warmup_epochs, warmup_lr, base_lr)
  return min_lr + (base_lr - min_lr) * cosine(min(step, epochs) / epochs)


def convnext(step, epochs, iters_per_epoch, base_lr, min_lr, warmup_epochs=0, start_warmup_value=0.,
             warmup_steps=-1):
  warmup, total = warmup_epochs * iters_per_epoch, epochs * iters_per_epoch
  warmup = warmup_steps if warmup_steps > 0 else warmup
  if step < warmup:
    return ramp(step, max(warmup - 1, 1), start_warmup_value, base_lr)
  return min_lr + (base_lr - min_lr) * cosine((step - warmup) / (total - warmup))


def segmenter(step, step_size, iter_warmup, iter_max, power, min_lr, base_lr):
  step -= step % step_size
  if step == 0:
    return base_lr
  share = (1 - step / iter_max) ** power
  if step < iter_warmup:
    share = step / iter_warmup * (1 - iter_warmup / iter_max) ** power
  return (base_lr - min_lr) * share + min_lr


def detr(step, base_lr, lr_drop, gamma=.1):
  return base_lr * gamma ** (step // lr_drop)


SWIN = dict(epochs=12, warmup_epochs=3, iters_per_epoch=7, base_lr=2e-3, min_lr=1e-5, warmup_lr=3e-6)
SEGMENTER = dict(step_size=1, iter_warmup=0, iter_max=90, power=.9, min_lr=1e-5, base_lr=1e-3)


@pytest.mark.parametrize('formula, spec', [
    (swin, SWIN), (swin, dict(SWIN, warmup_prefix=False)), (swin, dict(SWIN, name='linear')),
    (swin, dict(SWIN, name='step', decay_epochs=4, decay_rate=.3)), (swin, dict(SWIN, name='step')),
    (swin, dict(SWIN, name='multistep', multisteps=[5, 9], gamma=.2)),
    (swin, dict(SWIN, warmup_epochs=2.5)), (swin, dict(SWIN, warmup_epochs=0)),
    (deit, dict(epochs=30, base_lr=1e-3, min_lr=1e-5, warmup_lr=1e-6, warmup_epochs=4, decay_rate=.5,
                cooldown_epochs=10)),
    (convnext, dict(epochs=8, iters_per_epoch=9, base_lr=4e-3, min_lr=1e-6, warmup_epochs=2,
                    start_warmup_value=1e-4)),
    (convnext, dict(epochs=8, iters_per_epoch=9, base_lr=4e-3, min_lr=1e-6, warmup_epochs=2,
                    warmup_steps=11)),
    (convnext, dict(epochs=8, iters_per_epoch=9, base_lr=4e-3, min_lr=0., warmup_epochs=0)),
    (segmenter, dict(SEGMENTER, iter_warmup=20)), (segmenter, dict(SEGMENTER, step_size=4)),
    (segmenter, dict(SEGMENTER, step_size=7, iter_warmup=30, min_lr=0.)),
    (detr, dict(base_lr=1e-4, lr_drop=7)), (detr, dict(base_lr=1e-4, lr_drop=9, gamma=.5))])
def test_torch_schedules(formula, spec, made, tmp_path):
  file = made('H4_lr_schedules_torch')
  total = int(spec.get('iter_max') or spec.get('epochs', 40) * spec.get('iters_per_epoch', 1))
  steps = np.arange(total)
  file.kwargs['schedules'] = {'made': dict(spec, kind=formula.__name__)}
  file.inputs = {'steps/made': steps}
  file.out = {'made': np.array([formula(step, **spec) for step in steps.tolist()])}
  file.passes(tmp_path)


def big_vision(step, total_steps, base, decay_type, batch_size=None, data_size=None,
               scale_with_batchsize=False, warmup=0, cooldown=0, end=0., power=1, timescale=10_000,
               shift=0, steps=(), mults=()):
  rate = base * batch_size / 256 if scale_with_batchsize else base
  share = min(max((step - warmup) / (total_steps - warmup), 0.), 1.)
  if decay_type == 'cosine':
    rate *= cosine(share)
  elif decay_type == 'rsqrt':
    rate /= math.sqrt(1 + (max(step - warmup, 0) + shift) / timescale)
  elif decay_type == 'stair':
    rate *= [1., *mults][sum(boundary <= step for boundary in steps)]
  else:
    rate = end + (rate - end) * (1 - share) ** power
  rate *= min(1., step / warmup) if warmup else 1.
  return rate * (min(1., (total_steps - step) / cooldown) if cooldown else 1.)


@pytest.mark.parametrize('spec, durations', [
    (dict(decay_type='cosine', scale_with_batchsize=True, batch_size=1024), dict(warmup_steps=10)),
    (dict(decay_type='linear', end=1e-4, scale_with_batchsize=True, batch_size=64),
     dict(warmup_steps=5, cooldown_steps=20)),
    (dict(decay_type='polynomial', power=2, batch_size=100, data_size=1000), dict(warmup_epochs=1.2)),
    (dict(decay_type='rsqrt', timescale=30, shift=7), dict(warmup_percent=.1, cooldown_steps=15)),
    (dict(decay_type='rsqrt', batch_size=10), dict(warmup_examples=95)),
    (dict(decay_type='stair', steps=[6, 30, 60], mults=[.5, .1, .01]), dict(warmup_steps=10)),
    (dict(decay_type='stair', steps=[0, 40], mults=[.5, .25]), {})])
def test_big_visions_schedules(spec, durations, made, tmp_path):
  file, steps = made('H4_lr_schedules_jax'), np.arange(81)
  spec = dict(spec, total_steps=80, base=3e-3)
  warmup = dict(warmup_epochs=12, warmup_percent=8, warmup_examples=10).get(
      next(iter(durations), ''), durations.get('warmup_steps', 0))
  file.kwargs['schedules'] = {'made': dict(spec, kind='bv', **durations)}
  file.inputs, file.out = {'steps/made': steps}, {}
  cooldown = durations.get('cooldown_steps', 0)
  rate = lambda step: big_vision(step, warmup=warmup, cooldown=cooldown, **spec)
  file.give(2e-6, made=[rate(step) for step in steps.tolist()])
  file.passes(tmp_path)


def test_sines_of_any_variant(made, tmp_path):
  file, out = made('F4_detr_posenc_sine'), {}
  mask = file.inputs['mask'] = np.zeros((3, 7, 9), bool)
  mask[1, 5:, 3:], mask[2, 2:, 6:] = True, True
  variants = dict(plain={}, turn=dict(normalize=True), one=dict(normalize=True, scale=1.),
                  hot=dict(normalize=True, temperature=20), cool=dict(temperature=20),
                  off=dict(normalize=True, offset=-.5), rough=dict(normalize=True, eps=1e-3))
  for i, (name, variant) in enumerate(variants.items()):
    variant['num_pos_feats'] = half = 6 + 2 * i
    table = np.zeros((len(mask), 2 * half, *mask.shape[1:]))
    for b, y, x in np.argwhere(np.ones(mask.shape)):
      for part, line, at in ((0, ~mask[b, :, x], y), (1, ~mask[b, y], x)):
        angle = float(line[:at + 1].sum())
        if variant.get('normalize'):
          angle = (angle + variant.get('offset', 0.)) / (line.sum() + variant.get('eps', 1e-6))
          angle *= variant.get('scale', 2 * math.pi)
        for k in range(half):
          turns = angle / variant.get('temperature', 10_000) ** (2 * (k // 2) / half)
          table[b, part * half + k, y, x] = (math.sin, math.cos)[k % 2](turns)
    out[name] = table
  file.kwargs['variants'], file.out = variants, {}
  file.give(1e-5, **out)
  file.passes(tmp_path)


@pytest.mark.parametrize('base_criterion, smoothing', [('ce', .1), ('soft', 0.), ('smoothing', .2)])
def test_base_criteria_of_distillation(base_criterion, smoothing, made, tmp_path):
  file, out = made('B_deit_losses'), {}
  file.kwargs.update(base=base_criterion, smoothing=smoothing, alphas=[.3], taus=[2.])
  own, taught, teacher = (file.inputs[k].astype(np.float64)
                          for k in ('logits_cls', 'logits_dist', 'teacher_logits'))
  classes = own.shape[1]
  targets = np.eye(classes)[file.inputs['labels']] * (1 - smoothing) + smoothing / classes
  if base_criterion == 'soft':
    targets = file.inputs['soft_targets'].astype(np.float64)
  log_softmax = lambda x: x - np.log(np.exp(x).sum(1, keepdims=True))
  labels = -(targets * log_softmax(own)).sum(1).mean()
  grad = (np.exp(log_softmax(own)) * targets.sum(1, keepdims=True) - targets) / len(own)
  soft, log_teacher = log_softmax(taught / 2.), log_softmax(teacher / 2.)
  apart = dict(soft=(np.exp(log_teacher) * (log_teacher - soft)).mean() * 4.,
               hard=-np.take_along_axis(log_softmax(taught), teacher.argmax(1)[:, None], 1).mean())
  for kind, value in apart.items():
    out |= {f'loss/{kind}_alpha0.3_tau2.0': .7 * labels + .3 * value,
            f'grad_cls/{kind}_alpha0.3_tau2.0': .7 * grad}
  file.out = {}
  file.give(**out, **{'loss/none_alpha0.3_tau2.0': labels})
  file.passes(tmp_path)


@pytest.mark.parametrize('options', [
    {}, dict(class_token=False, global_pool='avg'), dict(init_values=1e-5), dict(global_pool='avg'),
    dict(no_embed_class=True, init_values=1e-4, mlp_ratio=2., img_size=[32, 48])])
def test_layer_decay_of_timm(options, made, tmp_path):
  file = made('H5_layer_decay_vit')
  file.kwargs['model'].update(options)
  names = [f'blocks.{i}.{layer}.{leaf}' for i in range(4) for leaf in ('weight', 'bias')
           for layer in ('norm1', 'norm2', 'attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2')]
  names += [f'{layer}.{leaf}' for leaf in ('weight', 'bias') for layer in (
      'patch_embed.proj', 'head', 'fc_norm' if options.get('global_pool') else 'norm')]
  names += ['pos_embed'] + ['cls_token'] * options.get('class_token', True)
  names += [f'blocks.{i}.ls{n}.gamma' for i in range(4) for n in (1, 2)] * ('init_values' in options)
  groups = {}
  for name in names:
    block = re.match(r'blocks\.(\d)', name)
    depth = 0 if re.match('cls_token|pos_embed|patch_embed', name) else int(block[1]) + 1 if block else (
        4 if name.startswith('norm.') else 5)  # the last norm learns with the last block
    decays = name.endswith('weight') and 'norm' not in name
    groups.setdefault((.65 ** (5 - depth), .05 * decays), []).append(name)
  file.out['groups_json'] = np.array(json.dumps([
      dict(names=group, lr_scale=scale, weight_decay=decay)
      for (scale, decay), group in groups.items()]))
  file.passes(tmp_path)


# Detection: other targets, results and measures.

@pytest.mark.parametrize('correct', [False, True])
def test_pairs_of_partners_mix(correct, made, tmp_path):
  file = made('H2_mixup_cutmix')
  images, labels = file.inputs['images'].astype(np.float64), file.inputs['labels']
  height, width = images.shape[2:]
  shares, side = [.3, .75], np.array([height, width]) // 2  # a quarter is cut out
  file.kwargs['cases'] = [dict(mode='pair', lam=shares.copy(), cutmix=[False, True], centers=[[2, 9]],
                               smoothing=.2, correct_lam=correct)]
  top, bottom = max(2 - side[0] // 2, 0), 2 + (side[0] + 1) // 2
  left, right = 9 - side[1] // 2, 9 + (side[1] + 1) // 2
  if correct:
    shares[1] = 1 - (bottom - top) * (right - left) / (height * width)
  mixed, targets = images.copy(), np.eye(7)[labels] * .8 + .2 / 7
  mixed[[0, 3]] = .3 * images[[0, 3]] + .7 * images[[3, 0]]
  mixed[[1, 2], :, top:bottom, left:right] = images[[2, 1], :, top:bottom, left:right]
  each = np.array([*shares, *shares[::-1]])[:, None]
  file.out = {'0/boxes_yl_yh_xl_xh': np.array([[top, bottom, left, right]])}
  file.give(**{'0/images': mixed, '0/targets': each * targets + (1 - each) * targets[::-1]})
  file.passes(tmp_path)


def test_a_batch_without_targets(made, tmp_path):
  file = made('F2_detr_criterion_masks')
  for i in range(2):
    for part in ('boxes', 'labels', 'masks'):
      file.inputs[f'target_{i}_{part}'] = file.inputs[f'target_{i}_{part}'][:0]
  logits = [file.inputs[f'{n}pred_logits'].astype(np.float64) for n in ('', 'aux_0_')]
  nothing = [float((np.log(np.exp(x).sum(-1)) - x[..., -1]).mean()) for x in logits]
  file.out = {f'match_{i}_{part}': np.zeros(0, int) for i in range(2) for part in ('pred', 'target')}
  file.give(**{'loss/loss_ce': nothing[0], 'loss/loss_ce_0': nothing[1], 'loss/class_error': 100.,
               'total_weighted': sum(nothing), 'loss/loss_bbox': 0., 'loss/loss_mask': 0.,
               'grad/pred_masks': np.zeros_like(file.inputs['pred_masks'])})
  file.passes(tmp_path)


def test_costs_and_coefficients_count(made, tmp_path):
  file = made('F2_detr_criterion')
  file.kwargs['costs'] = dict(cost_class=2, cost_bbox=1, cost_giou=0)
  file.kwargs['weights'] = dict(loss_ce=1, loss_bbox=0, loss_giou=0)
  logits = file.inputs['pred_logits'].astype(np.float64)
  logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
  target = {k: file.inputs[f'target_0_{k}'] for k in ('labels', 'boxes')}
  boxes = np.abs(file.inputs['pred_boxes'][0][:, None] - target['boxes']).sum(-1)
  file.out = {}
  file.give(cost_0=boxes - 2 * np.exp(logits[0][:, target['labels']]),
            **{'grad/pred_boxes': np.zeros_like(file.inputs['pred_boxes'])})
  file.passes(tmp_path)


@pytest.mark.parametrize('rows', [[1], [0, 1, 0]])
def test_results_without_masks_of_any_number_of_images(rows, made, tmp_path):
  file = made('F3_detr_postprocess')
  del file.inputs['pred_masks']
  file.inputs = {k: v[rows] for k, v in file.inputs.items()}
  out = {f'bbox_{i}_{part}': file.out[f'bbox_{row}_{part}'] for i, row in enumerate(rows)
         for part in ('scores', 'labels', 'boxes')}
  file.out, file.meta['outputs'] = {}, {}
  file.give(**out)
  file.passes(tmp_path)


def test_one_mask_pixel_in_ten_thousand_may_differ(made, tmp_path):
  file = made('F3_detr_postprocess')
  file.keep('segm_.*', 'panoptic_.*')
  ids = file.out['panoptic_0_ids'] = file.out['panoptic_0_ids'].copy()  # 120 x 160 pixels
  ids[0, 0] += 1
  file.passes(tmp_path)
  ids[0, :3] += 1
  assert [e.output for e in file.errors(tmp_path) if not e.passed] == ['panoptic_0_ids']


@pytest.mark.parametrize('boxes', [False, True])
def test_average_precision_of_masks(boxes, made, tmp_path):
  from pycocotools import mask as coding
  from pycocotools.coco import COCO
  from pycocotools.cocoeval import COCOeval
  file = made('F5_coco_ap')
  truth, found = (json.loads(str(file.inputs[k])) for k in ('gt_json', 'dets_json'))

  def coded(box):  # an ellipse in the box
    left, top, width, height = box
    y, x = np.mgrid[:240, :320]
    inside = ((x - left) / width * 2 - 1) ** 2 + ((y - top) / height * 2 - 1) ** 2 < 1
    out = coding.encode(np.asfortranarray(inside, np.uint8))
    return dict(size=list(out['size']), counts=out['counts'].decode())

  for part in (truth['annotations'], found):
    for entry in part:
      entry['segmentation'] = coded(entry['bbox'])
  for entry in found if not boxes else ():
    del entry['bbox']
  for entry in truth['annotations']:
    entry['area'] = float(coding.area(entry['segmentation']))
  file.inputs = {k: np.array(json.dumps(v)) for k, v in (('gt_json', truth), ('dets_json', found))}
  stock = COCO()
  stock.dataset = truth
  stock.createIndex()
  evaluation = COCOeval(stock, stock.loadRes(found), 'segm')
  evaluation.evaluate()
  evaluation.accumulate()
  evaluation.summarize()
  file.kwargs['types'], file.out = ['segm'], {}
  file.give(segm_stats=evaluation.stats, segm_recall=evaluation.eval['recall'],
            segm_precision=evaluation.eval['precision'][..., -1])
  file.passes(tmp_path)
