"""Few-shot linear regression on frozen representations (ViT paper, section 4.1, and big_vision).

A few examples of each class are whitened, a constant is appended, and ridge regression maps them
to targets -1 and 1. What is measured is the accuracy of the largest output over the query examples.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from ml_collections import ConfigDict
import numpy as np

from vit_jax import compilation, config as config_lib, sharding
from vit_jax.data import pipeline
from vit_jax.errors import UserError, unknown

SHOTS, SEEDS = (1, 5, 10, 25), 3
STRENGTH = 2. ** 10  # of the penalty
CONSTANT = 100.      # appended for the bias, so large that the penalty hardly touches it

# What a model expects of its images, whatever they show: keys of `config.data`.
PREPARATION = ('data_dir', 'eval_crop', 'interpolation', 'antialias', 'mean', 'std')

Examples = tuple[np.ndarray, np.ndarray]  # representations float [n, width], labels int [n]


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
  """Returns the w `[dim, outputs]` that minimises |x w - y|^2 + strength |w|^2, in float64.

  The smaller of the two Gram matrices is used: w = (x'x + s)^-1 x'y = x' (xx' + s)^-1 y.

  Args:
    x: `[examples, dim]`.
    y: `[examples, outputs]`.
    strength: positive.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if len(x) < x.shape[1]:
    return x.T @ np.linalg.solve(x @ x.T + strength * np.eye(len(x)), y)
  return np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)


def predictions(support: Examples, query: np.ndarray, num_classes: int,
                strength: float = STRENGTH) -> np.ndarray:
  """Returns the classes, int `[queries]`, that a regression on the support examples gives.

  Args:
    support: what is learnt from.
    query: representations `[queries, width]`.
    num_classes: of the data set.
    strength: of the ridge penalty.
  """
  x = np.asarray(support[0], np.float64)
  mean, std = x.mean(axis=0), x.std(axis=0) + 1e-5
  prepare = lambda z: np.pad((z - mean) / std, ((0, 0), (0, 1)), constant_values=CONSTANT)
  weights = ridge(prepare(x), 2. * np.eye(num_classes)[support[1]] - 1., strength)
  # In parts: float64 copies of a large split would not fit.
  parts = [np.argmax(prepare(query[i:i + 4096]) @ weights, axis=1)
           for i in range(0, len(query), 4096)]
  return np.concatenate(parts)


def accuracies(support: Examples, query: Examples, num_classes: int, shots: Sequence[int] = SHOTS,
               seeds: int = SEEDS) -> dict[str, float]:
  """Returns {'1_shot': accuracy, ...}, each the mean over the seeds.

  Args:
    support: all examples to draw from; of a class with fewer examples than shots all are taken.
    query: what is scored.
    num_classes: of the data set.
    shots: examples of each class.
    seeds: number of draws.
  """
  found = {n: [] for n in shots}
  for seed in range(seeds):
    rng = np.random.default_rng(seed)
    order = [rng.permutation(np.flatnonzero(support[1] == c)) for c in range(num_classes)]
    for n in shots:
      index = np.concatenate([indices[:n] for indices in order])
      predicted = predictions((support[0][index], support[1][index]), query[0], num_classes)
      found[n].append(np.mean(predicted == query[1]))
  return {f'{n}_shot': float(np.mean(values)) for n, values in found.items()}


def collect(represent: Callable, batches: Iterable) -> Examples:
  """Returns the examples of a stream in its order, without padding, in the memory of the host.

  Args:
    represent: batch -> (representations `[batch, width]`, labels, mask) that the process can read.
    batches: of uint8 images.
  """
  parts = []
  for batch in batches:
    x, labels, mask = (np.asarray(part) for part in represent(batch))
    parts.append((x[mask > 0].astype(np.float32), labels[mask > 0]))
  x, labels = zip(*parts)
  return np.concatenate(x), np.concatenate(labels)


class Probe:
  """Few-shot accuracies on one data set, whatever the parameters."""

  def __init__(self, represent: Callable, support: Iterable, query: Iterable, num_classes: int):
    """Compiles nothing yet.

    Args:
      represent: (params, model_state, batch) -> `[batch, width]`.
      support, query: streams of batches, each once through its split, again and again.
      num_classes: of the data set.
    """
    def whole(params, model_state, batch):
      return sharding.gather((represent(params, model_state, batch), batch['label'], batch['mask']))

    self._represent = compilation.jit(whole)
    self._support, self._query, self._num_classes = support, query, num_classes

  def __call__(self, params, model_state) -> dict[str, float]:
    """Returns {'1_shot': accuracy, ...}."""
    read = lambda batches: collect(lambda batch: self._represent(params, model_state, batch), batches)
    return accuracies(read(self._support), read(self._query), self._num_classes)


def open_probe(entry: Mapping, data: ConfigDict, task, mesh,
               eval_batch: int = 0) -> tuple[str, Probe]:
  """Opens the data set of an entry of `config.evaluate.fewshot`.

  Args:
    entry: `source`, and what else of `config.data` is not the default, such as `train` and `test`.
    data: `config.data` of the model: images are prepared the same way unless the entry says so.
    task: has `represent` and `info`.
    mesh: on which the batches lie.
    eval_batch: rows of a batch, at most; 0: `data.batch_size`.

  Returns:
    (name of the data set, probe).

  Raises:
    UserError: an entry that cannot be used, or a task without representations.
  """
  if not hasattr(task, 'represent'):
    raise UserError(f'evaluate.fewshot needs representations, which a {type(task).__name__} does not '
                    'give; leave it empty')
  if 'source' not in entry:
    raise UserError("an entry of evaluate.fewshot names no 'source'")
  own = config_lib.image_data(entry['source'], data.resolution, data.batch_size)
  for key in entry:
    if key not in own:
      raise unknown('key in evaluate.fewshot', key, own)
  own = ConfigDict({**own, **{key: data[key] for key in PREPARATION}, **entry})
  own.crop, own.channels = own.eval_crop, task.info.channels
  query = pipeline.build(own, 0, mesh, eval_batch)
  own.test = own.train  # each example once, cut as a test image
  support = pipeline.build(own, 0, mesh, eval_batch)
  if query.info.multi_label:
    raise UserError(f'evaluate.fewshot: the images of {own.source!r} have several labels; few-shot '
                    'regression needs one')
  name = os.path.basename(os.path.normpath(own.source))
  return name, Probe(task.represent, support.splits['test'], query.splits['test'],
                     query.info.num_classes)


def open_probes(entries: Sequence[Mapping], data: ConfigDict, task, mesh,
                eval_batch: int = 0) -> dict[str, Probe]:
  """Opens all entries of `config.evaluate.fewshot`: {name of the data set: probe}."""
  found = [open_probe(entry, data, task, mesh, eval_batch) for entry in entries]
  if len({name for name, _ in found}) < len(found):
    raise UserError('two entries of evaluate.fewshot have the same source; leave one out')
  return dict(found)
