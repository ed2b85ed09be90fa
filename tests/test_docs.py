"""The commands of README.md and docs/ run as they stand, in their order."""

import glob
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.models import tiny
from vit_jax import config as config_lib, models, weights
from vit_jax.training import loop

DOCUMENTS = ['README.md', *sorted(os.path.relpath(p, ROOT)
                                  for p in glob.glob(os.path.join(ROOT, 'docs', '*.md')))]


def commands(document: str) -> list[str]:
  """Returns the commands in the ```bash blocks of a document, one a line."""
  text = open(os.path.join(ROOT, document)).read()
  blocks = re.findall(r'^```bash\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
  lines = [line.strip() for block in blocks for line in block.splitlines()]
  return [line for line in lines if line and not line.startswith('#')]


def is_setup(line: str) -> bool:
  """Tells whether a command makes the environment that this test already runs in."""
  return line.startswith(('git ', 'cd ', 'make ', 'python3 -m venv', 'source ', 'pip ', 'pytest',
                          'python -m pytest'))


@pytest.mark.slow
def test_the_lines_of_python_in_the_readme_run(tmp_path, monkeypatch):
  text = open(os.path.join(ROOT, 'README.md')).read()
  block, = re.findall(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
  config = config_lib.load(os.path.join(ROOT, 'tests', 'configs', 'tiny.py') + ':steps=3')
  loop.train(config, str(tmp_path / 'runs' / 'quickstart'))
  model = models.create_model('vit_ti16')
  weights.export(str(tmp_path / 'vit_ti16.npz'), model, tiny.variables(model, (64, 64)))
  monkeypatch.chdir(tmp_path)
  Image.new('L', (16, 16)).save('7.png')
  names = {'images': np.zeros((1, 384, 384, 3), np.uint8)}
  exec(block, names)
  assert names['logits'].shape == (1, 10) and names['info'].image_size == (384, 384)


@pytest.mark.slow
@pytest.mark.parametrize('document', DOCUMENTS)
def test_every_command_of_a_document_runs(document, tmp_path):
  for name in ('configs', 'scripts', 'tests', 'benchmarks'):
    os.symlink(os.path.join(ROOT, name), tmp_path / name)
  for name in ('quickstart', 'quickstart-detr'):  # a finished run is not run again, as for anyone
    if os.path.exists(os.path.join(ROOT, 'runs', name, 'results.json')):
      shutil.copytree(os.path.join(ROOT, 'runs', name), tmp_path / 'runs' / name)
  # One device. README.md trains to an accuracy, as for anyone; others compile much, as tests do.
  flags = '' if document == 'README.md' else re.sub(r'\S*device_count=8', '', os.environ['XLA_FLAGS'])
  environment = {**os.environ, 'PYTHONPATH': ROOT, 'XLA_FLAGS': flags}
  for line in filter(lambda x: not is_setup(x), commands(document)):
    words = shlex.split(line)
    assert words[0] == 'python', line
    found = subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, env=environment, text=True,
                           capture_output=True)
    assert found.returncode == 0, f'{line}\n{found.stdout[-2000:]}\n{found.stderr[-4000:]}'
  if document == 'README.md':
    results = json.load(open(tmp_path / 'runs' / 'quickstart' / 'results.json'))
    assert results['test_accuracy'] >= .985
    assert results['test_accuracy'] >= results['test_accuracy_before_finetuning']


def test_every_file_that_a_document_names_exists():
  for document in DOCUMENTS:
    text = open(os.path.join(ROOT, document)).read()
    for path in re.findall(r'`((?:vit_jax|configs|tests|docs|scripts|benchmarks)/[\w/.-]*)`', text):
      assert os.path.exists(os.path.join(ROOT, path)), (document, path)


def test_every_module_and_config_has_a_docstring():
  import ast
  for path in glob.glob(os.path.join(ROOT, '**', '*.py'), recursive=True):
    if '.venv' in path or f'{os.sep}notebooks{os.sep}' in path or os.path.getsize(path) == 0:
      continue
    assert ast.get_docstring(ast.parse(open(path).read())), path


def test_the_page_of_config_keys_is_that_of_their_definitions():
  page = runpy.run_path(os.path.join(ROOT, 'scripts', 'config_page.py'))['page']()
  assert open(os.path.join(ROOT, 'docs', 'config.md'), encoding='utf-8').read() == page, (
      'run python scripts/config_page.py docs/config.md')
