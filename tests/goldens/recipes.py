"""Golden functions of what recipes are made of: schedules, parameter groups, position tables.

Each returns {output: our value}.
"""

import jax
import numpy as np

from tests.goldens import swin, torch_vit
from tests.goldens.base import Fields, Golden, pair
from vit_jax.optim import layer_decay, optimizers, schedules
from vit_jax.tasks import losses
from vit_jax import models, trees, weights
from vit_jax.layers import positions
from vit_jax.tasks.distillation import divergence
from vit_jax.models.convnext import ConvNeXt
from vit_jax.weights.families.convnext import AUTHORS
from vit_jax.weights.families.timm import TIMM
from vit_jax.weights.table import to_theirs


def position_tables(golden: Golden) -> dict[str, np.ndarray]:
  """Google's resampling of position tables, and sin-cos tables."""
  table, kwargs = golden.inputs['pos_embed_cls'], golden.meta['kwargs']
  old = positions.square_grid(table.shape[1] - 1)
  out = {}
  for size in kwargs['new_grids']:
    new, name = pair(size), size if isinstance(size, int) else '{}x{}'.format(*size)
    patches = positions.resample(table[:, 1:], old, new, num_prefix=0)
    out[f'vit_jax_token/{name}'] = positions.resample(table, old, new, num_prefix=1)
    out[f'vit_jax_gap/{name}'] = out[f'big_vision/{name}'] = patches
  for grid in kwargs.get('sincos', ()):
    out['sincos2d/{}x{}'.format(*grid)] = positions.sincos_2d(
        tuple(grid), kwargs['sincos_width'], kwargs.get('temperature', 10_000.))
  return out


def torch_position_tables(golden: Golden) -> dict[str, np.ndarray]:
  """Resampling of position tables by timm, DeiT and Segmenter, and of Swin's bias tables."""
  config, out = golden.meta['config'], {}
  rules = dict(timm_bicubic_antialias='antialiased_bicubic', timm_bicubic_noantialias='bicubic',
               deit_bicubic='bicubic', segmenter_bilinear='bilinear')
  for new in map(tuple, config.get('new_grids', ())):
    for theirs, ours in rules.items():
      out['{}/{}x{}'.format(theirs, *new)] = positions.resample(
          golden.inputs['pos_embed'], tuple(config['old_grid']), new, config['prefix_tokens'], ours)
  for size in config.get('new_tables', ()):
    biases = golden.inputs['rel_table'][None]
    out[f'swin_rel_table_bicubic/{size}'] = positions.resample(
        biases, positions.square_grid(biases.shape[1]), (size, size), 0, 'bicubic')[0]
  return out


def _duration(spec: Fields, name: str) -> int:
  """Returns a duration in steps; big_vision takes steps, examples, epochs or a share of the run."""
  if f'{name}_steps' in spec:
    return spec[f'{name}_steps']
  for unit, steps in (('examples', lambda: 1 / spec['batch_size']),
                      ('epochs', lambda: spec['data_size'] / spec['batch_size']),
                      ('percent', lambda: spec['total_steps'])):
    if f'{name}_{unit}' in spec:
      value = spec[f'{name}_{unit}']
      return max(1, round(value * steps())) if value else 0
  return 0


def _jax_schedule(spec: Fields) -> schedules.Schedule:
  """Returns our schedule for one of vision_transformer or big_vision."""
  scaled = spec['batch_size'] / 256. if spec.get('scale_with_batchsize', False) else 1.
  end = spec.choose('kind', dict(vit_jax=1e-5, bv=0.))
  # Their warm-up multiplies whatever runs behind it, and their boundaries count from step 0.
  stairs = lambda: dict(form='mmcv', boundaries=spec.get('steps', []), factors=spec.get('mults', []))
  line = lambda: dict(power=spec.get('power', 1.), end=spec.get('end', spec.get('linear_end', end)))
  root = lambda: dict(shift=spec.get('shift', 0.), timescale=(
      spec['timescale_examples'] / spec['batch_size'] if 'timescale_examples' in spec
      else spec.get('timescale', 10_000.)))
  name, options = spec.choose('decay_type', dict(
      cosine=('cosine', dict), linear=('polynomial', line), polynomial=('polynomial', line),
      rsqrt=('rsqrt', root), stair=('staircase', stairs)))
  options = options()
  # What belongs to other decays, or converts durations that are not given.
  spec.skip('batch_size', 'data_size', 'end', 'linear_end', 'power', 'timescale', 'shift', 'steps',
            'mults')
  return schedules.make(
      name, peak=spec['base'] * scaled, total_steps=spec['total_steps'],
      warmup_steps=_duration(spec, 'warmup'), cooldown_steps=_duration(spec, 'cooldown'), **options)


