"""Fixtures that every test may use."""

import atexit
import glob
import os
import shutil
import tempfile

# Before JAX starts: eight CPU devices, so that every test can build any mesh. One start for all
# tests of a process, since the number cannot change afterwards.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = (os.environ.get('XLA_FLAGS', '')
                           + ' --xla_force_host_platform_device_count=8'
                           # Tests compile much and compute little.
                           + ' --xla_backend_optimization_level=0'
                           + ' --xla_cpu_use_fusion_emitters=false').strip()

# Tests compile the same small programs many times, also in processes of their own and in the workers
# of pytest-xdist, which inherit the folder from the process that made it.
if 'VIT_JAX_TEST_CACHE' not in os.environ:
  os.environ['VIT_JAX_TEST_CACHE'] = tempfile.mkdtemp(prefix='vit_jax_tests_')
  atexit.register(shutil.rmtree, os.environ['VIT_JAX_TEST_CACHE'], ignore_errors=True)
os.environ['JAX_COMPILATION_CACHE_DIR'] = os.environ['VIT_JAX_TEST_CACHE']
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '.1'

import jax
import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Golden files and real data lie beside the project, or where this variable says.
SHARED = os.environ.get('VIT_JAX_SHARED', os.path.join(os.path.dirname(ROOT), 'shared'))


def golden_files(*patterns: str) -> list[str]:
  """Returns the golden files whose names fit shell patterns; one entry that skips, if none does."""
  found = sorted(f for p in patterns for f in glob.glob(os.path.join(SHARED, 'golden', p + '.npz')))
  missing = pytest.param('', marks=pytest.mark.skip(
      reason=f'no golden files {patterns} in {SHARED}/golden; set VIT_JAX_SHARED'))
  return found or [missing]


@pytest.fixture(scope='session')
def shared():
  """Returns a function that gives the path of a file or folder beside the project, or skips."""
  def path(name: str) -> str:
    found = os.path.join(SHARED, name)
    if not os.path.exists(found):
      pytest.skip(f'no {found}; set VIT_JAX_SHARED to the folder that holds it')
    return found
  return path


@pytest.fixture(scope='session')
def assert_close():
  """Returns a function that asserts that two trees agree within a tolerance."""
  def check(got, want, atol=1e-5, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        np.asarray(a), np.asarray(b), atol=atol, rtol=rtol), got, want)
  return check


@pytest.fixture
def root() -> str:
  """Returns the folder of the project."""
  return ROOT
