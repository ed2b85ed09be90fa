"""Golden functions of what recipes are made of: schedules, parameter groups, position tables.

Each returns {output: our value}.
"""

import re

import jax
import numpy as np

from tests.goldens.base import Golden
from vit_jax import layer_decay, losses, optimizers, schedules, trees, weights
from vit_jax.layers import positions
from vit_jax.models.vit import ViT
from vit_jax.tasks.distillation import divergence
from vit_jax.weights.table import to_theirs
from vit_jax.weights.timm import TIMM


def position_tables(golden: Golden) -> dict[str, np.ndarray]:
  """Google's resampling of position tables, and sin-cos tables."""
  table = golden.inputs['pos_embed_cls']
  old = positions.square_grid(table.shape[1] - 1)
  out = {}
  for size in golden.meta['kwargs']['new_grids']:
    new = (size, size) if isinstance(size, int) else tuple(size)
    name = size if isinstance(size, int) else '{}x{}'.format(*size)
    patches = positions.resample(table[:, 1:], old, new, num_prefix=0)
    out[f'vit_jax_token/{name}'] = positions.resample(table, old, new, num_prefix=1)
    out[f'vit_jax_gap/{name}'] = out[f'big_vision/{name}'] = patches
  for grid in golden.meta['kwargs']['sincos']:
    out['sincos2d/{}x{}'.format(*grid)] = positions.sincos_2d(
        tuple(grid), golden.meta['kwargs']['sincos_width'])
  return out


def torch_position_tables(golden: Golden) -> dict[str, np.ndarray]:
  """Resampling of position tables by timm, DeiT and Segmenter, and of Swin's bias tables."""
  config, out = golden.meta['config'], {}
  rules = dict(timm_bicubic_antialias='antialiased_bicubic', timm_bicubic_noantialias='bicubic',
               deit_bicubic='bicubic', segmenter_bilinear='bilinear')
  for new in map(tuple, config['new_grids']):
    for theirs, ours in rules.items():
      out['{}/{}x{}'.format(theirs, *new)] = positions.resample(
          golden.inputs['pos_embed'], tuple(config['old_grid']), new, config['prefix_tokens'], ours)
  biases = golden.inputs['rel_table'][None]
  for size in config['new_tables']:
    out[f'swin_rel_table_bicubic/{size}'] = positions.resample(
        biases, positions.square_grid(biases.shape[1]), (size, size), 0, 'bicubic')[0]
  return out


def jax_schedules(golden: Golden) -> dict[str, np.ndarray]:
  """Learning rates of vision_transformer and big_vision."""
  out = {}
  for name, spec in golden.meta['kwargs']['schedules'].items():
    kind = spec['decay_type']
    options = {ours: spec[theirs] for theirs, ours in (
        ('warmup_steps', 'warmup_steps'), ('cooldown_steps', 'cooldown_steps'),
        ('timescale', 'timescale'), ('shift', 'shift'), ('power', 'power'),
        ('steps', 'boundaries'), ('mults', 'factors')) if theirs in spec}
    if 'boundaries' in options:  # theirs count from the start, ours from the end of the warm-up
      warmup = options.get('warmup_steps', 0)
      options['boundaries'] = [b - warmup for b in options['boundaries']]
    if kind == 'linear' or kind == 'polynomial':
      options['end'] = spec.get('linear_end', spec.get(
          'end', 1e-5 if spec['kind'] == 'vit_jax' else 0.))
    if kind == 'linear' and 'power' in options:
      kind = 'polynomial'
    ours = {'stair': 'staircase'}.get(kind, kind)
    schedule = schedules.make(ours, peak=spec['base'], total_steps=spec['total_steps'], **options)
    out[name] = jax.vmap(schedule)(golden.inputs[f'steps/{name}'])
  return out