def jax_schedules(golden: Golden) -> dict[str, np.ndarray]:
  """Learning rates of vision_transformer and big_vision."""
  return {name: jax.vmap(_jax_schedule(spec))(golden.inputs[f'steps/{name}'])
          for name, spec in golden.meta['kwargs']['schedules'].items()}


def _stairs(every: int, rate: float, last_step: int) -> dict:
  """Returns the options of a rate that is multiplied by `rate` once in so many steps."""
  drops = list(range(every, last_step + 1, every))
  return dict(boundaries=drops, factors=[rate ** (i + 1) for i in range(len(drops))])


def _timm(spec: Fields, last_step: int) -> schedules.Schedule:
  """Returns the schedule of Swin's lr_scheduler.py, or of DeiT, whose steps are epochs."""
  per_epoch = spec.get('iters_per_epoch', 1)
  steps = lambda name, default: int(spec.get(name, default) * per_epoch)
  rebased = spec['kind'] == 'swin' and spec.get('warmup_prefix', True)
  milestones = lambda: [n * per_epoch for n in spec.get('multisteps', [])]
  name, form, options = spec.choose('name', dict(
      cosine=('cosine', 'jax' if rebased else 'timm', lambda: dict(end=spec['min_lr'])),
      linear=('linear', 'jax', lambda: dict(end=spec.get('lr_min_rate', .01) * spec['base_lr'])),
      step=('staircase', 'timm', lambda: _stairs(
          steps('decay_epochs', 30), spec.get('decay_rate', .1), last_step)),
      multistep=('staircase', 'timm', lambda: dict(
          boundaries=milestones(),
          factors=[spec.get('gamma', .1) ** (i + 1) for i in range(len(milestones()))]))), 'cosine')
  options = options()
  # Each decay leaves the options of the others; nothing follows the last cosine but its end.
  spec.skip('min_lr', 'decay_epochs', 'decay_rate', 'multisteps', 'gamma', 'warmup_prefix',
            'cooldown_epochs')
  return schedules.make(
      name, form=form, peak=spec['base_lr'], total_steps=steps('epochs', 300),
      warmup_steps=steps('warmup_epochs', 20 if spec['kind'] == 'swin' else 5),
      warmup_from=spec.get('warmup_lr', 0.), **options)


def _convnext(spec: Fields, last_step: int) -> schedules.Schedule:
  """Returns ConvNeXt's cosine_scheduler."""
  per_epoch, warmup = spec['iters_per_epoch'], spec.get('warmup_epochs', 0)
  given = spec.get('warmup_steps', -1)
  return schedules.make(
      'cosine', form='convnext', peak=spec['base_lr'], end=spec['min_lr'],
      total_steps=spec['epochs'] * per_epoch,
      warmup_steps=given if given > 0 else int(warmup * per_epoch),
      warmup_from=spec.get('start_warmup_value', spec.get('warmup_lr', 0.)))


def _segmenter(spec: Fields, last_step: int) -> schedules.Schedule:
  """Returns Segmenter's PolynomialLR."""
  end = spec.get('min_lr', 0.)
  return schedules.make(
      'polynomial', form='segmenter', power=spec['power'], peak=spec['base_lr'], end=end,
      total_steps=spec['iter_max'], warmup_steps=spec['iter_warmup'], warmup_from=end,
      hold_steps=spec['step_size'])


def _detr(spec: Fields, last_step: int) -> schedules.Schedule:
  """Returns torch's StepLR, as DETR has it."""
  spec.skip('epochs')  # how long it is run
  return schedules.make('staircase', peak=spec['base_lr'], total_steps=last_step + 1,
                        **_stairs(spec['lr_drop'], spec.get('gamma', .1), last_step))


TORCH_SCHEDULES = dict(swin=_timm, deit=_timm, convnext=_convnext, segmenter=_segmenter, detr=_detr)


def torch_schedules(golden: Golden) -> dict[str, np.ndarray]:
  """Learning rates of Swin, DeiT, ConvNeXt, Segmenter and DETR."""
  out = {}
  for name, spec in golden.meta['config']['schedules'].items():
    steps = golden.inputs[f'steps/{name}']
    out[name] = jax.vmap(spec.choose('kind', TORCH_SCHEDULES)(spec, int(steps.max(initial=0))))(steps)
  return out


