"""Distillation: what a student learns from its teacher, and that the teacher stays out of the state."""

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from vit_jax import config as config_lib, models, sharding, trees, weights
from vit_jax.training import loop
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD
from vit_jax.tasks.classification import Classification
from vit_jax.tasks.distillation import Distillation, Teacher, divergence

from tests.models import tiny
from tests.training.test_loop import (TINY, assert_bit_equal, assert_same_losses, final_params,
                                      losses, stop_after)

RNG = np.random.default_rng(0)
LOGITS, TAUGHT = (jnp.asarray(RNG.normal(size=(3, 7)), jnp.float32) for _ in range(2))
INFO = Info('digits', tuple('abcde'), 3, tiny.IMAGE)


def test_divergences_have_their_closed_forms():
  hard = -jax.nn.log_softmax(LOGITS)[jnp.arange(3), TAUGHT.argmax(1)]
  np.testing.assert_allclose(divergence(LOGITS, TAUGHT, 'hard'), hard, rtol=1e-6)
  p, q = (np.asarray(jax.nn.softmax(x / 3.), np.float64) for x in (TAUGHT, LOGITS))
  paper = 9. * (p * np.log(p / q)).sum(1)
  np.testing.assert_allclose(divergence(LOGITS, TAUGHT, 'soft', 3., False), paper, rtol=1e-5)
  np.testing.assert_allclose(divergence(LOGITS, TAUGHT, 'soft', 3.), paper / 7., rtol=1e-5)
  assert np.abs(divergence(LOGITS, LOGITS + 5., 'soft', 2.)).max() < 1e-6


def student(teacher, **overrides):
  """Returns the config of a student with two heads, at another image size than its teacher."""
  config = config_lib.load(f'{TINY}:resolution=24,steps=20')
  with config.unlocked():
    config.model.update(name='deit_ti16_distilled', fusion='softmax')
    config.task = ConfigDict(dict(name='vit_jax.tasks.distillation.Distillation', loss='softmax',
                                  label_smoothing=.1, kind='hard', alpha=.5, tau=1., head='distillation',
                                  teacher=dict(init_from=teacher)))
    config.data.mean, config.data.std, config.mesh.data = (.1,), (.3,), 1
    for key, value in overrides.items():
      config_lib.override(config, key, str(value))
  return config


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
  """Returns the workdir of a teacher that knows some digits."""
  workdir = str(tmp_path_factory.mktemp('teacher'))
  loop.train(config_lib.load(f'{TINY}:steps=60', {'mesh.data': '1', 'checkpoint.every': '0'}), workdir)
  return workdir


@pytest.fixture(scope='module')
def whole(teacher, tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('student'))
  return workdir, loop.train(student(teacher), workdir)


def test_a_student_learns_and_both_heads_are_measured(whole):
  workdir, results = whole
  found = list(losses(workdir).values())
  assert np.isfinite(found).all() and np.mean(found[-4:]) < .95 * found[0]
  assert {'test_accuracy', 'test_class_accuracy', 'test_distillation_accuracy'} <= set(results)


def test_the_teacher_is_no_part_of_the_run(whole, teacher):
  params = final_params(whole[0])
  model = weights.run_model(weights.origin(whole[0]))
  assert set(params) == set(trees.unstack(weights.flatten(weights.variable_shapes(model, (24, 24), 1))))
  assert whole[1]['parameters'] == sum(p.size for p in params.values())
  assert len(jax.tree.leaves(weights.load(whole[0], verbose=False).state)) == 0


def test_a_student_goes_on_bit_for_bit(whole, teacher, tmp_path):
  stop_after(student(teacher), str(tmp_path), 6)
  assert loop.train(student(teacher), str(tmp_path))['finished']
  assert_bit_equal(final_params(whole[0]), final_params(tmp_path))


def test_another_teacher_is_refused(whole, teacher, monkeypatch):
  load = Teacher.load
  monkeypatch.setattr(Teacher, 'load', lambda self, *args: jax.tree.map(
      lambda x: x + 1e-6, load(self, *args)))
  with pytest.raises(UserError, match=r'began with another teacher \(fingerprint .{8}, now .{8}\)'):
    loop.train(student(teacher), whole[0])


def test_a_mesh_and_parts_of_the_batch_give_the_same_losses(whole, teacher, tmp_path):
  config = student(teacher, accumulate=2, **{'mesh.data': 2, 'mesh.fsdp': 2})
  loop.train(config, str(tmp_path))
  assert_same_losses(losses(whole[0]), losses(tmp_path))


