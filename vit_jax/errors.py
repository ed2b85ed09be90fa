"""What a user can mend: one exception, one sentence, one place that prints it."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable

# What the system says where a file cannot grow: full disk, full quota, limit of a file's size.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
  """A mistake that the user can mend; its text names the offender and the remedy."""


class Unreadable(UserError):
  """One example of many that cannot be read: training and evaluation can leave it out."""


def nearest(name: str, options: Iterable[str]) -> str:
  """Returns a hint such as "did you mean 'vit_b16'?", or the list of options.

  Args:
    name: what the user wrote.
    options: the valid names.
  """
  options = sorted(map(str, options))
  close = difflib.get_close_matches(str(name), options, n=1, cutoff=.6)
  if close:
    return f'did you mean {close[0]!r}?'
  shown = ', '.join(options[:12]) + (', ...' if len(options) > 12 else '')
  return f'choose one of: {shown}' if options else 'there is none to choose from'


def unknown(kind: str, name: str, options: Iterable[str]) -> UserError:
  """Returns the error for a name that is not among `options`."""
  return UserError(f'unknown {kind} {name!r}; {nearest(name, options)}')


def exit_cleanly(program: str, main: Callable[[], None]) -> None:
  """Runs a command line: a UserError becomes one sentence on stderr and exit code 2.

  So do a full disk, a device that is full, and one that is not there. Names that the terminal's
  encoding lacks are printed with an escape.

  Args:
    program: the name that stands before the sentence.
    main: the command; returns None when all went well.
  """
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, 'reconfigure'):
      stream.reconfigure(errors='backslashreplace')
  try:
    main()
  except UserError as error:
    print(f'{program}: {" ".join(str(error).split())}', file=sys.stderr)
    sys.exit(2)
  except KeyboardInterrupt:  # where nothing is to be saved
    print(f'{program}: stopped', file=sys.stderr)
    sys.exit(130)
  except BrokenPipeError:  # `... | head` closed the pipe: nobody is left to tell.
    sys.stderr.close()
    sys.exit(0)
  except Exception as error:
    sentence = _of_the_machine(error)
    if not sentence:
      raise
    print(f'{program}: {sentence}', file=sys.stderr)
    sys.exit(2)


def _of_the_machine(error: Exception) -> str:
  """Returns a sentence for what the machine, not the program, is to blame for; '' for all else."""
  if isinstance(error, OSError) and error.errno in FULL:
    name = str(error.filename or 'the output').removesuffix('.part')
    return f'cannot write {name}: {os.strerror(error.errno)}; free some space, or write elsewhere'
  text = (str(error).splitlines() or [''])[0]
  if type(error).__name__ == 'JaxRuntimeError' and text.startswith('RESOURCE_EXHAUSTED'):
    return (f'the device has too little memory ({text[:120]}); make data.batch_size smaller, or '
            'accumulate or mesh.fsdp larger, or set model.remat')
  if isinstance(error, (RuntimeError, AssertionError)) and 'jax' in sys.modules:
    try:
      sys.modules['jax'].devices()
    except Exception:  # JAX raises many kinds
      wanted = os.environ.get('JAX_PLATFORMS', '')
      return (f'JAX finds no device for JAX_PLATFORMS={wanted} ({text or "no such platform here"}); set '
              "JAX_PLATFORMS=cpu, or install JAX for that platform, such as pip install 'vit_jax[cuda]'")
  return ''
