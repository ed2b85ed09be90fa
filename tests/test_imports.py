"""The floors of the house, and that importing costs and changes nothing."""

import ast
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# From the bottom up: a floor imports what is below it, never what is above.
FLOORS = ('layers', 'models', 'tasks', 'training', 'main')
ABOVE_ALL = ('vit_jax.training', 'vit_jax.main')
MOST = 16  # single files at the top of a package
HEAVY = ('tensorflow', 'tensorflow_datasets', 'torch', 'torchvision', 'timm')


def modules(package: str) -> dict[str, str]:
  """Returns {dotted name: path} of a package's modules; none where there is no such package yet."""
  found = {}
  for folder, _, files in os.walk(os.path.join(ROOT, package)):
    for file in files:
      if file.endswith('.py'):
        path = os.path.join(folder, file)
        dotted = os.path.relpath(path, ROOT)[:-3].replace(os.sep, '.')
        found[dotted.removesuffix('.__init__')] = path
  return found


def imports(path: str, top_level: bool = False) -> set[str]:
  """Returns what a file imports, as dotted names; of `from a import b` both `a` and `a.b`."""
  with open(path) as file:
    tree = ast.parse(file.read())
  nodes = tree.body if top_level else ast.walk(tree)
  out = set()
  for node in nodes:
    if isinstance(node, ast.Import):
      out |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      out |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
  return out


def within(name: str, package: str) -> bool:
  """Tells whether a dotted name is a package or lies in it."""
  return name == package or name.startswith(package + '.')


VIT = modules('vit_jax')
ALL = {**VIT, **modules('detr_jax')}


def test_the_reader_of_imports_sees_them():
  found = imports(VIT['vit_jax.training.loop'])
  assert {'jax', 'vit_jax.training.step', 'vit_jax.errors.UserError'} <= found
  assert 'matplotlib' not in imports(VIT['vit_jax.visual.charts'], top_level=True)


@pytest.mark.parametrize('package', ['vit_jax', 'detr_jax'])
def test_no_floor_imports_one_above(package):
  wrong = []
  for name, path in modules(package).items():
    for floor, own in enumerate(FLOORS):
      if within(name, f'{package}.{own}'):
        wrong += [f'{name} imports {i}' for i in imports(path) for above in FLOORS[floor + 1:]
                  if within(i, f'vit_jax.{above}') or within(i, f'detr_jax.{above}')]
  assert not wrong, wrong


@pytest.mark.parametrize('room', ['layers', 'models', 'data', 'weights', 'evaluation', 'visual',
                                  'tasks'])
def test_rooms_know_nothing_of_training(room):
  wrong = [f'{name} imports {i}' for name, path in ALL.items() for i in imports(path)
           for above in ABOVE_ALL if name.split('.')[1:2] == [room] and within(i, above)]
  assert not wrong, wrong


def test_the_loop_knows_no_task_and_no_model():
  for name in ('vit_jax.training.loop', 'vit_jax.training.step', 'vit_jax.training.run'):
    assert not [i for i in imports(VIT[name]) if within(i, 'vit_jax.tasks')
                or within(i, 'vit_jax.models')], name


@pytest.mark.parametrize('package', ['vit_jax', 'detr_jax'])
def test_no_two_rooms_import_each_other_in_a_circle(package):
  rooms = {name: path for name, path in modules(package).items() if os.path.isdir(
      os.path.join(ROOT, *name.split('.')[:2])) and not name.endswith('.__main__')}  # commands
  room = lambda name: '.'.join(name.split('.')[:2])
  edges = {}
  for name, path in rooms.items():
    edges.setdefault(room(name), set()).update(
        room(i) for i in imports(path) if i in rooms and room(i) != room(name))
  while leaves := [name for name, below in edges.items() if not below & edges.keys()]:
    for name in leaves:
      del edges[name]
  assert not edges, edges


@pytest.mark.parametrize('package', ['vit_jax', 'detr_jax'])
def test_few_single_files_stand_at_the_top(package):
  files = [name for name in os.listdir(os.path.join(ROOT, package)) if name.endswith('.py')]
  assert len(set(files) - {'__init__.py'}) <= MOST, files


def test_vit_jax_does_not_know_detr_jax():
  assert not [name for name, path in VIT.items() if any(
      within(i, 'detr_jax') for i in imports(path))]


def test_nothing_imports_tests_or_notebooks():
  assert not [name for name, path in ALL.items() if any(
      i.split('.')[0] in ('tests', 'notebooks', 'configs') for i in imports(path))]


def test_heavy_libraries_are_imported_where_they_are_used():
  assert not [name for name, path in ALL.items() if any(
      i.split('.')[0] in HEAVY for i in imports(path, top_level=True))]


PROBE = '''
import importlib, json, sys
import jax
before = {k: repr(v) for k, v in jax.config.values.items()}
for name in json.loads(sys.argv[1]):
  importlib.import_module(name)
after = {k: repr(v) for k, v in jax.config.values.items()}
from jax._src import xla_bridge
from absl import flags
print(json.dumps(dict(
    heavy=[m for m in json.loads(sys.argv[2]) if m in sys.modules],
    drawing='matplotlib.pyplot' in sys.modules,
    backends=list(xla_bridge._backends), parsed=flags.FLAGS.is_parsed(),
    changed=[k for k in before if after[k] != before[k]], number=len(before))))
'''


def test_importing_everything_starts_no_device_and_changes_no_setting():
  environment = {k: v for k, v in os.environ.items() if k not in ('XLA_FLAGS', 'JAX_PLATFORMS')}
  done = subprocess.run(
      [sys.executable, '-c', PROBE, json.dumps(sorted(ALL)), json.dumps(HEAVY)], cwd=ROOT,
      check=True, capture_output=True, text=True, env=environment)
  said = json.loads(done.stdout.splitlines()[-1])
  assert said.pop('number') > 50  # the settings are where this test looks for them
  assert said == dict(heavy=[], drawing=False, backends=[], parsed=False, changed=[])