def test_a_teacher_sees_images_as_it_wants_them_and_lies_on_the_mesh(tmp_path):
  """A published file, of a network whose batch norm must not see the student's batch."""
  path, fields = str(tmp_path / 'teacher.safetensors'), dict(width=8, depths=(1, 1))
  model = models.create_model('resnet18', num_classes=5, **fields)
  variables = tiny.variables(model, (16, 16))
  weights.export(path, model, variables, 'timm')
  mesh = sharding.make_mesh(2, 4, 1)
  images = jnp.asarray(RNG.uniform(size=(2, 24, 24, 3)), jnp.float32)
  with jax.set_mesh(mesh):
    own = Teacher(path, 'resnet18', (16, 16), **fields)
    loaded = own.load(INFO, mesh)
    got = tiny.jit(own)(loaded, images)
  resized = jax.image.resize(images, (2, 16, 16, 3), 'bilinear')
  want = tiny.apply(model, variables, (resized - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD))
  np.testing.assert_allclose(got, want, atol=1e-4)
  assert loaded['params']['conv_root']['kernel'].sharding.spec == jax.P(None, None, None, 'fsdp')
  assert trees.fingerprint(loaded) == trees.fingerprint(variables)


def built(name='deit_ti16_distilled', info=INFO, **task):
  fields = dict(width=16, depth=1, num_heads=2, mlp_dim=24, patch_size=4)
  return Distillation.from_config(ConfigDict(dict(
      model=dict(name=name, **fields), data=dict(augment=[]),
      task=dict(name='', **{'teacher': dict(init_from='somewhere'), **task}))), info)


def test_a_student_without_a_distillation_head_learns_with_its_own():
  """Its loss is linear in alpha: without a share for the teacher it is that of the labels."""
  task = built('deit_ti16', head='class')
  params = tiny.params(task.model)
  batch = dict(image=jnp.zeros((2, *tiny.IMAGE, 3), jnp.uint8), label=jnp.asarray([3, 0]),
               mask=jnp.ones(2))
  augmented = {**task.augment(batch, jax.random.key(0)), 'teacher': TAUGHT[:2, :5]}
  value = lambda task: task.loss(params, {}, augmented, jax.random.key(1))[0]
  labels, mixed, taught = (float(value(dataclasses.replace(task, alpha=a))) for a in (0., .3, 1.))
  assert labels == pytest.approx(float(value(Classification(task.model, INFO))), rel=1e-6)
  assert mixed == pytest.approx(.7 * labels + .3 * taught, rel=1e-5)
  logits = task.predict(params, {}, batch)
  assert taught == pytest.approx(float(divergence(logits, TAUGHT[:2, :5]).mean()), rel=1e-4)


@pytest.mark.parametrize('change, says', [
    (dict(alpha=1.5), r'task.alpha=1.5.* 0 to 1'), (dict(alpha=-.1), 'task.alpha=-0.1'),
    (dict(tau=0.), 'task.tau=0.0'), (dict(kind='softt'), "unknown kind of distillation 'softt'.*'soft'"),
    (dict(name='deit_ti16'), 'no distillation head.* task.head=class.* deit_s16_distilled'),
    (dict(head='class'), 'two heads.*task.head=distillation'), (dict(head='hed'), "unknown head 'hed'"),
    (dict(teacher={}), 'needs a teacher: set task.teacher.init_from'), (dict(taus=1.), "'tau'"),
    (dict(info=dataclasses.replace(INFO, multi_label=True), loss='sigmoid'), 'several labels')])
def test_what_does_not_fit_is_named_before_training(change, says):
  with pytest.raises(UserError, match=says):
    built(**change)


def test_a_teacher_that_does_not_fit_is_named_before_training(teacher, tmp_path):
  info, mesh = Info.load(teacher), sharding.make_mesh(1)
  other_order = dataclasses.replace(info, classes=info.classes[::-1])
  headless, fields = str(tmp_path / 'headless.npz'), dict(width=16, depth=1, num_heads=2, mlp_dim=24)
  model = tiny.vit(num_classes=None, depth=1, patch_size=16)
  weights.export(headless, model, tiny.variables(model, (32, 32), 1))
  for made, facts, says in [
      (Teacher('nowhere'), info, "the teacher: no weights at 'nowhere'"),
      (Teacher(teacher), INFO, 'knows 10 classes, the data .* has 5; train one'),
      (Teacher(teacher), other_order, "class 0 .* is '0'.* '9'"),
      (Teacher(teacher, wdith=3), info, 'the teacher: unknown field .*width'),
      (Teacher(headless, 'vit_ti16', **fields), info, 'does not classify .*no head')]:
    with pytest.raises(UserError, match=says):
      made.load(facts, mesh)