def _torch_schedule(spec, last_step: int) -> schedules.Schedule:
  """Returns our schedule for one of the torch code bases; a step is what theirs counts."""
  kind, epoch = spec['kind'], spec.get('iters_per_epoch', 1)
  if kind == 'segmenter':
    return schedules.make(
        'polynomial', form='segmenter', power=spec['power'], peak=spec['base_lr'], end=spec['min_lr'],
        total_steps=spec['iter_max'], warmup_steps=spec['iter_warmup'], warmup_from=spec['min_lr'],
        hold_steps=spec['step_size'])
  if kind == 'detr':
    drops = range(spec['lr_drop'], last_step + 1, spec['lr_drop'])
    return schedules.make(
        'staircase', peak=spec['base_lr'], total_steps=last_step + 1, boundaries=list(drops),
        factors=[.1 ** (i + 1) for i in range(len(drops))])
  name = spec.get('name', 'cosine')
  form = {'swin': 'jax' if spec.get('warmup_prefix', True) else 'timm', 'deit': 'timm',
          'convnext': 'convnext'}[kind]
  end = {'cosine': spec['min_lr'], 'linear': .01 * spec['base_lr']}[name]  # Swin's lr_min_rate
  return schedules.make(
      name, form=form, peak=spec['base_lr'], end=end, total_steps=spec['epochs'] * epoch,
      warmup_steps=spec['warmup_epochs'] * epoch, warmup_from=spec.get('warmup_lr', 0.))


def torch_schedules(golden: Golden) -> dict[str, np.ndarray]:
  """Learning rates of Swin, DeiT, ConvNeXt, Segmenter and DETR."""
  out = {}
  for name, spec in golden.meta['config']['schedules'].items():
    steps = golden.inputs[f'steps/{name}']
    out[name] = jax.vmap(_torch_schedule(spec, int(steps.max())))(steps)
  return out


def canonical(groups: list[dict]) -> list[dict]:
  """Returns parameter groups with their names, and themselves, in order."""
  return sorted(({**g, 'names': sorted(g['names'])} for g in groups), key=lambda g: g['names'])


def parameter_groups(golden: Golden) -> dict[str, list]:
  """Groups of parameters with one learning-rate factor and one weight decay."""
  config = golden.meta['config']
  if config['which'] != 'timm_vit':
    raise KeyError(f'parameter groups of {config["which"]!r} wait for the model of that name')
  given = config['model']
  size = (given['img_size'],) * 2 if isinstance(given['img_size'], int) else tuple(given['img_size'])
  pooled = given.get('global_pool', 'token') == 'avg'
  model = ViT(num_classes=given['num_classes'], patch_size=given['patch_size'], depth=given['depth'],
              width=given['embed_dim'], num_heads=given['num_heads'], class_token=True,
              mlp_dim=int(given['embed_dim'] * given.get('mlp_ratio', 4.)),
              pool='mean' if pooled else 'token', norm_pooled=pooled)
  params = weights.init_shapes(model, size, 3)
  shapes = trees.flatten(params)
  scales = {path: scale for path, (scale,) in layer_decay.scales(params, config['layer_decay']).items()}
  decays = optimizers.decay_rates(params, config['weight_decay'], 'timm')
  # Under the names of the file, whose parameters may hold several of ours.
  theirs = [to_theirs(TIMM, {path: np.full(shapes[path].shape, value) for path, value in values.items()})
            for values in (scales, decays)]
  groups = {}
  for name in theirs[0]:
    (scale,), (decay,) = (np.unique(values[name]).tolist() for values in theirs)
    groups.setdefault((scale, decay), []).append(name)
  return {'groups_json': canonical([dict(names=names, lr_scale=scale, weight_decay=decay)
                                    for (scale, decay), names in groups.items()])}


def distillation(golden: Golden) -> dict[str, np.ndarray]:
  """DeiT's loss and its gradients, per kind, share and temperature; of 'none', of the labels alone."""
  inputs, out = golden.inputs, {}
  labels = jax.nn.one_hot(inputs['labels'], inputs['logits_cls'].shape[1])
  for name in golden.outputs:
    what, _, case = name.partition('/')
    kind, alpha, tau = re.fullmatch(r'(\w+)_alpha(.+)_tau(.+)', case).groups()

    def loss(own, taught, kind=kind, alpha=float(alpha), tau=float(tau)):
      if kind == 'none':
        return losses.softmax(own, labels).mean()
      apart = divergence(taught, inputs['teacher_logits'], kind, tau)
      return ((1. - alpha) * losses.softmax(own, labels) + alpha * apart).mean()

    heads = inputs['logits_cls'], inputs['logits_dist']
    if what == 'loss':
      out[name] = loss(*heads)
    else:
      out[name] = jax.grad(loss, argnums=('grad_cls', 'grad_dist').index(what))(*heads)
  return out


SYSTEMS = dict(posemb_google=position_tables, posemb_torch=torch_position_tables,
               lr_schedules_jax=jax_schedules, lr_schedules_torch=torch_schedules,
               layer_decay=parameter_groups,
               deit_losses=distillation)
