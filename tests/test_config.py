"""Configs: arguments by type, loading from anywhere, overrides of any leaf, length of a run."""

import glob
import json
import os

import pytest
from ml_collections import ConfigDict

from tests.conftest import ROOT
from vit_jax import config, files
from vit_jax.errors import UserError

CONFIGS = sorted(glob.glob(os.path.join(ROOT, 'configs', '*.py')))
DEFAULTS = dict(model='vit_b16', resolution=(384, 384), steps=10, rate=.5, smoke=False)


@pytest.mark.parametrize('arg, name, value', [
    ('model=vit_l16', 'model', 'vit_l16'),
    ('resolution=224', 'resolution', (224, 224)),
    ('resolution=224x384', 'resolution', (224, 384)),
    ('steps=7', 'steps', 7),
    ('rate=3', 'rate', 3.),
    ('rate=1e-3', 'rate', 1e-3),
    ('smoke', 'smoke', True),
    ('smoke=true', 'smoke', True),
    ('smoke=0', 'smoke', False),
    ('model=a=b', 'model', 'a=b'),
])
def test_an_argument_gets_the_type_of_its_default(arg, name, value):
  got = config.arguments(arg, **DEFAULTS)
  assert got[name] == value and type(got[name]) is type(value)
  assert {k: got[k] for k in DEFAULTS if k != name} == {
      k: v for k, v in DEFAULTS.items() if k != name}


@pytest.mark.parametrize('arg', [None, '', ','])
def test_no_argument_gives_the_defaults(arg):
  assert config.arguments(arg, **DEFAULTS).to_dict() == DEFAULTS


def test_arguments_are_read_together():
  got = config.arguments('model=x,steps=3,smoke', **DEFAULTS)
  assert (got.model, got.steps, got.smoke) == ('x', 3, True)


def test_an_unknown_argument_names_the_nearest():
  with pytest.raises(UserError, match="unknown config argument 'modle'; did you mean 'model'"):
    config.arguments('modle=vit_b16', **DEFAULTS)


def test_a_comma_in_a_value_is_told_how_it_is_written():
  with pytest.raises(UserError, match="'b'.*; a comma ends an argument.*--config.data.source='a,b'"):
    config.arguments('model=a,b,smoke', **DEFAULTS)
  with pytest.raises(UserError) as caught:
    config.arguments('steps=3,b', **DEFAULTS)
  assert 'comma' not in str(caught.value)


@pytest.mark.parametrize('folder', ['2021:05', 'a, b', 'a=b', 'C:', 'x.py:y'])
def test_a_config_lies_in_a_folder_of_any_name(folder, tmp_path):
  (tmp_path / folder).mkdir()
  path = tmp_path / folder / 'a.py'
  path.write_text(files.read_text(os.path.join(ROOT, 'configs', 'vit_pretrain.py')))
  assert config.load(f'{path}:dataset=2021:05/x').data.source == '2021:05/x'
  assert config.load(str(path), {'data.source': 'a, b'}).data.source == 'a, b'


@pytest.mark.parametrize('arg, remedy', [
    ('steps=many', 'a whole number'), ('steps=1.5', 'a whole number'), ('rate=fast', 'a number'),
    ('smoke=perhaps', 'true or false'), ('resolution=wide', '384 or 224x384'),
    ('resolution=1x2x3', '384 or 224x384'), ('steps', 'a whole number'),
])
def test_an_argument_of_the_wrong_type_says_what_it_takes(arg, remedy):
  with pytest.raises(UserError, match=f"{arg.partition('=')[0]}=.* must be .*{remedy}"):
    config.arguments(arg, **DEFAULTS)


@pytest.fixture
def nested():
  return ConfigDict(dict(
      seed=0, name='a', flag=False, scale=1., missing=None,
      optimizer=dict(name='sgd', clip_norm=1., steps=100),
      data=dict(resolution=(16, 16), sizes=[1, 2],
                augment=[dict(name='flip'), dict(name='affine', degrees=12.)])))


@pytest.mark.parametrize('key, text, value', [
    ('seed', '3', 3), ('seed', '1e4', 10_000), ('name', '7', '7'), ('flag', 'true', True),
    ('flag', 'False', False), ('scale', '2', 2.), ('scale', '1e-3', 1e-3), ('missing', '5', 5),
    ('missing', 'text', 'text'), ('optimizer.clip_norm', '0.5', .5),
    ('optimizer.name', 'adamw', 'adamw'), ('data.resolution', '(8, 24)', (8, 24)),
    ('data.resolution', '8,24', (8, 24)), ('data.sizes', '[3]', [3]),
    ('data.augment[1].degrees', '3', 3.), ('data.augment[0].name', 'translate', 'translate'),
    ('data.augment', '[]', []),
])
def test_an_override_sets_one_leaf_by_the_type_of_the_old_value(nested, key, text, value):
  before = dict(config.leaves(nested))
  config.override(nested, key, text)
  after = dict(config.leaves(nested))
  if key != 'data.augment':  # which is a group of leaves, taken away
    assert after[key] == value and type(after[key]) is type(value)
    before[key] = value
    assert after == before
  else:
    assert nested.data.augment == value


