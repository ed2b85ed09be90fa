"""Errors are one sentence that names the offender and the remedy."""

import pytest

from vit_jax import errors
from vit_jax.errors import UserError


def test_a_near_name_is_suggested():
  assert errors.nearest('vit_b61', ['vit_l16', 'vit_b16', 'swin_t']) == "did you mean 'vit_b16'?"


def test_without_a_near_name_the_options_are_listed_in_order():
  assert errors.nearest('zzz', ['beta', 'alpha']) == 'choose one of: alpha, beta'


def test_a_long_list_of_options_is_cut():
  hint = errors.nearest('zzz', [f'option{i:02d}' for i in range(20)])
  assert 'option11, ...' in hint and 'option12' not in hint


def test_no_options_is_said_too():
  assert errors.nearest('x', []) == 'there is none to choose from'


def test_names_that_are_no_strings_are_compared_as_strings():
  assert errors.nearest(384, [383, 'b']) == "did you mean '383'?"


def test_unknown_names_kind_offender_and_remedy():
  error = errors.unknown('crop', 'centre', ['center', 'squash'])
  assert isinstance(error, UserError)
  assert str(error) == "unknown crop 'centre'; did you mean 'center'?"


def test_a_user_error_becomes_one_line_and_exit_code_2(capsys):
  def main():
    raise UserError('no config\n  file;   try another')
  with pytest.raises(SystemExit) as stopped:
    errors.exit_cleanly('vit_jax', main)
  assert stopped.value.code == 2
  assert capsys.readouterr().err == 'vit_jax: no config file; try another\n'


def test_other_errors_keep_their_traceback():
  def main():
    raise ZeroDivisionError
  with pytest.raises(ZeroDivisionError):
    errors.exit_cleanly('vit_jax', main)


def test_a_command_that_went_well_returns(capsys):
  errors.exit_cleanly('vit_jax', lambda: print('done'))
  assert capsys.readouterr() == ('done\n', '')
