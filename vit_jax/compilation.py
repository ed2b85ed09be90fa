"""How the project compiles: `jit` with what each platform needs, and the persistent cache."""

import ctypes
import os
import warnings

import jax


def compiler_options() -> dict[str, str]:
  """Compiler options for the platform in use.

  XLA's CPU compiler drops `lax.optimization_barrier` before it fuses. Then the gradient of a
  residual network fuses across layers and computes the same chain again for every layer, which
  makes both the step and its compilation grow with the square of the depth. Keeping the barriers
  (one per residual branch) restores linear cost. Other platforms keep them by themselves.
  """
  if jax.default_backend() == 'cpu':
    return {'xla_disable_hlo_passes': 'cse_barrier_expander'}
  return {}


def jit(function, **kwargs):
  """`jax.jit` with `compiler_options`; takes the same arguments."""
  return jax.jit(function, compiler_options=compiler_options(), **kwargs)


COUNTED = 'multiply_adds_'  # begins the name of a function that says what it costs


def counted(function, multiply_adds: int):
  """Returns a function whose cost `vit_jax.models.flops` reads here, and does not count.

  For one that takes more products than its definition, since that is faster.
  """
  def named(*args):
    return function(*args)

  named.__name__ = f'{COUNTED}{multiply_adds}'
  return jax.jit(named)


def enable_cache() -> None:
  """Keeps compiled programs on disk, so that the second start of a command is fast.

  Only command lines call this. `JAX_COMPILATION_CACHE_DIR` chooses another place, and an empty
  value of it none at all.
  """
  default = os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'),
                         'vit_jax', 'compiled')
  path = os.environ.get('JAX_COMPILATION_CACHE_DIR', default)
  jax.config.update('jax_compilation_cache_dir', path or None)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', .5)
  # A cache that is cut, or on a full disk, costs time and nothing else.
  warnings.filterwarnings('ignore', message='Error (reading|writing) persistent compilation cache')


def keep_freed_memory() -> None:
  """Lets glibc keep the memory of large buffers instead of giving it back to the system each step.

  On CPU, XLA allocates its temporaries anew in every step, in its own threads; glibc maps and unmaps
  large ones each time, and clearing the pages costs as much as the optimizer. One arena for all
  threads is needed besides the thresholds: any other arena maps what exceeds 64 MiB. Only command
  lines call this, before JAX starts its threads; it does nothing off Linux or glibc.
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):
    return
  trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # M_TRIM_THRESHOLD, ... of malloc.h
  mallopt(arena_max, 1)
  mallopt(mmap_threshold, 2**31 - 1)
  mallopt(trim_threshold, 2**31 - 1)
