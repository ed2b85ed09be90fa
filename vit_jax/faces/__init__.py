"""What a task shows of its answers: records, lines, pictures, sections of the page.

A face is a module; `FACES` lists them. A new task's face is one file and one line here. It has:

  MODELS, WEIGHTS   the package's `models` and `weights`
  KNOWN             {name: what is known} of its published checkpoints
  FORMAT            the format that `convert` writes unasked
  OPTIONS           {flag of `predict`: its default}
  DRAWN, COUNT, SHOWN   images that `predict` draws, `explore` looks at and `data --show` shows
  predictor(loaded, origin)          -> `predictor.Predictor`
  text(record, width)                -> str, for the terminal
  writer(predictor, names, **options)   context of (name, answer) -> None: files beside the records
  draw(predictor, kept, path, asked, **options)   a picture of [(name, prepared, answer)]
  sections(predictor, config, names, split)       of the page, see `page`
  facts(data, config), sheet(data, task, config, count, step, path)    for `vit_jax.data`
  holds(path), check(paths, **options)            for `vit_jax.data --check`
  open_source(config.data)           the source of a run
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from vit_jax.errors import UserError

FACES = ('vit_jax.faces.classification', 'detr_jax.faces.detection', 'detr_jax.faces.segmentation')


def faces() -> list[ModuleType]:
  """Returns all faces, imported."""
  return [importlib.import_module(name) for name in FACES]


def known() -> dict:
  """Returns {name: what is known} of the published checkpoints of all tasks."""
  return {name: found for face in faces() for name, found in face.KNOWN.items()}


def of_task(config) -> ModuleType:
  """Returns the face of a config's task."""
  from ml_collections import ConfigDict
  from vit_jax import task as task_lib
  return importlib.import_module(task_lib.find(ConfigDict(config)).face)


def candidates(origin, model: str | None = None) -> list[ModuleType]:
  """Returns the faces that weights may belong to, the likeliest first.

  Args:
    origin: a `vit_jax.weights.Run` or `File`.
    model: its name, if given.
  """
  from vit_jax import weights
  found = faces()
  if model:
    return [face for face in found if model in face.MODELS.variants()] or found[:1]
  if isinstance(origin, weights.Run):
    return [of_task(origin.config)]
  return [face for face in found if origin.text in face.KNOWN] or found


def load(name: str, path: str | None = None, **options):
  """Returns a model with its parameters, ready to predict: of any task.

  Args:
    name: workdir of a run (or WORKDIR@best, or a checkpoint in it), a name of
      `python -m vit_jax.pretrained`, a published file that shows which model it is of, or a model's
      name with `path`.
    path: a published file, its name or address, or the workdir of a run, when `name` is a model's name.
    **options: `image_size`, `num_classes`, `channels`, `seed`, `verbose` and fields of the model, see
      `vit_jax.weights.load` and `detr_jax.weights.load`.

  Returns:
    A `vit_jax.faces.predictor.Predictor`; it unpacks into `model, params, info`.

  Raises:
    UserError: unknown model, no or damaged weights, or weights that do not fit the model.
  """
  return find(name, path, **options)[1]


def find(name: str, path: str | None = None, **options) -> tuple:
  """Returns (face, predictor) of weights; arguments as those of `load`."""
  from vit_jax import weights
  for face in faces():
    if path is None and name in face.MODELS.variants():
      face.WEIGHTS.load(name)  # says what is missing
  origin, model = weights.origin(path or name, known()), [name] if path else []
  return first_that_reads(origin, *model, use=lambda face: (
      face, face.predictor(face.WEIGHTS.load(*model, origin, **options), origin)))


def first_that_reads(origin, model: str | None = None, *, use: Callable[[ModuleType], Any]):
  """Returns what the first of the `candidates` returns whose weights have the format.

  Args:
    origin: a `vit_jax.weights.Run` or `File`.
    model: its name, if given.
    use: called with a face.

  Raises:
    UserError: that of the likeliest, where no face knows the format.
  """
  from vit_jax import weights
  first = None
  for face in candidates(origin, model):
    try:
      return use(face)
    except weights.UnknownFormat as error:  # perhaps another task's
      first = first or error
  raise first


def check_options(face: ModuleType, given: dict) -> dict:
  """Returns a face's options with those that were given; UserError for one that it does not have."""
  for name, value in given.items():
    if value is not None and name not in face.OPTIONS:
      raise UserError(f'--{name} is not an option of {face.TASK}; it takes '
                      + ', '.join(f'--{option}' for option in face.OPTIONS))
  return {name: default if given.get(name) is None else given[name]
          for name, default in face.OPTIONS.items()}
