"""What stops a run: signals that ask it to save first, and that end it at once when they come again."""

import contextlib
import os
import signal
import sys
import threading

import jax

# Preemption; Ctrl-C; a closed terminal; SLURM's --signal, before the time is over.
STOPPING = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1')
                 if hasattr(signal, name))


class Stop:
  """Notes the first stop signal; the second one ends the process at once.

  A thread reads the signals as they come: while a program compiles Python runs no handler.
  Of several processes, JAX's own handler of SIGTERM agrees with the others on the step to stop at; the
  other signals are passed on to it.
  """

  def __init__(self):
    """Takes the signals over; from another thread than the main one, none."""
    self._asked, self._old, self._alone = threading.Event(), {}, jax.process_count() == 1
    if threading.current_thread() is not threading.main_thread():
      return
    self._read, write = os.pipe()
    os.set_blocking(write, False)
    self._write, self._wakeup = write, signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in STOPPING:
      if self._alone or number != signal.SIGTERM:
        self._old[number] = signal.signal(number, lambda *_: None)
    threading.Thread(target=self._watch, daemon=True).start()

  def _watch(self) -> None:
    while content := os.read(self._read, 64):
      for number in content:
        if number not in STOPPING:
          continue
        if self._asked.is_set():
          os._exit(128 + number)
        self._asked.set()
        with contextlib.suppress(OSError):  # a closed terminal
          print(f'{signal.Signals(number).name}: saving after this step; once more stops at once',
                file=sys.stderr, flush=True)
        if not self._alone and number != signal.SIGTERM:
          os.kill(os.getpid(), signal.SIGTERM)
    os.close(self._read)

  def asked(self, step: int) -> bool:
    """Tells whether to stop; all processes get the same answer for the same step."""
    if not self._alone:
      from jax.experimental import multihost_utils
      return multihost_utils.reached_preemption_sync_point(step)
    return self._asked.is_set()

  def close(self) -> None:
    """Gives the signals back."""
    if not self._old:
      return
    for number, old in self._old.items():
      signal.signal(number, old)
    signal.set_wakeup_fd(self._wakeup)
    os.close(self._write)
    self._old = {}
