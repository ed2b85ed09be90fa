"""The loop: what is killed, stopped, moved or split ends where an undisturbed run ends."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from vit_jax.training import evaluate, loop
from vit_jax.weights import runs
from vit_jax import config as config_lib
from vit_jax.errors import UserError

from tests.conftest import ROOT

TINY = os.path.join(ROOT, 'tests', 'configs', 'tiny.py')


def tiny(arguments='', **overrides):
  return config_lib.load(f'{TINY}:{arguments}', {k: str(v) for k, v in overrides.items()})


def losses(workdir):
  with open(os.path.join(workdir, 'metrics.jsonl')) as file:
    lines = [json.loads(line) for line in file]
  return {line['step']: line['train/loss'] for line in lines if 'train/loss' in line}


def final_params(workdir):
  return runs.read_params(runs.find(workdir)[1])


def assert_bit_equal(a, b):
  assert set(a) == set(b)
  for path in a:
    assert np.array_equal(a[path], b[path]), path


def assert_same_losses(a, b, atol=2e-5):
  assert set(a) == set(b)
  for step in a:
    assert abs(a[step] - b[step]) < atol, (step, a[step], b[step])


def command(workdir, arguments='', *flags):
  return [sys.executable, '-m', 'vit_jax.main', f'--config={TINY}:{arguments}',
          f'--workdir={workdir}', *flags]


def start(*args, **kwargs):
  return subprocess.Popen(command(*args), cwd=ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **kwargs)


def wait_for_step(workdir, step, process):
  path = os.path.join(workdir, 'metrics.jsonl')
  while process.poll() is None:
    if os.path.exists(path) and f'"step": {step},' in open(path).read():
      return
    time.sleep(.02)
  raise AssertionError(process.stdout.read())


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('undisturbed'))
  results = loop.train(tiny(**{'mesh.data': 1}), workdir)
  return workdir, results


def test_results_say_what_was_reached(undisturbed):
  workdir, results = undisturbed
  assert results['test_examples'] == 355 and results['steps'] == 12 and results['finished']
  assert 0. <= results['test_accuracy'] <= 1.
  assert json.load(open(os.path.join(workdir, 'results.json'))) == results


@pytest.mark.parametrize('mesh', [(8, 1, 1), (1, 8, 1), (1, 1, 4), (2, 2, 2), (4, 1, 2), (1, 4, 2)])
def test_every_mesh_gives_the_losses_of_one_device(mesh, undisturbed, tmp_path):
  sizes = dict(zip(('mesh.data', 'mesh.fsdp', 'mesh.model'), mesh))
  results = loop.train(tiny(**sizes), str(tmp_path))
  assert_same_losses(losses(undisturbed[0]), losses(tmp_path))
  assert results['test_examples'] == 355
  assert results['test_loss'] == pytest.approx(undisturbed[1]['test_loss'], abs=1e-4)


@pytest.fixture(scope='module')
def continued(tmp_path_factory):
  """Returns a workdir, and the losses of a run that starts from its parameters."""
  first, plain = (str(tmp_path_factory.mktemp(name)) for name in ('first', 'plain'))
  loop.train(tiny(**{'mesh.data': 1, 'total_steps': 3}), first)
  loop.train(tiny(init_from=first, **{'mesh.data': 1}), plain)
  return first, losses(plain)


@pytest.mark.parametrize('change', [dict(accumulate=4), dict(arguments='scan'),
                                    dict(arguments='remat=full'),
                                    dict(arguments='scan,remat=dots')])
def test_accumulation_scan_and_remat_change_no_loss(change, continued, tmp_path):
  # The layers of a stack draw other initial numbers, so a scanned run starts from the unrolled one.
  first, want = continued
  loop.train(tiny(init_from=first, **{'mesh.data': 1}, **change), str(tmp_path))
  assert_same_losses(want, losses(tmp_path))


def test_accumulation_is_exact_on_many_devices(undisturbed, tmp_path):
  loop.train(tiny(accumulate=2, **{'mesh.data': 4, 'mesh.fsdp': 2}), str(tmp_path))
  assert_same_losses(losses(undisturbed[0]), losses(tmp_path))


@pytest.mark.slow
def test_a_killed_run_ends_bit_identical(tmp_path):
  whole, killed = str(tmp_path / 'whole'), str(tmp_path / 'killed')
  flags = ['--cpu_devices=2']
  arguments = 'steps=40'
  process = start(whole, arguments, *flags)
  assert process.wait() == 0, process.stdout.read()
  chooser = random.Random(os.urandom(8))
  for _ in range(2):
    step = chooser.randrange(3, 34)
    process = start(killed, arguments, *flags)
    try:
      wait_for_step(killed, step, process)
    except AssertionError:
      assert process.returncode == 0  # resumed beyond that step already, and finished
      continue
    process.send_signal(signal.SIGKILL)
    process.wait()
  process = start(killed, arguments, *flags)
  assert process.wait() == 0, process.stdout.read()
  assert_bit_equal(final_params(whole), final_params(killed))


@pytest.mark.slow
def test_sigterm_saves_and_stops_with_exit_code_0(tmp_path):
  workdir = str(tmp_path / 'run')
  process = start(workdir, 'steps=4000', '--config.checkpoint.every=0')
  wait_for_step(workdir, 5, process)
  process.send_signal(signal.SIGTERM)
  output = process.stdout.read()
  assert process.wait() == 0, output
  assert 'the same command continues' in output
  step = int(os.path.basename(runs.find(workdir)[1]))
  assert step >= 5 and not json.load(open(os.path.join(workdir, 'results.json')))['finished']
  steps = sorted(losses(workdir))
  assert steps == list(range(1, step + 1))


def free_port():
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def start_two(workdir, arguments, *flags):
  port = free_port()
  return [start(workdir, arguments, '--cpu_devices=4', f'--distributed=localhost:{port},2,{i}',
                *flags) for i in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize('mesh', [(8, 1, 1), (2, 2, 2), (1, 1, 8)])
def test_two_processes_give_the_losses_of_one(mesh, undisturbed, tmp_path):
  flags = [f'--config.mesh.{n}={s}' for n, s in zip(('data', 'fsdp', 'model'), mesh)]
  processes = start_two(tmp_path, '', *flags)
  outputs = [p.communicate()[0] for p in processes]
  assert [p.returncode for p in processes] == [0, 0], outputs
  assert_same_losses(losses(undisturbed[0]), losses(tmp_path))
  results = json.load(open(tmp_path / 'results.json'))
  assert results['test_examples'] == 355
  assert results['test_loss'] == pytest.approx(undisturbed[1]['test_loss'], abs=1e-4)


@pytest.mark.slow
def test_two_processes_see_the_pixels_of_one_however_augmented(tmp_path):
  ops = ("[{'name': 'flip'}, {'name': 'randaugment', 'flavor': 'pil', 'layers': 1}, "
         "{'name': 'random_erasing', 'probability': .5}, {'name': 'mixup_cutmix'}]")
  arguments = 'steps=3,channels=3'
  loop.train(tiny(arguments, **{'data.augment': ops, 'mesh.data': 1}), str(tmp_path / 'one'))
  processes = start_two(tmp_path / 'two', arguments, f'--config.data.augment={ops}')
  outputs = [p.communicate()[0] for p in processes]
  assert [p.returncode for p in processes] == [0, 0], outputs
  assert_same_losses(losses(tmp_path / 'one'), losses(tmp_path / 'two'))


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both_at_one_step(tmp_path):
  processes = start_two(tmp_path, 'steps=4000', '--config.checkpoint.every=0')
  wait_for_step(tmp_path, 5, processes[0])
  processes[1].send_signal(signal.SIGTERM)
  outputs = [p.communicate()[0] for p in processes]
  assert [p.returncode for p in processes] == [0, 0], outputs
  step = int(os.path.basename(runs.find(str(tmp_path))[1]))
  assert sorted(losses(tmp_path)) == list(range(1, step + 1))


def test_a_checkpoint_continues_on_another_mesh(undisturbed, tmp_path):
  workdir = str(tmp_path)
  stopped = tiny(**{'mesh.data': 8})
  stop_after(stopped, workdir, 6)
  results = loop.train(tiny(**{'mesh.data': 1, 'mesh.fsdp': 2, 'mesh.model': 2}), workdir)
  assert results['finished']
  assert_same_losses(losses(undisturbed[0]), losses(workdir))


def stop_after(config, workdir, step):
  """Trains until `step` as if SIGTERM had come there."""
  from vit_jax.training.run import Run
  original = Run.stopping
  Run.stopping = lambda self, now: now >= step
  try:
    assert not loop.train(config, workdir)['finished']
  finally:
    Run.stopping = original


def test_a_damaged_newest_checkpoint_falls_back_and_says_so(undisturbed, tmp_path, capfd):
  workdir = str(tmp_path)
  stop_after(tiny(**{'mesh.data': 1}), workdir, 8)
  for folder, _, files in os.walk(os.path.join(runs.checkpoint_folder(workdir), '8')):
    for name in files:
      with open(os.path.join(folder, name), 'r+b') as file:
        file.truncate(3)
  loop.train(tiny(**{'mesh.data': 1}), workdir)
  said = capfd.readouterr()
  assert 'checkpoint 8 is damaged' in said.err and 'resumed from step 4' in said.out
  assert_bit_equal(final_params(undisturbed[0]), final_params(workdir))


def test_the_best_checkpoint_stays(tmp_path):
  config = tiny('steps=20', **{'mesh.data': 1, 'checkpoint.every': 2, 'evaluate.every': 2,
                               'checkpoint.keep': 1})
  loop.train(config, str(tmp_path))
  lines = [json.loads(line) for line in open(tmp_path / 'metrics.jsonl')]
  accuracy = {line['step']: line['test/accuracy'] for line in lines if 'test/accuracy' in line}
  kept = {int(s) for s in os.listdir(tmp_path / 'checkpoints') if s.isdigit()}
  assert 20 in kept and len(kept) <= 2
  assert max(accuracy[s] for s in kept) == max(accuracy.values())


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
  config = tiny(**{'mesh.data': 1, 'schedule.peak': 1e30, 'schedule.warmup_steps': 0,
                   'optimizer.clip_norm': 0., 'checkpoint.every': 1})
  with pytest.raises(UserError, match='of step [0-9]+ is (nan|inf)'):
    loop.train(config, str(tmp_path))
  for values in final_params(str(tmp_path)).values():
    assert np.isfinite(values).all()


def test_frozen_parameters_stay_and_others_move(tmp_path):
  config = tiny(**{'mesh.data': 1, 'optimizer.freeze': "('embedding/.*', 'Transformer/.*')",
                   'checkpoint.every': 1, 'checkpoint.keep': 99, 'checkpoint.best': False,
                   'total_steps': 3})
  loop.train(config, str(tmp_path))
  folder = runs.checkpoint_folder(str(tmp_path))
  first, last = (runs.read_params(os.path.join(folder, s)) for s in ('1', '3'))
  for path in first:
    moved = not np.array_equal(first[path], last[path])
    assert moved == (not path.startswith(('embedding/', 'Transformer/'))), path


def test_the_average_is_saved_and_evaluated(tmp_path):
  config = tiny(ema_decay=.5, **{'mesh.data': 1, 'total_steps': 3, 'log.every': 1})
  results = loop.train(config, str(tmp_path / 'average'))
  evaluated = evaluate.evaluate(tiny(init_from=str(tmp_path / 'average'), **{'mesh.data': 2}))
  assert evaluated['test/loss'] == pytest.approx(results['test_loss'], abs=1e-5)
  plain = loop.train(tiny(**{'mesh.data': 1, 'total_steps': 3}), str(tmp_path / 'plain'))
  assert abs(plain['test_loss'] - results['test_loss']) > 1e-6


def test_a_profile_of_chosen_steps_is_written(tmp_path):
  loop.train(tiny(**{'mesh.data': 1, 'total_steps': 4, 'log.profile': '(1, 3)'}), str(tmp_path))
  assert any(name.endswith('.xplane.pb') for _, _, names in os.walk(tmp_path / 'profile')
             for name in names)


@pytest.mark.parametrize('arguments', ['resolution=24', 'resolution=16x32', 'channels=3'])
def test_a_checkpoint_moves_to_another_size_or_number_of_channels(
    arguments, undisturbed, tmp_path, capfd):
  config = tiny(arguments, init_from=undisturbed[0], **{'mesh.data': 1, 'total_steps': 1,
                                                       'schedule.warmup_steps': 0})
  loop.train(config, str(tmp_path))
  said = capfd.readouterr().out
  assert 'resampled: ' in said and 'reinitialised' not in said


def test_resuming_goes_before_init_from(undisturbed, tmp_path, capfd):
  workdir = str(tmp_path)
  stop_after(tiny(**{'mesh.data': 1}), workdir, 6)
  loop.train(tiny(init_from=undisturbed[0], **{'mesh.data': 1}), workdir)
  assert 'resumed from step 6' in capfd.readouterr().out
  assert_bit_equal(final_params(undisturbed[0]), final_params(workdir))


def test_memory_and_rate_are_on_the_progress_line(tmp_path, capfd):
  loop.train(tiny(**{'mesh.data': 1, 'total_steps': 2, 'schedule.warmup_steps': 0}),
              str(tmp_path))
  line = next(x for x in capfd.readouterr().out.splitlines() if x.startswith('step 2/2'))
  assert all(part in line for part in ('images/s', 'ETA', 'memory', 'loss', 'learning_rate'))


def test_no_array_of_a_sharded_run_lies_whole_on_a_device(tmp_path):
  from vit_jax import sharding
  from vit_jax.training import step
  config = tiny(**{'mesh.data': 1, 'mesh.fsdp': 8})
  mesh = sharding.make_mesh(**config.mesh)
  with jax.set_mesh(mesh):
    data, task, optimizer, *_ = loop.plan(config, mesh)
    state, *_ = step.create_state(task, optimizer, data.example, mesh, task.family.rules, 0, ema=False)
  kernel = state.params['Transformer']['encoderblock_0']['MlpBlock_0']['Dense_0']['kernel']
  moment = jax.tree.leaves(state.opt_state)
  assert kernel.addressable_shards[0].data.size * 8 == kernel.size
  assert any(m.shape == kernel.shape and m.addressable_shards[0].data.size * 8 == m.size
             for m in moment)


def evaluations(workdir, name='test/accuracy'):
  """Returns {step: measure} of the log."""
  with open(os.path.join(workdir, 'metrics.jsonl')) as file:
    return {line['step']: line[name] for line in map(json.loads, file) if name in line}


def steps_kept(workdir):
  return sorted(int(s) for s in os.listdir(os.path.join(workdir, 'checkpoints')) if s.isdigit())


def test_measures_belong_to_the_step_they_were_measured_at(tmp_path):
  # Evaluations and checkpoints fall on different steps; the best evaluation is saved all the same.
  results = loop.train(tiny(**{'mesh.data': 1, 'evaluate.every': 5, 'checkpoint.every': 3,
                                'checkpoint.keep': 99}), str(tmp_path))
  measured = evaluations(tmp_path)
  assert sorted(measured) == [5, 10, 12]
  folder = runs.checkpoint_folder(str(tmp_path))
  saved = {step: runs.metrics(os.path.join(folder, str(step))) for step in steps_kept(tmp_path)}
  assert {3, 6, 9, 12} <= set(saved)
  for step, values in saved.items():
    assert ('test/accuracy' in values) == (step in measured), step
    if step in measured:
      assert values['test/accuracy'] == pytest.approx(measured[step])
  best = max(measured, key=lambda step: (measured[step], step))
  assert results['best_step'] == best and results['best_test_accuracy'] == pytest.approx(measured[best])
  assert runs.find(f'{tmp_path}@best')[1] == os.path.join(folder, str(best))
  found = evaluate.evaluate(tiny(init_from=f'{tmp_path}@best', **{'mesh.data': 1}))
  assert found['test/accuracy'] == pytest.approx(measured[best])


def test_the_best_step_of_a_run_survives_a_restart(tmp_path):
  options = {'mesh.data': 1, 'evaluate.every': 2, 'checkpoint.every': 2, 'checkpoint.keep': 1}
  whole, workdir = str(tmp_path / 'whole'), str(tmp_path / 'run')
  want = loop.train(tiny('steps=20', **options), whole)
  stop_after(tiny('steps=20', **options), workdir, 11)
  got = loop.train(tiny('steps=20', **options), workdir)
  assert steps_kept(workdir) == steps_kept(whole)
  assert {k: got[k] for k in ('best_step', 'best_test_accuracy')} == {
      k: want[k] for k in ('best_step', 'best_test_accuracy')}


def test_a_run_without_progress_stops_early_and_stays_stopped(tmp_path, capfd):
  # A rate of nothing: no evaluation is better than the first.
  config = tiny('steps=40', **{'mesh.data': 1, 'evaluate.every': 2, 'evaluate.patience': 3,
                               'schedule.peak': 1e-12, 'evaluate.measure': 'validation/loss',
                               'data.validation': 'train[:64]', 'checkpoint.every': 0})
  results = loop.train(config, str(tmp_path))
  assert results['finished'] and results['stopped_early'] and results['steps'] < 40
  measured = evaluations(tmp_path, 'validation/loss')
  best = min(measured, key=lambda step: (measured[step], step))
  assert results['steps'] == best + 6 and measured[results['best_step']] == measured[best]
  assert results['best_validation_loss'] == pytest.approx(measured[best])
  assert 'has not become better for 3 evaluations' in capfd.readouterr().out
  again = loop.train(config, str(tmp_path))
  assert again['steps'] == results['steps'] and again['test_accuracy'] == results['test_accuracy']
  assert max(losses(tmp_path)) == results['steps']


def test_choices_are_made_on_the_validation_split(tmp_path):
  config = tiny(**{'mesh.data': 1, 'data.train': 'train[:90%]', 'data.validation': 'train[90%:]',
                   'evaluate.every': 4, 'evaluate.splits': "('validation',)"})
  results = loop.train(config, str(tmp_path))
  assert 'best_validation_accuracy' in results and 'test_accuracy' in results
  assert sorted(evaluations(tmp_path, 'validation/accuracy')) == [4, 8, 12]
  assert sorted(evaluations(tmp_path)) == [12]  # the test split is scored once, at the end
  assert results['validation_examples'] + 1298 == 1442 and results['test_examples'] == 355


def test_intervals_may_be_told_in_epochs(tmp_path):
  config = tiny('steps=20', **{
      'mesh.data': 1, 'data.train': 'train[:160]', 'evaluate.every_epochs': 1., 'checkpoint.every': 0,
      'checkpoint.every_epochs': 2., 'checkpoint.keep': 99, 'checkpoint.best': False})
  loop.train(config, str(tmp_path))
  assert sorted(evaluations(tmp_path)) == [5, 10, 15, 20] and steps_kept(tmp_path) == [10, 20]


@pytest.mark.parametrize('wrong, sentence', [
    ({'evaluate.patience': 2}, 'evaluate.patience=2 counts evaluations'),
    ({'evaluate.every': 2, 'evaluate.every_epochs': 1.}, 'evaluate.every_epochs'),
    ({'evaluate.splits': "('val',)"}, "unknown split in evaluate.splits: 'val'")])
def test_an_evaluation_that_cannot_be_is_refused_before_the_workdir_is_made(wrong, sentence, tmp_path):
  with pytest.raises(UserError, match=sentence):
    loop.train(tiny(**{'mesh.data': 1, **wrong}), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_a_measure_that_is_not_there_is_told_and_what_was_learnt_is_kept(tmp_path):
  with pytest.raises(UserError, match="evaluate.measure='test/f1' is no measure .*test/accuracy"):
    loop.train(tiny(**{'mesh.data': 1, 'evaluate.every': 2, 'evaluate.measure': 'test/f1'}),
                str(tmp_path))
  assert steps_kept(tmp_path) == [2]


def test_a_restore_makes_no_second_state(undisturbed, tmp_path, monkeypatch):
  from vit_jax.training import step as step_lib
  workdir = str(tmp_path)
  stop_after(tiny(**{'mesh.data': 1}), workdir, 6)
  original = step_lib.plan_state

  def without(*args, **kwargs):
    shapes, _, *rest = original(*args, **kwargs)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(shapes))
    return shapes, lambda: pytest.fail('a fresh state was made'), *rest
  monkeypatch.setattr(step_lib, 'plan_state', without)
  loop.train(tiny(**{'mesh.data': 1}), workdir)
  assert_bit_equal(final_params(undisturbed[0]), final_params(workdir))


def test_an_evaluation_alone_makes_no_optimizer_slots(undisturbed, monkeypatch):
  from vit_jax.training import step as step_lib
  made, original = [], step_lib.create_state

  def noted(*args, **kwargs):
    made.append(original(*args, **kwargs)[0])
    return made[0], None, []
  monkeypatch.setattr(step_lib, 'create_state', noted)
  evaluate.evaluate(tiny(init_from=undisturbed[0], **{'mesh.data': 1}))
  assert not jax.tree.leaves(made[0].opt_state)


def test_an_error_of_any_kind_keeps_what_was_learnt(tmp_path, monkeypatch):
  from vit_jax.training.run import Run

  def fail(self, step):
    if step == 5:
      raise OSError('the network file system is gone')
    return False
  with monkeypatch.context() as patch:
    patch.setattr(Run, 'stopping', fail)
    with pytest.raises(OSError, match='is gone'):
      loop.train(tiny(**{'mesh.data': 1, 'checkpoint.every': 0}), str(tmp_path))
  assert steps_kept(tmp_path) == [5]
  assert loop.train(tiny(**{'mesh.data': 1, 'checkpoint.every': 0}), str(tmp_path))['finished']


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_every_stop_signal_saves(number, tmp_path):
  workdir = str(tmp_path / 'run')
  process = start(workdir, 'steps=4000', '--config.checkpoint.every=0')
  wait_for_step(workdir, 5, process)
  process.send_signal(number)
  output = process.stdout.read()
  assert process.wait() == 0, output
  assert 'the same command continues' in output and 'Traceback' not in output
  assert len(steps_kept(workdir)) == 1


SLOW = '''
import sys, time
from vit_jax import errors, main
from vit_jax.training import run
def wait(self, *args):
  print('saving', flush=True)
  time.sleep(600)
run.Run.save = wait
errors.exit_cleanly("vit_jax", main.main)
'''


@pytest.mark.slow
def test_the_second_signal_stops_at_once(tmp_path):
  words = command(str(tmp_path), 'steps=4000', '--config.checkpoint.every=0')[3:]
  process = subprocess.Popen([sys.executable, '-c', SLOW, *words], cwd=ROOT, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
  wait_for_step(str(tmp_path), 5, process)
  process.send_signal(signal.SIGINT)
  while 'saving' not in process.stdout.readline():
    assert process.poll() is None
  process.send_signal(signal.SIGINT)
  assert process.wait(timeout=60) == 128 + signal.SIGINT


def test_the_handlers_of_signals_are_given_back(tmp_path):
  before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)]
  loop.train(tiny(**{'mesh.data': 1, 'total_steps': 1, 'schedule.warmup_steps': 0}), str(tmp_path))
  assert before == [signal.getsignal(n)
                    for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)]


def test_the_average_is_evaluated_with_averaged_statistics(tmp_path):
  # 66 % are right; 17 % with the statistics of the last parameters, 47 % without an average.
  config = tiny(**{'mesh.data': 1, 'total_steps': 80, 'ema_decay': .95, 'ema_warmup': False,
                   'checkpoint.every': 0, 'log.every': 0, 'data.augment': '[]'})
  with config.unlocked():
    config.model = dict(name='resnet50', width=8, depths=(1, 1), bottleneck=False, small_images=True)
    config.optimizer = dict(name='sgd', momentum=.9)
    config.schedule = dict(name='constant', peak=.3)
  results = loop.train(config, str(tmp_path))
  assert results['test_accuracy'] > .5
  with config.unlocked():
    config.init_from = str(tmp_path)  # as predict, convert and the next run read it
  assert evaluate.evaluate(config)['test/accuracy'] == pytest.approx(results['test_accuracy'])


@pytest.mark.parametrize('at', [4, 12])
def test_an_evaluation_that_a_signal_put_off_is_made_up_for(at, tmp_path):
  # Saving goes first; the step that was due, the last one too, gets its measures at the next start.
  config = tiny(**{'mesh.data': 1, 'evaluate.every': 4, 'checkpoint.keep': 99})
  whole, workdir = str(tmp_path / 'whole'), str(tmp_path / 'run')
  want = loop.train(config, whole)
  stop_after(config, workdir, at)
  got = loop.train(config, workdir)
  assert evaluations(workdir) == pytest.approx(evaluations(whole))
  assert got['best_step'] == want['best_step'] and got['test_accuracy'] == want['test_accuracy']
  for step in steps_kept(whole):
    of = lambda run: runs.metrics(os.path.join(run, 'checkpoints', str(step)))  # noqa: B023
    assert of(workdir) == pytest.approx(of(whole)), step


def test_ctrl_c_where_nothing_is_to_be_saved_is_one_line(capsys):
  from vit_jax import errors

  def interrupted():
    raise KeyboardInterrupt
  with pytest.raises(SystemExit) as ended:
    errors.exit_cleanly('vit_jax', interrupted)
  assert ended.value.code == 130 and capsys.readouterr().err == 'vit_jax: stopped\n'
