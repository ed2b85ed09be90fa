"""What a user typed for weights, understood once: a run, or a file of published weights."""

import dataclasses
import functools
import difflib
import os
from collections.abc import Mapping

from vit_jax import pretrained
from vit_jax.errors import UserError
from vit_jax.weights import runs


@dataclasses.dataclass(frozen=True)
class Run:
  """A checkpoint of a run.

  Attributes:
    text: as it was typed: a workdir, WORKDIR@best, or workdir/checkpoints/STEP.
    workdir: of the run, of a run in stages that of the stage.
    folder: workdir/checkpoints/STEP.
  """
  text: str
  workdir: str
  folder: str

  @functools.cached_property
  def config(self) -> dict:
    """The config that the run saved; UserError when there is none."""
    return runs.run_config(self.workdir)

  @property
  def package(self) -> str:
    """The package that the run's task lives in, such as 'vit_jax'."""
    return str(self.config['task']['name']).partition('.')[0]

  def __str__(self) -> str:
    return f'the checkpoint {self.folder}'


@dataclasses.dataclass(frozen=True)
class File:
  """A file of weights, or a folder as Hugging Face's hub has them.

  Attributes:
    text: as it was typed: a path, an address, or a name of the published checkpoints.
    listed: what is known of it, where it is one of the published checkpoints.
  """
  text: str
  listed: pretrained.Pretrained | None = None

  @functools.cached_property
  def path(self) -> str:
    """Where it lies on this machine; what has an address is downloaded, once.

    UserError when it cannot be; the sentence names the place to put it at.
    """
    return pretrained.resolve(self.text, {self.text: self.listed} if self.listed else {})

  def __str__(self) -> str:
    return self.text


Origin = Run | File


def origin(text: str | Origin, known: Mapping[str, pretrained.Pretrained] = pretrained.PRETRAINED
           ) -> Origin:
  """Returns what a user typed for weights.

  Args:
    text: workdir, WORKDIR@best, workdir/checkpoints/STEP, file, folder of the hub, address, or name of
      a published checkpoint.
    known: the published checkpoints.

  Raises:
    UserError: when there are no weights.
  """
  if isinstance(text, Run | File):
    return text
  if runs.is_run(text):
    return Run(text, *runs.find(text))
  listed = None if '://' in text else pretrained.find(text, known)
  if not listed and '://' not in text and not os.path.exists(text):
    near = difflib.get_close_matches(text, [*known, *{name.partition('.')[0] for name in known}], 3)
    raise UserError(f'no weights at {text!r}: neither a workdir nor a file' + (
        f', nor a published name; near: {", ".join(near)}' if near and os.sep not in text else ''))
  return File(text, listed)
