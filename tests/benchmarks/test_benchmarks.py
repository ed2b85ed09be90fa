"""The pure parts of the benchmarks; nothing here takes a time."""

import numpy as np
import pytest

import vit_jax
from benchmarks import flops, vit_cpu


@pytest.mark.parametrize('name, size, giga_products', [
    ('vit_b16', 224, 17.56), ('vit_l16', 384, 191.1), ('vit_h14', 224, 167.3)])
def test_operations_are_those_known(name, size, giga_products):
  found = flops.forward(vit_jax.create_model(name), (size, size))
  assert found / 2e9 == pytest.approx(giga_products, rel=2e-3)


def test_a_train_step_is_three_forward_passes():
  model = vit_jax.create_model('vit_ti16')
  assert flops.train(model, (224, 160)) == 3. * flops.forward(model, (224, 160))


def test_one_wrong_gradient_shows():
  rng = np.random.default_rng(0)
  theirs = {k: rng.normal(size=(4, 5)) for k in ('a/query/bias', 'a/key/bias', 'head/kernel')}
  theirs['a/key/bias'] *= 1e-9
  ours = {k: v.copy() for k, v in theirs.items()}
  ours['a/key/bias'] *= -1.
  assert vit_cpu.train_error(ours, theirs) < 1e-8
  ours['head/kernel'][0, 0] += 1.
  assert vit_cpu.train_error(ours, theirs) > .1
