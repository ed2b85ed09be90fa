"""Every leaf of a config gets values that it cannot have: one sentence each, and nothing is written."""

import copy
import os

import jax
import numpy as np
import pytest

from tests.conftest import ROOT
from vit_jax import config as config_lib, sharding
from vit_jax.training import loop
from vit_jax.data import sources
from vit_jax.data.sources.memory import Memory
from vit_jax.errors import UserError

HUGE, NAN, INF = 10 ** 12, float('nan'), float('inf')
# Leaves that may be below 0, or None: these values mean something there.
NEGATIVE = ('mesh.data', 'mesh.fsdp', 'mesh.model', 'model.head_bias')
OPTIONAL = ('model.representation_size', 'model.layer_scale', 'optimizer.weight_decay',
            'task.target_threshold', 'task.teacher.image_size')
FIXED = ('data.mean', 'data.std', 'data.resolution', 'log.profile')  # lists of a fixed length
TINY = 'tests/configs/tiny.py'
# Configs, with options that readers know and the configs leave out.
CASES = {
    TINY: {
        'model.layer_norm_eps': 1e-6, 'model.layer_scale': .1, 'model.head_bias': 0.,
        'model.qk_norm': False, 'model.attention_dropout_rate': .1, 'model.representation_size': 8,
        'task.target_threshold': None, 'optimizer.b1': .9, 'optimizer.eps': 1e-8,
        'optimizer.layer_decay': .9, 'optimizer.decay': 'kernels',
        'optimizer.rate_factors': (('.*kernel', .1),), 'schedule.end': 1e-5, 'schedule.warmup_from': 0.,
        'schedule.cooldown_steps': 1, 'schedule.flat_steps': 1, 'schedule.lag_steps': 1,
        'schedule.hold_epochs': 1., 'data.eval_crop': dict(name='center', ratio=.9),
        'data.crop': dict(name='inception', min_area=.1, max_aspect=1.3),
        'data.mixture': [dict(source='digits', train='train', weight=1.)],
        'evaluate.fewshot': [dict(source='digits', train='train[:10]', test='test[:10]')]},
    'configs/vit_finetune.py:model=r_ti16,smoke': {
        'optimizer.nesterov': False, 'evaluate.patience': 3, 'evaluate.every': 5},
    'configs/bit_pretrain.py:variant=paper,smoke': {
        'data.crop': dict(name='random', ratio=.8, squash=True)},
    'configs/mixer.py:smoke': {
        'optimizer.name': 'adafactor', 'optimizer.momentum': .9, 'optimizer.b2_cap': .9,
        'optimizer.min_size_to_factor': 32, 'optimizer.clip_threshold': 1., 'schedule.name': 'rsqrt',
        'schedule.timescale': 10., 'schedule.shift': 1.},
    'configs/deit.py:model=deit_ti16_distilled,distillation=soft,teacher=x,smoke': {},
    'configs/detr_small.py:denoising=2,smoke': {
        'task.max_detections': 20, 'task.eos_coef': .1, 'task.aux_loss': True, 'model.box_noise': .4,
        'model.label_noise': .2, 'model.max_positions': 50, 'data.train': 'train[:8]',
        'data.test': 'test[:4]', 'data.transforms': [
            dict(name='flip', horizontal=.5), dict(name='random_crop', min_share=.6, visible=.3),
            dict(name='detr', scales=(40, 60), max_size=64, crop_scales=(40, 50), crop_min=20,
                 crop_max=40)],
        'data.test_transforms': [dict(name='resize', size=60, max_size=64)]}}


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
  """Makes the digits so few that opening them takes no time."""
  arrays = np.zeros((64, 8, 8, 1), np.uint8), np.arange(64, dtype=np.int32) % 10
  monkeypatch.setitem(sources.BUILT_IN, 'digits', lambda channels=0: Memory(
      'digits', tuple('0123456789'), dict(train=arrays, test=arrays), channels or 1))


def put(config, name: str, value) -> None:
  """Sets a leaf, whatever its type was."""
  *path, last = name.replace('[', '.').replace(']', '').split('.')
  node = config
  for part in path:
    node = node[int(part)] if part.isdigit() else node[part]
  with config.unlocked(), config.ignore_type():
    node[last] = value


def case(spec: str):
  config = config_lib.load(os.path.join(ROOT, spec))
  for name, value in copy.deepcopy(CASES[spec]).items():
    put(config, name, value)
  return config


def own_leaves(spec: str) -> list:
  """Returns [(leaf, value)] of a case, without those that an earlier case had to the same readers."""
  config, specs = case(spec), list(CASES)
  seen = set()
  for other in map(case, specs[:specs.index(spec)]):
    package = lambda c: c.task.name.partition('.')[0]
    new = ['task'] * (other.task.name != config.task.name) + ['model', 'data'] * (
        package(other) != package(config))
    seen |= {name for name, _ in config_lib.leaves(other) if name.partition('.')[0] not in new}
  return [(name, old) for name, old in config_lib.leaves(config) if name not in seen]


def refused(spec: str, name: str, value) -> bool:
  """Returns whether a plan is refused; fails unless that is done in one sentence."""
  config = case(spec)
  put(config, name, value)
  try:
    config_lib.check(config)
    mesh = sharding.make_mesh(**{**config.mesh, **({} if 'mesh' in name else dict(data=1))})
    with jax.set_mesh(mesh):
      loop.plan(config, mesh)
  except UserError as error:
    assert '\n' not in str(error) and len(str(error)) > 15
    return True
  return False


def wrong(name: str, old):
  """Yields values that the leaf cannot have."""
  number = lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)
  if number(old) or name in OPTIONAL:
    yield from (NAN, INF, -INF, 'x', (), (NAN,))
    yield from (True,) if isinstance(old, int) else ()  # a ConfigDict makes a float of it
    yield from (-1, -.5) if name not in NEGATIVE else ()
    yield from () if name in OPTIONAL else (None,)
  elif isinstance(old, (tuple, list)) and old and all(map(number, old)):
    yield from (tuple(v for _ in old) for v in (NAN, -1, 'x', None, (1, 2)))
    yield from ((), (*old, *old, *old, *old)) if name in FIXED else ()
    yield from (3, 'x', None)
  elif isinstance(old, bool):
    yield from ('x', 3, None, NAN)
  elif isinstance(old, str):
    yield from (3, None, NAN, ('x',))


def test_each_leaf_refuses_one_value_in_turn(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  accepted = []
  for i, (name, old) in enumerate(config_lib.leaves(case(TINY))):
    values = list(wrong(name, old))
    if values and not refused(TINY, name, values[i % len(values)]):
      accepted.append((name, values[i % len(values)]))
  assert not accepted
  assert not os.listdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('spec', CASES)
def test_no_leaf_takes_what_it_cannot_be(spec, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert not refused(spec, 'seed', 1)
  accepted = [(name, value) for name, old in own_leaves(spec) for value in wrong(name, old)
              if not refused(spec, name, value)]
  assert not accepted
  assert not os.listdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('spec', CASES)
def test_no_number_is_a_traceback(spec, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name, old in own_leaves(spec):
    if isinstance(old, (int, float)) and not isinstance(old, bool):
      for value in (0, 1, 3, 1.5, HUGE):
        refused(spec, name, value)
    elif isinstance(old, (tuple, list)):
      refused(spec, name, ())
  assert not os.listdir(tmp_path)
