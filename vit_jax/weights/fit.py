"""Fitting weights to a model: which are loaded, resampled, re-initialised or ignored."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping

import jax
import ml_dtypes
import numpy as np

from vit_jax import trees
from vit_jax.errors import UserError

ASKED_ANEW = '(the classes are others, or reset_head)'  # why a head that would fit starts anew
GROUPED = 3  # so many parameters of one module are told of in one entry


@dataclasses.dataclass(frozen=True)
class Rules:
  """What another task or list of classes may replace; everything else must be there and fit.

  Attributes:
    classes: beginnings of paths that belong to the classes: they start anew for others.
    heads: of what starts anew where its shape is another.
    optional: of what may be missing, and then starts anew, or be left over.
    rows: paths whose leading axis may have another length: it is cut, or its rest starts anew.
    of_head: beginnings of paths that are of no use to a model without classes.
    remedies: {path: what to do where it is left over and another of these is missing}.
  """
  classes: tuple[str, ...]
  heads: tuple[str, ...]
  optional: tuple[str, ...]
  rows: tuple[str, ...] = ()
  of_head: tuple[str, ...] = ()
  remedies: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def extended(self, remedies: Mapping[str, str] | None = None, **more: tuple[str, ...]) -> 'Rules':
    """Returns the rules with more paths in some fields."""
    both = {name: (*getattr(self, name), *paths) for name, paths in more.items()}
    return dataclasses.replace(self, **both, remedies=remedies or self.remedies)


CLASSIFIER = Rules(classes=('head/',), heads=('head/',), optional=('head/',))


@dataclasses.dataclass
class Report:
  """What became of each parameter.

  Attributes:
    loaded: paths.
    resampled: sentences.
    reinitialised: {path: why, '' where the weights lack it}.
    ignored: paths, or sentences.
    note: sentences.
    classes: beginnings of the paths that belong to them.
  """
  loaded: list[str] = dataclasses.field(default_factory=list)
  resampled: list[str] = dataclasses.field(default_factory=list)
  reinitialised: dict[str, str] = dataclasses.field(default_factory=dict)
  ignored: list[str] = dataclasses.field(default_factory=list)
  note: list[str] = dataclasses.field(default_factory=list)
  classes: tuple[str, ...] = ()

  @property
  def head(self) -> bool:
    """Whether what belongs to the classes was loaded."""
    return any(path.startswith(self.classes) for path in self.loaded)

  @property
  def reset(self) -> bool:
    """Whether a head that would fit starts anew, because that was asked for."""
    return ASKED_ANEW in self.reinitialised.values()

  def fresh(self, *beginnings: str) -> list[str]:
    """Returns an entry for each parameter that starts anew, or for those below some paths."""
    entries = {path: f'{path} {why}'.rstrip() for path, why in self.reinitialised.items()
               if path.startswith(beginnings or '')}
    return grouped(entries.values())

  def lines(self) -> list[str]:
    """Returns the report for the log: a count of the loaded, the names of all others."""
    out = [f'loaded {len(self.loaded)} parameter arrays' + ', with the head' * self.head]
    for kind, entries in dict(resampled=self.resampled, reinitialised=self.fresh(),
                              ignored=grouped(self.ignored), note=self.note).items():
      out += [f'{kind}: {entry}' for entry in entries]
    return out


def grouped(entries: Iterable[str]) -> list[str]:
  """Returns one entry for all paths below the same module: 'mask_head (26 arrays)'."""
  tops = {entry: re.match(r'[^/ ]+(?=/)|.*', entry)[0] for entry in entries}
  count = collections.Counter(tops.values())
  return list(dict.fromkeys(entry if count[top] < GROUPED else f'{top} ({count[top]} arrays)'
                            for entry, top in tops.items()))


def fit(flat: trees.Flat, target: Mapping[str, jax.ShapeDtypeStruct], rules: Rules = CLASSIFIER, *,
        kernel: str | None = None, reset_head: bool = False, report: Report | None = None
        ) -> tuple[dict[str, np.ndarray], Report]:
  """Makes weights fit a model with another head or number of channels.

  Args:
    flat: our paths, layers one by one.
    target: shapes of the model's parameters, likewise.
    rules: what may be replaced.
    kernel: path of the kernel that reads the image.
    reset_head: start the head anew even where it would fit.
    report: of what was done to the weights before.

  Returns:
    (the arrays that could be loaded, Report); what is in `target` and not among them, or has fewer
    rows there, is for the caller to initialise, see `completed`.

  Raises:
    UserError: lists missing, unexpected and misshapen parameters.
  """
  flat, report, out = dict(flat), report or Report(), {}
  wrong = collections.defaultdict(list)
  for path, want in target.items():
    array = flat.pop(path, None)
    if array is None and not path.startswith(rules.optional):
      wrong['missing'].append(path)
    elif array is None:
      report.reinitialised[path] = ''
    elif not _fractional(array.dtype):
      wrong['of numbers without a fraction'].append(f'{path} of {array.dtype}')
    elif array.shape == want.shape and reset_head and path.startswith(rules.classes):
      report.reinitialised[path] = ASKED_ANEW
    elif (fitted := _fitted(path, array, want.shape, rules, kernel, report)) is not None:
      out[path] = fitted
    elif path.startswith(rules.heads):
      report.reinitialised[path] = f'{array.shape} -> {want.shape}'
    else:
      wrong['misshapen'].append(f'{path} {array.shape} instead of {want.shape}')
  headless = not any(path.startswith(rules.classes) for path in target)
  spare = rules.optional + rules.of_head * headless
  wrong['unexpected'] = [path for path in flat if not path.startswith(spare)]
  report.ignored += [path for path in flat if path.startswith(spare)]
  report.loaded += out
  report.classes = rules.classes
  _complain(wrong, rules)
  return {k: np.asarray(v, target[k].dtype) for k, v in out.items()}, report


def _fitted(path: str, array: np.ndarray, shape: tuple[int, ...], rules: Rules, kernel: str | None,
            report: Report) -> np.ndarray | None:
  """Returns an array of the model's shape, or of fewer rows; None where it can be made to fit by no
  rule."""
  if array.shape == shape:
    return array
  if path in rules.rows and array.shape[1:] == shape[1:]:
    fresh = max(shape[0] - array.shape[0], 0)
    report.resampled.append(f'{path} {array.shape[0]} -> {shape[0]} rows'
                            + f', the last {fresh} fresh' * bool(fresh))
    return array[:shape[0]]
  if path == kernel and _same_but_channels(array.shape, shape):
    report.resampled.append(f'{path} {array.shape[2]} -> {shape[2]} channels')
    return adapt_channels(array, shape[2])
  return None


def completed(array, fresh: jax.Array) -> jax.Array:
  """Returns a loaded array of a fresh one's type, with the latter's last rows where it has fewer."""
  if array.shape == fresh.shape:
    return array
  return fresh.at[:array.shape[0]].set(array)


def _complain(wrong: Mapping[str, list[str]], rules: Rules) -> None:
  """Raises the one error that lists all names by what is wrong with them."""
  left, lacking = set(wrong['unexpected']), rules.remedies.keys() & set(wrong.get('missing', ()))
  remedy = next((said for path, said in rules.remedies.items() if path in left and lacking),
                'is model.name the right one?')
  kinds = ('missing', 'unexpected', 'misshapen', 'of numbers without a fraction')
  said = '; '.join(f'{len(wrong[kind])} {kind}: ' + ', '.join(wrong[kind][:4])
                   + ', ...' * (len(wrong[kind]) > 4) for kind in kinds if wrong.get(kind))
  if said:
    raise UserError(f'the weights do not fit the model ({said}); {remedy}')


def _fractional(dtype: np.dtype) -> bool:
  return np.issubdtype(dtype, np.floating) or dtype == ml_dtypes.bfloat16


def _same_but_channels(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
  return len(a) == len(b) == 4 and a[:2] + a[3:] == b[:2] + b[3:]


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
  """Returns a patch kernel `[h, w, c, d]` for another number of input channels.

  To one channel: the sum, so that a grey image gives what its copies in all channels gave. To
  other numbers: the channels repeat in turn, scaled by the ratio of the numbers.
  """
  old = kernel.shape[2]
  if channels == 1:
    return kernel.sum(axis=2, keepdims=True)
  picked = kernel[:, :, np.arange(channels) % old]
  return picked * (old / channels)