@pytest.mark.parametrize('key, text', [
    ('seed', '1.5'), ('seed', 'true'), ('seed', 'x'), ('flag', '2'), ('flag', 'perhaps'),
    ('scale', 'big'), ('scale', 'true'), ('scale', 'None'),
])
def test_an_override_of_the_wrong_type_names_key_type_and_value(nested, key, text):
  with pytest.raises(UserError, match=f"'{key}' takes a (int|bool|float) .*not '{text}'"):
    config.override(nested, key, text)


@pytest.mark.parametrize('key, hint', [
    ('data.resolutoin', 'data.resolution'), ('sede', 'seed'),
    ('data.augment[1].degree', r'data\.augment\[1\]\.degrees'),
    ('optimiser.name', 'optimizer.name'),
    ('data.augment[7].degrees', r'data\.augment\[1\]\.degrees'),
])
def test_an_unknown_key_names_the_nearest(nested, key, hint):
  with pytest.raises(UserError, match=f"unknown config key .*did you mean '{hint}'"):
    config.override(nested, key, '1')


@pytest.mark.parametrize('key, text', [
    ('data.resolution', '224x384'), ('data.resolution', '224'), ('data.resolution', 'wide'),
    ('data.sizes', 'two'), ('data.augment', 'flip'), ('data.resolution[0]', '8')])
def test_a_list_takes_what_it_holds_or_says_so(nested, key, text):
  """Either the value becomes what the list can hold, as 224x384 does in an argument, or an error."""
  try:
    config.override(nested, key, text)
  except UserError as error:
    assert key in str(error)
  else:
    resolution, sizes = nested.data.resolution, nested.data.sizes
    assert len(resolution) == 2 and all(isinstance(n, int) for n in (*resolution, *sizes))
    assert not any(isinstance(op, str) for op in nested.data.augment)


@pytest.mark.parametrize('section', config.OPEN)
def test_sections_that_are_passed_on_take_fields_that_the_config_leaves_out(section):
  c = ConfigDict({section: dict(name='a', part=dict(depth=1))})
  config.override(c, f'{section}.rate', '.5')
  config.override(c, f'{section}.part.width', '32')
  assert c.to_dict() == {section: dict(name='a', rate=.5, part=dict(depth=1, width=32))}


@pytest.fixture
def whole():
  c = config.base()
  c.data = config.image_data('digits', (8, 8), 16)
  c.task = c.model = c.optimizer = c.schedule = dict(name='')
  return c


def test_default_takes_a_field_out_of_a_section_that_is_passed_on(nested):
  config.override(nested, 'optimizer.clip_norm', 'default')
  config.override(nested, 'optimizer.clip_norm', 'default')  # also where it is not
  assert 'clip_norm' not in nested.optimizer
  with pytest.raises(UserError):
    config.override(nested, 'seed', 'default')


def test_a_key_that_nothing_reads_is_told(whole):
  config.check(whole)
  with whole.unlocked():
    whole.mesh.fdsp = 2
  with pytest.raises(UserError, match="unknown config key 'mesh.fdsp'; did you mean 'mesh.fsdp'"):
    config.check(whole)
  del whole.mesh.fdsp
  whole.sede = 3
  with pytest.raises(UserError, match="unknown config key 'sede'; did you mean 'seed'"):
    config.check(whole)


@pytest.mark.parametrize('section', ['data', 'model', 'mesh', 'schedule'])
def test_a_missing_section_is_told(whole, section):
  del whole[section]
  with pytest.raises(UserError, match=f"the config has no '{section}'; begin it with"):
    config.check(whole)


def test_a_group_cannot_be_set_and_its_leaves_are_named(nested):
  with pytest.raises(UserError, match=r"'optimizer' is a group; set one of: .*optimizer\.name"):
    config.override(nested, 'optimizer', 'sgd')


def test_leaves_pass_through_lists_of_dicts_but_not_plain_lists(nested):
  names = [name for name, _ in config.leaves(nested)]
  assert 'data.augment[1].degrees' in names and 'data.sizes' in names
  assert len(names) == len(set(names)) == 13


def test_a_config_loads_from_another_working_directory(root, tmp_path, monkeypatch):
  here = config.load(os.path.join(root, 'configs', 'quickstart.py'))
  monkeypatch.chdir(tmp_path)
  there = config.load(os.path.join(root, 'configs', 'quickstart.py'))
  monkeypatch.chdir(root)
  assert here.to_json() == there.to_json() == config.load('configs/quickstart.py').to_json()


def test_a_missing_file_names_the_nearest(root, monkeypatch):
  monkeypatch.chdir(root)
  with pytest.raises(UserError, match="'configs/quikstart.py'; did you mean 'configs/quick"):
    config.load('configs/quikstart.py')
  with pytest.raises(UserError, match="no config file '/nowhere/x.py'"):
    config.load('/nowhere/x.py')


