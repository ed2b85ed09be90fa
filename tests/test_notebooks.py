"""The notebooks and their plain twins say the same; `make notebooks` runs them from top to bottom."""

import ast
import glob
import json
import os
import re
import sys

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted(glob.glob(os.path.join(ROOT, 'notebooks', '*.ipynb')))
names = lambda path: os.path.basename(path)


def cells_of_notebook(path: str) -> list[tuple[str, str]]:
  """Returns (kind, text) of the cells of an .ipynb file."""
  with open(path) as file:
    notebook = json.load(file)
  return [(cell['cell_type'], ''.join(cell['source'])) for cell in notebook['cells']]


def cells_of_script(path: str) -> list[tuple[str, str]]:
  """Returns (kind, text) of the cells of a .py file in jupytext's percent format."""
  with open(path) as file:
    text = file.read()
  found = []
  for marker, body in re.findall(r'^# %%(.*)\n((?:(?!# %%).*\n?)*)', text, re.MULTILINE):
    lines = body.strip('\n').split('\n')
    if 'markdown' in marker:
      found.append(('markdown', '\n'.join(re.sub('^# ?', '', line) for line in lines)))
    else:
      found.append(('code', '\n'.join(re.sub('^# (?=%)', '', line) for line in lines)))
  return found


def test_there_are_four():
  assert [names(path) for path in NOTEBOOKS] == [
      'detr_tour.ipynb', 'finetune_your_images.ipynb', 'segmenter_tour.ipynb', 'vit_tour.ipynb']


@pytest.mark.parametrize('path', NOTEBOOKS, ids=names)
def test_a_notebook_and_its_script_agree(path):
  """After an edit: jupytext --sync notebooks/*.py, and clear the outputs."""
  assert cells_of_notebook(path) == cells_of_script(path.replace('.ipynb', '.py'))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=names)
def test_a_notebook_holds_no_outputs(path):
  with open(path) as file:
    notebook = json.load(file)
  for cell in notebook['cells']:
    assert not cell.get('outputs') and cell.get('execution_count') is None
  assert os.path.getsize(path) < 40_000


@pytest.mark.parametrize('path', NOTEBOOKS, ids=names)
def test_a_notebook_opens_in_colab_and_installs_there_alone(path, monkeypatch):
  """The badge names this very file; the first code cell does nothing where Colab is not."""
  cells = cells_of_notebook(path)
  badge = re.search(r'\(https://colab\.[\w.]+/github/(.+?)/blob/main/(.+?)\)', cells[0][1])
  assert os.path.join(ROOT, badge[2]) == path
  first = next(text for kind, text in cells if kind == 'code')
  assert f'github.com/{badge[1]} ' in first

  def refuse(*_, **__):
    raise AssertionError('the first cell does something')

  monkeypatch.setattr('subprocess.run', refuse)
  monkeypatch.setattr('os.chdir', refuse)
  assert 'google.colab' not in sys.modules
  exec(compile(first, path, 'exec'), {})
  monkeypatch.setitem(sys.modules, 'google.colab', os)
  with pytest.raises(AssertionError, match='does something'):
    exec(compile(first, path, 'exec'), {})


@pytest.mark.parametrize('path', NOTEBOOKS, ids=names)
def test_a_notebook_says_which_cell_to_change(path):
  """The heading that the introduction names stands above a cell that begins with the choice."""
  cells = cells_of_notebook(path)
  heading = re.search(r'change the\s+cell\s+"(.+?)"', cells[0][1].replace('\n', ' '))[1]
  place = next(i for i, (_, text) in enumerate(cells) if text.startswith(f'## {heading}\n'))
  kind, text = cells[place + 1]
  assignment = ast.parse(text).body[0]
  assert kind == 'code' and isinstance(assignment, ast.Assign) and assignment.value.value == ''


def test_the_checkpoints_that_notebooks_name_are_in_the_list():
  from detr_jax import models as detectors, pretrained as detector_files
  from vit_jax import models, pretrained
  known = {*pretrained.list_pretrained(), *detector_files.list_pretrained()}
  for path in NOTEBOOKS:
    text = '\n'.join(text for _, text in cells_of_notebook(path))
    found = [name for name in re.findall(r"['`](\w+\.\w+)['`]", text)
             if name.partition('.')[0] in {**models.variants(), **detectors.variants()}]
    assert found and all(name in known for name in found)


SCRIPT = '''# ---
# jupyter: here
# ---

# %% [markdown]
# # Title
#
# text

# %%
# %magic
x = 1

y = 2
'''


def test_the_reader_of_scripts_sees_cells(tmp_path):
  path = tmp_path / 'x.py'
  path.write_text(SCRIPT)
  assert cells_of_script(str(path)) == [
      ('markdown', '# Title\n\ntext'), ('code', '%magic\nx = 1\n\ny = 2')]
