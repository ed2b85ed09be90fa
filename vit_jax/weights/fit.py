"""Fitting weights to a model: which are loaded, resampled, re-initialised or ignored."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import ml_dtypes
import numpy as np

from vit_jax.errors import UserError
from vit_jax.layers import positions

# Ends the line of a head that would have fitted.
ASKED_ANEW = '(the classes are others, or reset_head)'
POSITIONS = 'Transformer/posembed_input/pos_embedding'


@dataclasses.dataclass(frozen=True)
class Rules:
  """What another task or list of classes may replace; everything else must be there and fit.

  Attributes:
    classes: beginnings of paths that belong to the classes: they start anew for others.
    heads: of what starts anew where its shape is another.
    optional: of what may be missing, and then starts anew, or be left over.
    rows: paths whose leading axis may have another length: it is cut, or its rest starts anew.
    backbone: beginning of the paths of what reads the image.
  """
  classes: tuple[str, ...]
  heads: tuple[str, ...]
  optional: tuple[str, ...]
  rows: tuple[str, ...] = ()
  backbone: str = ''


CLASSIFIER = Rules(
    classes=('head/', 'head_dist/'), heads=('head/', 'head_dist/', 'pre_logits/'),
    optional=('head/', 'head_dist/', 'pre_logits/', 'MAPHead_0/', 'cls', 'dist', POSITIONS))


def image_kernel(flat: Mapping[str, np.ndarray], backbone: str = '') -> str | None:
  """Returns the path of the kernel that reads the image: of a ResNet or hybrid, a Mixer, a ViT."""
  paths = (backbone + p for p in ('conv_root/kernel', 'stem/kernel', 'embedding/kernel'))
  return next((path for path in paths if path in flat), None)


@dataclasses.dataclass
class Report:
  """What became of each parameter, one sentence fragment per leaf."""
  loaded: list[str] = dataclasses.field(default_factory=list)
  resampled: list[str] = dataclasses.field(default_factory=list)
  reinitialised: list[str] = dataclasses.field(default_factory=list)
  ignored: list[str] = dataclasses.field(default_factory=list)
  note: list[str] = dataclasses.field(default_factory=list)

  def lines(self) -> list[str]:
    """Returns the report for the log: a count of the loaded, the names of all others."""
    head = ', with the head' if {'head/kernel', 'class_embed/kernel'} & set(self.loaded) else ''
    out = [f'loaded {len(self.loaded)} parameter arrays{head}']
    for kind in ('resampled', 'reinitialised', 'ignored', 'note'):
      out += [f'{kind}: {entry}' for entry in getattr(self, kind)]
    return out


@dataclasses.dataclass(frozen=True)
class Grid:
  """A model's patches: the grid, and how many extra tokens there are and have a position."""
  size: tuple[int, int]
  tokens: int = 1
  positions: int = 1


def guess_grid(flat: Mapping[str, np.ndarray], class_position: bool | None, hint: Grid | None = None
               ) -> Grid | None:
  """Returns the grid of the weights' position table; None where there is no table.

  Args:
    flat: our paths.
    class_position: whether the format keeps entries for the extra tokens in the table; None: if what
      is left without them is what `hint` has, or a square.
    hint: taken where the table has just its number of patches; otherwise the grid is square.

  Raises:
    UserError: when it is neither.
  """
  if POSITIONS not in flat:
    return None
  tokens, entries = _tokens(flat), flat[POSITIONS].shape[1]
  if hint and has_grid(flat, class_position, hint):
    return Grid(hint.size, tokens, entries - hint.size[0] * hint.size[1])
  if class_position is None:
    square = lambda n: math.isqrt(n) ** 2 == n
    class_position = square(entries - tokens) or not square(entries)
  own = tokens * class_position
  return Grid(positions.square_grid(entries - own), tokens, own)


