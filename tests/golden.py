"""Golden files: numbers of the authors' own code, compared with ours.

    python -m tests.golden FILE...

prints a table (file, output, largest error, tolerance, verdict). Verdicts: `ok`; `FAILED`, for an
output beyond its tolerance and for a file with a key that its reader does not use; `not judged`, for a
file of a model that this project does not have yet. The exit code is 1 if anything failed, else 3 if a
file was not judged, else 0.

`errors` is the one function that reads a file, builds our model from its `meta`, loads its weights
through `vit_jax.weights`, runs it and returns the error of each output. The tolerances are those of the
files' README.
"""

import dataclasses
import json
import os
import sys

import jax
import numpy as np

from tests.goldens import (augmentation, cnn, convnext, detr_evaluation, detr_losses, detr_models,
                           google_others, google_vit, nat, pixel_baselines, pixels, recipes, swin,
                           torch_vit)
from tests.goldens.base import Golden, NotJudged, Unknown, read
from vit_jax.errors import UserError

SYSTEMS = {**google_vit.SYSTEMS, **google_others.SYSTEMS, **torch_vit.SYSTEMS,
           **augmentation.SYSTEMS, **recipes.SYSTEMS, **detr_evaluation.SYSTEMS,
           **detr_losses.SYSTEMS, **detr_models.SYSTEMS, **nat.SYSTEMS, **convnext.SYSTEMS,
           **swin.SYSTEMS, **cnn.SYSTEMS, **pixels.SYSTEMS,
           **pixel_baselines.SYSTEMS}

# Systems that this project does not have yet, by the models that they wait for.
WAITING = {
    'Video Swin Transformer': ('video_swin_cls', 'video_swin_inflate'),
    'two-stage and dense detectors': (
        'fasterrcnn_fpn', 'fpn_rpn', 'mask_rcnn', 'cascade_mask_rcnn', 'atss', 'bifpn', 'reppoints_v2',
        'retinanet', 'sparse_rcnn', 'box_coder_assigner_losses', 'deform_conv', 'nms', 'roi_align'),
    'Deformable DETR': ('deformable_detr',),
    'MViT': ('mvit',),
}

MASK_PIXELS = 1e-4  # share of pixels that a real-valued threshold may decide otherwise


@dataclasses.dataclass(frozen=True)
class Error:
  """How far one output is from the authors'."""
  output: str
  error: float
  tolerance: float

  @property
  def passed(self) -> bool:
    """Whether the error is within the tolerance; NaN is not."""
    return bool(self.error <= self.tolerance)


def difference(got, want: np.ndarray) -> float:
  """Returns the largest difference; NaN where shapes differ. JSON is equal (0) or not (infinite)."""
  if want.dtype.kind == 'U':
    return 0. if got == recipes.canonical(json.loads(str(want))) else float('inf')
  if np.shape(got) != want.shape:
    return float('nan')
  got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
  with np.errstate(invalid='ignore'):
    return float(np.where(got == want, 0., np.abs(got - want)).max(initial=0.))


def relative(got, want: np.ndarray) -> float:
  """Returns the largest difference over the wanted value itself; NaN where shapes differ."""
  if np.shape(got) != want.shape:
    return float('nan')
  size = np.maximum(np.abs(want), 1e-6 * np.abs(want).max(initial=1e-30))  # some rates are 0
  return float((np.abs(np.asarray(got, np.float64) - want) / size).max(initial=0.))


def _tolerance(golden: Golden, name: str) -> float:
  """Returns the largest difference that the file's README allows.

  Raises:
    Unknown: for an output without a rule.
  """
  entry, want = golden.tolerances.get(name), golden.outputs[name]
  if want.dtype.kind in 'biuU' or (entry or {}).get('exact') is True:
    return 0.
  if 'suggested_atol' not in (entry or {}):
    raise Unknown(f'meta.outputs gives no tolerance for {name}')
  return entry['suggested_atol']


def _error(golden: Golden, name: str, got) -> Error:
  """Returns the error of an output by its rule."""
  want, system = golden.outputs[name], golden.meta['system']
  if name not in golden.tolerances and system.startswith('lr_schedules'):
    return Error(name, relative(got, want), 1e-6)
  tolerance = _tolerance(golden, name)
  if augmentation.geometric(system, name):  # mean difference under 1 level
    return Error(name, augmentation.mean_difference(got, want), 1.)
  if detr_evaluation.decided_by_masks(system, name):
    return Error(name, detr_evaluation.share_of_pixels(golden, name, got), MASK_PIXELS)
  return Error(name, difference(got, want), tolerance)


def errors(path: str) -> list[Error]:
  """Runs our implementation on a golden file and returns the error of each of its outputs.

  Raises:
    NotJudged: for a model that this project does not have yet.
    Unknown: for a system, a key or a value that no reader knows, and for an output without a rule.
  """
  golden = read(path)
  system = golden.meta['system']
  for model, systems in WAITING.items():
    if system in systems:
      raise NotJudged(f'no reader yet; it waits for {model}')
  if system not in SYSTEMS:
    raise Unknown(f'no reader of the system {system!r}')
  with jax.default_matmul_precision('highest'):
    got = SYSTEMS[system](golden)
  unused = golden.unused()
  if unused:
    raise Unknown(f'the reader of {system!r} does not use {", ".join(unused)}')
  missing = [name for name in golden.outputs if got.get(name) is None]
  if missing:
    raise Unknown(f'the reader of {system!r} does not compute {", ".join(missing)}')
  if not golden.outputs:
    raise Unknown('the file has no outputs')
  return [_error(golden, name, got[name]) for name in golden.outputs]


def _judge(path: str) -> str:
  """Prints the rows of a file and returns its verdict."""
  name = os.path.basename(path).removesuffix('.npz')
  try:
    found = errors(path)
  except NotJudged as reason:
    print(f'{name:32s} not judged: {reason}')
    return 'not judged'
  except (Unknown, UserError) as error:
    print(f'{name:32s} FAILED: {error}')
    return 'FAILED'
  except Exception as error:  # a damaged file or a fault of ours: the other files are still judged
    print(f'{name:32s} FAILED: {type(error).__name__}: {error}')
    return 'FAILED'
  for entry in found:
    print(f'{name:32s} {entry.output:64s} {entry.error:10.2e} {entry.tolerance:10.2e} '
          f'{"ok" if entry.passed else "FAILED"}')
  return 'ok' if all(entry.passed for entry in found) else 'FAILED'


def main(paths: list[str]) -> int:
  """Prints the table of all files; returns the exit code."""
  if not paths:
    print('give golden files: python -m tests.golden FILE...', file=sys.stderr)
    return 2
  verdicts = [_judge(path) for path in paths]
  counts = {verdict: verdicts.count(verdict) for verdict in ('ok', 'FAILED', 'not judged')}
  print(f'{len(paths)} files: ' + ', '.join(f'{n} {verdict}' for verdict, n in counts.items() if n))
  return 1 if counts['FAILED'] else 3 if counts['not judged'] else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
