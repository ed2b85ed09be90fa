"""Values of options: types of annotations, intervals of numbers, one sentence for what does not fit."""

from collections.abc import Mapping, Sequence

import pytest
from ml_collections import ConfigDict

from vit_jax import ranges
from vit_jax.errors import UserError

INF, NAN = float('inf'), float('nan')


@pytest.mark.parametrize('text, inside, outside', [
    ('[0, 1]', (0, 1, .5, 1.), (-1e-9, 1.1, NAN, INF, -INF)),
    ('[0, 1)', (0, .999), (1, 1., -1)),
    ('(0, inf)', (1e-9, 3.4e38, 2 ** 31 - 1), (0, -1, INF, 1e39, 2 ** 31)),
    ('(-inf, inf)', (-1e30, 0, 5), (INF, -INF, NAN)),
    ('[0, 4294967295]', (0, 2 ** 32 - 1), (-1, 2 ** 32))])
def test_an_interval_holds_its_numbers(text, inside, outside):
  interval = ranges.Interval(text)
  assert all(number in interval for number in inside)
  assert not any(number in interval for number in outside)


@pytest.mark.parametrize('kind, good, bad', [
    (int, (0, 3), (1.5, True, 'x', None, (), NAN)),
    (float, (0, 3, 1.5), (True, 'x', None, (1.,), NAN, INF, -1)),
    (bool, (True, False), (1, 0, 'true', None)),
    (str, ('', 'x'), (1, None, ('x',))),
    (int | None, (None, 3), ('x', 1.5, -1)),
    (int | tuple[int, int], (3, (3, 4), [3, 4]), ((3,), (3, 4, 5), (3, 1.5), '34', (3, -1))),
    (tuple[int, ...], ((), (1, 2, 3), [1]), (1, (1.5,), 'x', (1, NAN))),
    (Sequence[tuple[str, float]], ((), (('a', .1),), [['a', 1]]),
     (('a', .1), (('a', 'b'),), (('a', -1.),))),
    (str | Sequence[str], ('a', ('a', 'b')), (1, (1,))),
    (Mapping, ({}, ConfigDict()), (1, (), 'x'))])
def test_a_value_is_of_its_annotated_type(kind, good, bad):
  for value in good:
    ranges.check('a.', {'b': value}, {'b': kind}, {})
  for value in bad:
    with pytest.raises(UserError, match=r'^a\.b=.* must be'):
      ranges.check('a.', {'b': value}, {'b': kind}, {})


@pytest.mark.parametrize('value, kind, interval, said', [
    (0, int, '[1, inf)', 'x=0 must be a whole number, at least 1'),
    (10 ** 12, int, '[1, inf)', 'x=1000000000000 must be a whole number, at most 2147483647'),
    (1., float, '[0, 1)', 'x=1.0 must be a number, at least 0 and below 1'),
    (0, float, '(0, 1]', 'x=0 must be a number, above 0 and at most 1'),
    (INF, float, '[0, inf)', 'x=inf must be a number, finite'),
    ('y', int | tuple[int, int], '[1, inf)',
     "x='y' must be a whole number or 2 whole numbers, at least 1"),
    (3, Sequence[tuple[int, int]], '[1, 9]',
     'x=3 must be a list of 2 whole numbers, at least 1 and at most 9'),
    (1, str, '[1, inf)', 'x=1 must be text'), (1, bool, '[1, inf)', 'x=1 must be true or false')])
def test_the_sentence_names_value_type_and_limits(value, kind, interval, said):
  with pytest.raises(UserError) as caught:
    ranges.check('', {'x': value}, {'x': kind}, {'w|x': interval})
  assert str(caught.value) == said


@pytest.mark.parametrize('default, good, bad', [
    (1, 2, 1.5), (1., 2, 'x'), ('', 'x', 1), (True, False, 1), ((0, 0), (1, 2), (1,)),
    ((.5,), (1, 2), ('x',)),
    ((), ('a',), 'a'), ([], [1], 1), (dict(name='x'), dict(name='y', z=1), 'y')])
def test_a_default_tells_the_type(default, good, bad):
  kinds = {'a': ranges.like(default)}
  ranges.check('', {'a': good}, kinds, {})
  with pytest.raises(UserError):
    ranges.check('', {'a': bad}, kinds, {})