def _tokens(flat: Mapping[str, np.ndarray]) -> int:
  """Returns the number of extra tokens of the weights."""
  return sum(name in flat for name in ('cls', 'dist'))


def has_grid(flat: Mapping[str, np.ndarray], class_position: bool | None, grid: Grid) -> bool:
  """Tells whether the weights' position table has as many patches as a grid; `flat` has a table.

  Args:
    flat, class_position: as of `guess_grid`.
    grid: of which the size counts.
  """
  own = flat[POSITIONS].shape[1] - grid.size[0] * grid.size[1]
  options = (0, 1) if class_position is None else (class_position,)
  return own in [_tokens(flat) * option for option in options]


def fit(source: Mapping[str, np.ndarray], target: Mapping[str, jax.ShapeDtypeStruct], *,
        new: Grid | None, old: Grid | None = None, class_position: bool | None = True,
        resampling: str = 'corner_aligned_linear', resize_patches: bool = False,
        reset_head: bool = False, rules: Rules = CLASSIFIER) -> tuple[dict[str, np.ndarray], Report]:
  """Makes weights fit a model of another resolution, head or number of channels.

  Args:
    source: our paths, layers one by one.
    target: shapes of the model's parameters, likewise.
    new: the model's grid; None for a model without positions.
    old: the grid that the source's position table was made for; None: as `guess_grid` tells.
    class_position: as `guess_grid` has it.
    resampling: rule for the position table, one of `positions.RESAMPLING`.
    resize_patches: make the kernel that reads the image one of another size, see `resize_kernel`.
    reset_head: start the head anew even where it would fit.
    rules: what may be replaced.

  Returns:
    (the arrays that could be loaded, Report); what is in `target` and not among them, or has fewer
    rows there, is for the caller to initialise, see `completed`.

  Raises:
    UserError: lists missing, unexpected and misshapen parameters.
  """
  source, report = dict(source), Report()
  if new and POSITIONS in source and POSITIONS in target:
    old = old or guess_grid(source, class_position, new)
    _fit_positions(source, target[POSITIONS].shape, old, new, resampling, report)
  if resize_patches:
    _fit_patches(source, target, report)
  out, missing, misshapen, mistyped = {}, [], [], []
  for path, want in target.items():
    array = source.pop(path, None)
    if array is None:
      (report.reinitialised if path.startswith(rules.optional) else missing).append(path)
    elif not _fractional(array.dtype):
      mistyped.append(f'{path} of {array.dtype}')
    elif array.shape == want.shape and reset_head and path.startswith(rules.classes):
      report.reinitialised.append(f'{path} {ASKED_ANEW}')
    elif array.shape == want.shape:
      out[path] = array
    elif path in rules.rows and array.shape[1:] == want.shape[1:]:
      out[path] = array[:want.shape[0]]
      fresh = max(want.shape[0] - array.shape[0], 0)
      report.resampled.append(f'{path} {array.shape[0]} -> {want.shape[0]} rows'
                              + f', the last {fresh} fresh' * bool(fresh))
    elif path == image_kernel(target, rules.backbone) and _same_but_channels(array.shape, want.shape):
      out[path] = adapt_channels(array, want.shape[2])
      report.resampled.append(f'{path} {array.shape[2]} -> {want.shape[2]} channels')
    elif path.startswith(rules.heads):
      report.reinitialised.append(f'{path} {array.shape} -> {want.shape}')
    else:
      misshapen.append(f'{path} {array.shape} instead of {want.shape}')
  # What only a head reads is of no use to a model without one.
  spare = rules.optional + (('fc_norm/',) if 'head/kernel' not in target else ())
  unexpected = [p for p in source if not p.startswith(spare)]
  report.ignored += [p for p in source if p.startswith(spare)]
  report.loaded += out
  _complain(missing=missing, unexpected=unexpected, misshapen=misshapen, **{
      'of numbers without a fraction': mistyped})
  return {k: np.asarray(v, target[k].dtype) for k, v in out.items()}, report