def canonical(groups: list[dict]) -> list[dict]:
  """Returns parameter groups with their names, and themselves, in order."""
  return sorted(({**g, 'names': sorted(g['names'])} for g in groups), key=lambda g: g['names'])


def _timm_vit(config):
  """Returns the model, the table of its names, the size of its images and their channels."""
  given = config['model']
  return torch_vit.build(given), TIMM, pair(given.get('img_size', 224)), given.get('in_chans', 3)


def _convnext(config):
  """As `_timm_vit`; the authors' model has 1000 classes unless told otherwise."""
  model = ConvNeXt(num_classes=config.get('num_classes', 1000), depths=tuple(config['depths']),
                   widths=tuple(config['dims']))
  return model, AUTHORS, (64, 64), config.get('in_chans', 3)


def _swin(config):
  """As `_timm_vit`."""
  given = config['model']
  return swin.build(given), swin.AUTHORS, pair(given.get('img_size', 224)), given.get('in_chans', 3)


def parameter_groups(golden: Golden) -> dict[str, list]:
  """Groups of parameters with one learning-rate factor and one weight decay."""
  config = golden.meta['config']
  model, table, size, channels = config.choose('which', dict(
      timm_vit=_timm_vit, convnext=_convnext, swin=_swin))(config)
  params = weights.init_shapes(model, size, channels)
  shapes = trees.flatten(params)
  scales = layer_decay.scales(params, config.get('layer_decay', 1.), models.family(model).depth)
  rule = 'kernels' if config['which'] == 'swin' else 'timm'
  decays = optimizers.decay_rates(params, config.get('weight_decay', 0.), rule)
  # Under the names of the file, whose parameters may hold several of ours.
  filled = lambda values: {path: np.full(shapes[path].shape, value) for path, value in values.items()}
  theirs = [to_theirs(table, filled(values))
            for values in ({path: scale for path, (scale,) in scales.items()}, decays)]
  groups = {}
  for name in theirs[0]:
    (scale,), (decay,) = (np.unique(values[name]).tolist() for values in theirs)
    groups.setdefault((scale, decay), []).append(name)
  rate = lambda scale: dict(lr=config['lr'] * scale) if 'lr' in config else {}
  told = lambda scale: {} if config['which'] == 'swin' else dict(lr_scale=scale)  # it has no such scale
  return {'groups_json': canonical([
      dict(names=names, weight_decay=decay, **told(scale), **rate(scale))
      for (scale, decay), names in groups.items()])}


def distillation(golden: Golden) -> dict[str, np.ndarray]:
  """DeiT's loss and its gradients, per kind, share and temperature; of 'none', of the labels alone."""
  inputs, config, out = golden.inputs, golden.meta['config'], {}
  inputs.skip('labels', 'soft_targets')  # the base criterion decides which of them counts
  one_hot = lambda: jax.nn.one_hot(inputs['labels'], inputs['logits_cls'].shape[1])
  smoothing = config.get('smoothing', 0.)
  targets = config.choose('base', dict(
      ce=one_hot, soft=lambda: inputs['soft_targets'],
      **dict.fromkeys(('smooth', 'smoothing', 'ls', 'label_smoothing'),
                      lambda: losses.smooth(one_hot(), smoothing))))()
  if config['base'] == 'ce' and smoothing:
    targets = losses.smooth(targets, smoothing)

  def loss(own, taught, kind, alpha, tau):
    if kind == 'none':
      return losses.softmax(own, targets).mean()
    apart = divergence(taught, inputs['teacher_logits'], kind, tau)
    return ((1. - alpha) * losses.softmax(own, targets) + alpha * apart).mean()

  heads = inputs['logits_cls'], inputs['logits_dist']
  for kind in ('none', 'soft', 'hard'):
    for alpha in config['alphas']:
      for tau in config['taus']:
        value, grads = jax.value_and_grad(loss, argnums=(0, 1))(*heads, kind, alpha, tau)
        case = f'{kind}_alpha{alpha}_tau{tau}'
        out |= {f'loss/{case}': value, f'grad_cls/{case}': grads[0], f'grad_dist/{case}': grads[1]}
  return out


SYSTEMS = dict(posemb_google=position_tables, posemb_torch=torch_position_tables,
               lr_schedules_jax=jax_schedules, lr_schedules_torch=torch_schedules,
               layer_decay=parameter_groups,
               deit_losses=distillation)
