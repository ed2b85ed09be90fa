"""Published names, read both ways."""

import jax
import numpy as np
import pytest

from tests.models import tiny
from vit_jax import trees, weights
from vit_jax.errors import UserError
from vit_jax.weights import formats, npz
from vit_jax.weights.families import google
from vit_jax.weights.table import Row, Table, to_ours, to_theirs

GOOGLE_NAMES = {
    'cls', 'embedding/kernel', 'embedding/bias', 'Transformer/posembed_input/pos_embedding',
    'Transformer/encoder_norm/scale', 'Transformer/encoder_norm/bias', 'head/kernel', 'head/bias',
    *(f'Transformer/encoderblock_{i}/{name}' for i in range(2) for name in (
        'LayerNorm_0/scale', 'LayerNorm_0/bias', 'LayerNorm_2/scale', 'LayerNorm_2/bias',
        'MlpBlock_3/Dense_0/kernel', 'MlpBlock_3/Dense_0/bias', 'MlpBlock_3/Dense_1/kernel',
        'MlpBlock_3/Dense_1/bias', *(f'MultiHeadDotProductAttention_1/{part}/{leaf}' for part in (
            'query', 'key', 'value', 'out') for leaf in ('kernel', 'bias'))))}

SQUARE = (12, 12)
FORMATS = [('google', dict()), ('google', dict(pool='mean')),
           ('google', dict(representation_size=6)),
           ('big_vision', dict(pool='attention')), ('big_vision', dict(class_position=False)),
           ('big_vision', dict(class_position=False, representation_size=6))]


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('name, options', FORMATS)
def test_export_and_import_give_the_same_bits(name, options, scan, tmp_path):
  model = tiny.vit(scan=scan, **options)
  params = tiny.params(model, SQUARE)
  path = str(tmp_path / 'w.npz')
  weights.export(path, model, {'params': params})
  arrays = formats.parameters(npz.read(path))
  table = formats.guess(arrays)
  assert table.name == name
  flat = to_ours(table, arrays)
  again = trees.unflatten(trees.stack(flat) if scan else flat)
  jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parametrize('size', [(8, 12), (8, 16)])  # 7 entries: no square; 9: the wrong square
def test_a_model_that_is_not_square_can_be_exported(size, tmp_path):
  model, path = tiny.vit(), str(tmp_path / 'w.npz')
  params = tiny.params(model, size)
  weights.export(path, model, {'params': params})
  assert set(npz.read(path)) == GOOGLE_NAMES


def test_the_exported_names_are_the_published_ones(tmp_path):
  path = str(tmp_path / 'w.npz')
  weights.export(path, tiny.vit(), tiny.variables(tiny.vit(), SQUARE))
  assert set(npz.read(path)) == GOOGLE_NAMES


@pytest.mark.parametrize('table', (google.GOOGLE, google.BIG_VISION), ids=lambda t: t.name)
def test_names_translate_there_and_back(table):
  ours = trees.flatten(tiny.params(tiny.vit(representation_size=6), SQUARE))
  theirs = to_theirs(table, ours)
  assert len(theirs) == len(ours)
  assert to_ours(table, theirs).keys() == ours.keys()


@pytest.mark.parametrize('prefix', ['', 'params/', 'opt/target/', 'optimizer/target/'])
def test_whole_training_states_hold_the_parameters_below_a_prefix(prefix):
  theirs = to_theirs(google.GOOGLE, trees.flatten(tiny.params(tiny.vit(), SQUARE)))
  arrays = {prefix + name: array for name, array in theirs.items()}
  if prefix:
    arrays['opt/state/step'] = np.zeros(())
  assert formats.parameters(arrays).keys() == theirs.keys()


def test_a_stack_in_a_file_is_read_layer_by_layer():
  stacked = trees.flatten(tiny.params(tiny.vit(scan=True), SQUARE))
  arrays = formats.parameters(to_theirs(google.BIG_VISION, trees.unstack(stacked)))
  scanned = trees.stack(arrays)
  assert any(name.startswith('Transformer/encoderblock/') for name in scanned)
  assert formats.parameters(scanned).keys() == arrays.keys()


def test_unknown_names_are_listed():
  arrays = {'cls': 0, 'strange': 1, 'Transformer/encoderblock_0/Extra_1/kernel': 2}
  with pytest.raises(UserError, match="2 parameter.s. that the format 'google' does not know: "
                                      "Transformer/encoderblock_0/Extra_1/kernel, strange"):
    to_ours(google.GOOGLE, arrays)


def test_files_of_other_models_are_told():
  with pytest.raises(UserError, match='not the parameters of a model that is read .strange/'):
    formats.guess({'strange/kernel': 0, 'words': 1})


def test_a_place_holder_stands_for_one_part_and_dots_for_themselves():
  table = Table('t', (Row('blocks.{i}.norm', 'block_{i}/scale'),), shown_by='')
  assert to_ours(table, {'blocks.11.norm': 1}) == {'block_11/scale': 1}
  for wrong in ('blocksx1.norm', 'blocks.1/2.norm', 'blocks.1.norm.more'):
    with pytest.raises(UserError, match='does not know'):
      to_ours(table, {wrong: 1})


def test_the_first_row_that_fits_counts():
  table = Table('t', (Row('a/b', 'first'), Row('a/{x}', 'second/{x}')), shown_by='')
  assert to_ours(table, {'a/b': 1, 'a/c': 2}) == {'first': 1, 'second/c': 2}