def test_a_file_without_get_config_is_told(tmp_path):
  path = tmp_path / 'empty.py'
  path.write_text('x = 1')
  with pytest.raises(UserError, match=r'empty\.py defines no get_config\(arg\)'):
    config.load(str(path))


def test_a_loaded_config_has_its_overrides_and_is_locked(tmp_path):
  path = tmp_path / 'a.py'
  path.write_text('from vit_jax import config\n'
                  'def get_config(arg=None):\n'
                  '  a = config.arguments(arg, seed=1)\n'
                  '  c = config.base()\n'
                  '  c.data = config.image_data("digits", (8, 8), 16)\n'
                  '  c.task = c.model = c.optimizer = c.schedule = dict(name="")\n'
                  '  c.seed = a.seed\n'
                  '  return c\n')
  got = config.load(f'{path}:seed=5', {'mesh.fsdp': '2', 'checkpoint.best': 'false',
                                       'model.dropout_rate': '.1'})
  assert (got.seed, got.mesh.fsdp, got.checkpoint.best) == (5, 2, False)
  assert got.model.dropout_rate == .1
  with pytest.raises(AttributeError):
    got.sede = 3


@pytest.mark.parametrize('arg', ['', ':smoke', ':smoke=true'])
@pytest.mark.parametrize('path', CONFIGS, ids=os.path.basename)
def test_every_config_loads_and_goes_through_json(path, arg, tmp_path):
  original = config.load(path + arg)
  saved = tmp_path / 'config.json'
  saved.write_text(json.dumps(config.to_dict(original)))
  again = config.load(str(saved))
  assert config.to_dict(again) == config.to_dict(original)
  plain = lambda v: [plain(item) for item in v] if isinstance(v, (tuple, list)) else v
  assert {k: plain(v) for k, v in config.leaves(again)} == {
      k: plain(v) for k, v in config.leaves(original)}


@pytest.mark.parametrize('path', CONFIGS, ids=os.path.basename)
def test_every_leaf_of_every_config_can_be_overridden_by_its_own_value(path):
  original = config.load(path)
  own = {name: str(value) for name, value in config.leaves(original) if value is not None}
  assert config.to_dict(config.load(path, own)) == config.to_dict(original)


@pytest.mark.parametrize('path', CONFIGS, ids=os.path.basename)
def test_smoke_is_shorter(path):
  length = lambda c: sum(s.total_steps + s.total_epochs for s in config.stages(c))
  assert length(config.load(path + ':smoke')) < length(config.load(path))


def test_a_config_without_stages_is_its_only_one():
  c = config.base()
  assert config.stages(c) == [c]


def test_stages_come_in_order():
  names = [s.name for s in config.stages(ConfigDict(dict(stages=[dict(name='b'), dict(name='a')])))]
  assert names == ['b', 'a']


@pytest.mark.parametrize('steps, epochs, want', [
    (7, 0., 7), (0, 1., 10), (0, 2.5, 25), (0, .001, 1), (0, .26, 3)])
def test_length_of_a_run(steps, epochs, want):
  c = config.base()
  c.total_steps, c.total_epochs, c.data = steps, epochs, dict(batch_size=10)
  assert config.total_steps(c, num_train=100) == want


@pytest.mark.parametrize('given, want', [
    ({}, (0, 300., 0, 5., 0, 5.)), ({'total_steps': '600'}, (600, 0., 10, 0., 10, 0.)),
    ({'total_epochs': '60'}, (0, 60., 0, 1., 0, 1.)), ({'evaluate.every': '7'}, (0, 300., 7, 0., 0, 5.)),
    ({'evaluate.every': '0'}, (0, 300., 0, 0., 0, 5.)), ({'log.every': '7'}, (0, 300., 0, 5., 0, 5.)),
    ({'total_steps': '600', 'checkpoint.every_epochs': '2'}, (600, 0., 10, 0., 0, 2.)),
    ({'total_steps': '600', 'total_epochs': '5'}, (600, 5., 10, 5. / 60., 10, 5. / 60.))])
def test_what_is_given_in_steps_replaces_epochs_and_intervals_follow_the_length(given, want):
  c = config.load(os.path.join(ROOT, 'configs', 'deit.py'), given)
  assert (c.total_steps, c.total_epochs, c.evaluate.every, c.evaluate.every_epochs, c.checkpoint.every,
          c.checkpoint.every_epochs) == pytest.approx(want)
  again = config.to_dict(c)
  assert again['evaluate']['every'] == c.evaluate.every


@pytest.mark.parametrize('steps, epochs', [(0, 0.), (5, 1.)])
def test_the_length_is_set_once(steps, epochs):
  c = config.base()
  c.total_steps, c.total_epochs, c.data = steps, epochs, dict(batch_size=10)
  with pytest.raises(UserError, match=f'either total_steps or total_epochs .*total_steps={steps}'):
    config.total_steps(c, num_train=100)
