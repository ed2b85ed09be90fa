"""What all command lines share: mistakes in one sentence, numbers in their range, `~` for the home."""

import glob
import os
import re

import pytest

from tests.conftest import ROOT
from vit_jax import config, files
from vit_jax.errors import UserError
from vit_jax.flags import Parser, number


@pytest.fixture
def parser():
  flags = Parser(prog='a')
  flags.add_argument('path', nargs='*')
  flags.add_argument('--out')
  flags.add_argument('--count', type=number(1), default=3)
  flags.add_argument('--share', type=number(0, 1, float))
  return flags


def test_every_command_has_these_flags():
  sources = [path for package in ('vit_jax', 'detr_jax')
             for path in glob.glob(os.path.join(ROOT, package, '**', '*.py'), recursive=True)]
  raw = [path for path in sources if 'ArgumentParser' in files.read_text(path)]
  assert [os.path.basename(path) for path in raw] == ['flags.py']
  bare = r'add_argument\([^)]*type=(int|float)\b'  # each number has its range
  assert not [path for path in sources if re.search(bare, files.read_text(path))]


@pytest.mark.parametrize('word, want', [
    ('~', '/h'), ('~/x', '/h/x'), ('a=~/x', 'a=/h/x'), ('f.py:a=~/x,b=~/y', 'f.py:a=/h/x,b=/h/y'),
    ('~/a.json:~/b+~/c.json', '/h/a.json:/h/b+/h/c.json'), ('a~', 'a~'), ('x~/y', 'x~/y'), ('~x', '~x'),
    ('a/~/b', 'a/~/b')])
def test_the_home_stands_for_a_tilde_where_a_path_begins(word, want, monkeypatch):
  monkeypatch.setenv('HOME', '/h')
  assert files.home(word) == want


def test_a_tilde_in_any_flag_or_word(parser, monkeypatch):
  monkeypatch.setenv('HOME', '/h')
  flags = parser.parse_args(['~/a', 'c', '--out=~/b'])
  assert (flags.path, flags.out) == (['/h/a', 'c'], '/h/b')
  assert parser.parse_args(['--out', '~']).out == '/h'


def test_a_tilde_in_any_text_of_a_config(monkeypatch):
  monkeypatch.setenv('HOME', '/h')
  path = os.path.join(ROOT, 'configs', 'deit.py')
  c = config.load(f'{path}:dataset=~/p,distillation=hard,teacher=~/t', {
      'init_from': '~/x.npz', 'data.data_dir': '~', 'task.teacher.name': 'a~'})
  assert (c.data.source, c.task.teacher.init_from, c.init_from) == ('/h/p', '/h/t', '/h/x.npz')
  assert (c.data.data_dir, c.task.teacher.name) == ('/h', 'a~')


@pytest.mark.parametrize('word, said', [
    ('--count=0', '--count=0 must be a whole number, at least 1'),
    ('--count=1.5', '--count=1.5 must be a whole number'), ('--count=many', '--count=many must be'),
    ('--count=nan', '--count=nan must be'), ('--share=nan', '--share=nan must be a number'),
    ('--share=1.5', '--share=1.5 must be a number, at least 0 and at most 1'),
    ('--share=inf', '--share=inf must be'), ('--cuont=3', '--cuont=3'), ('--out', '--out')])
def test_a_mistake_is_one_sentence(parser, word, said):
  with pytest.raises(UserError, match=said) as caught:
    parser.parse_args([word])
  assert '\n' not in str(caught.value)


def test_a_number_is_what_was_written(parser):
  flags = parser.parse_args(['--count=7', '--share=.5'])
  assert (flags.count, flags.share) == (7, .5)