def completed(array, fresh: jax.Array) -> jax.Array:
  """Returns a loaded array of a fresh one's type, with the latter's last rows where it has fewer."""
  if array.shape == fresh.shape:
    return array
  return fresh.at[:array.shape[0]].set(array)


def _fit_patches(source, target, report: Report) -> None:
  """Resizes the patch embedding's kernel in `source`."""
  path = 'embedding/kernel'
  if path not in source or path not in target or 'conv_root/kernel' in target:
    raise UserError('resize_patches is for a model that cuts its image into patches')
  old, new = source[path].shape[:2], target[path].shape[:2]
  if old != new:
    source[path] = resize_kernel(source[path], new)
    report.resampled.append('{} {}x{} -> {}x{} by the pseudo-inverse'.format(path, *old, *new))


# Norms that stand before or behind the pooling: what to set where the weights have the other.
_NORMS = {'fc_norm/scale': "model.pool='mean', model.class_token=true where they have one, and "
                           'model.norm_pooled=true',
          'Transformer/encoder_norm/scale': 'model.norm_pooled=false'}


def _complain(**kinds: list[str]) -> None:
  """Raises the one error that lists all names by what is wrong with them."""
  other = next((value for name, value in _NORMS.items() if name in kinds['unexpected'] and
                any(missing in _NORMS for missing in kinds['missing'])), '')
  remedy = f'their last norm stands elsewhere: set {other}' if other else 'is model.name the right one?'
  if any(kinds.values()):
    said = '; '.join(f'{len(names)} {kind}: ' + ', '.join(names[:4]) + (', ...' * (len(names) > 4))
                     for kind, names in kinds.items() if names)
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


def resize_kernel(kernel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Returns a patch kernel `[h, w, c, d]` for patches of another size, as FlexiViT (arXiv:2212.08013).

  Section 3.4: with B the matrix that resizes a patch bilinearly, the new kernel is pinv(B^T) times the
  old one. A larger patch that was resized then gives just what the patch gave; for a smaller one the
  error is the least for patches of white noise. Each axis has its own B. Computed in float64.
  """
  out = np.asarray(kernel, np.float64)
  for axis in (0, 1):
    # Column i of B is the i-th unit vector, resized.
    old = out.shape[axis]
    matrix = positions.bilinear(np.eye(old)[:, None], (size[axis], 1))[:, 0]
    out = np.moveaxis(np.tensordot(np.linalg.pinv(matrix.T), out, (1, axis)), 0, axis)
  return out.astype(kernel.dtype)


def _fit_positions(source, shape, old: Grid, new: Grid, resampling: str, report: Report) -> None:
  """Resamples the table in `source` and moves the extra tokens' entries to where the model has them."""
  table = np.asarray(source[POSITIONS])
  if shape[2] != table.shape[2]:
    return  # the comparison of shapes will say so
  own, patches = table[:, :old.positions], table[:, old.positions:]
  if old.size != new.size:
    patches = positions.resample(patches, old.size, new.size, 0, resampling)
    report.resampled.append('{} {}x{} -> {}x{} by {}'.format(
        POSITIONS, *old.size, *new.size, resampling))
  if old.positions and not new.positions:
    for i, name in enumerate(('cls', 'dist')[:old.positions]):
      if i < new.tokens and name in source:  # the sum of both is what the encoder saw
        source[name] = source[name] + own[:, i:i + 1]
        report.resampled.append(f"{name} + its entry of {POSITIONS}")
      else:
        said = dict(cls='class', dist='distillation')[name]
        report.ignored.append(f"the {said} token's entry of {POSITIONS}")
  own = own[:, :new.positions]
  # A token that never had one stands as it is.
  absent = np.zeros((1, new.positions - own.shape[1], table.shape[2]), table.dtype)
  source[POSITIONS] = np.concatenate([own, absent, patches], axis=1)
