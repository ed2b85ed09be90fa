"""What the processes of a job decide together, so that none goes on without the others."""

from collections.abc import Callable

import jax
import numpy as np

from vit_jax.errors import UserError

_LENGTH = 4096  # bytes of a message that is told to all


def first(decide: Callable[[], str]) -> str:
  """Returns what the first process decides, to all of them.

  Args:
    decide: returns a short text; called by the first process alone.

  Raises:
    UserError: in every process, where the first one raised it.
  """
  if jax.process_count() == 1:
    return decide()
  from jax.experimental import multihost_utils
  text, failed = '', False
  if jax.process_index() == 0:
    try:
      text = decide()
    except UserError as error:
      text, failed = str(error), True
  content = text.encode(errors='backslashreplace')[:_LENGTH - 1]
  message = np.zeros(_LENGTH, np.uint8)
  message[0], message[1:1 + len(content)] = failed, np.frombuffer(content, np.uint8)
  message = np.asarray(multihost_utils.broadcast_one_to_all(message))
  text = message[1:].tobytes().rstrip(b'\0').decode(errors='replace')
  if message[0]:
    raise UserError(text)
  return text


def most(value: int) -> int:
  """Returns the largest of the values that the processes give; all of them wait for each other."""
  if jax.process_count() == 1:
    return value
  from jax.experimental import multihost_utils
  return int(np.max(multihost_utils.process_allgather(np.int32(value))))
