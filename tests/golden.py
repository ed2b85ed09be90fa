"""Golden files: numbers of the authors' own code, compared with ours.

    python -m tests.golden FILE...

prints a table (output, largest error, tolerance, verdict) and exits with 1 on any failure. `errors`
is the one function that reads a file, builds our model from its `meta`, loads its weights through
`vit_jax.weights`, runs it and returns the error of each output.
"""

import dataclasses
import json
import sys

import numpy as np

from tests.goldens import (augmentation, detr_evaluation, detr_losses, detr_models, google_others,
                           google_vit, recipes, torch_vit)
from tests.goldens.base import read


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


SYSTEMS = {**google_vit.SYSTEMS, **google_others.SYSTEMS, **torch_vit.SYSTEMS,
           **augmentation.SYSTEMS, **recipes.SYSTEMS, **detr_evaluation.SYSTEMS,
           **detr_losses.SYSTEMS, **detr_models.SYSTEMS}


def difference(got, want: np.ndarray) -> float:
  """Returns the largest difference; NaN where shapes differ. JSON is equal (0) or not (infinite)."""
  if want.dtype.kind == 'U':
    return 0. if got == recipes.canonical(json.loads(str(want))) else float('inf')
  if np.shape(got) != want.shape:
    return float('nan')
  return float(np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64)).max(initial=0.))


def errors(path: str) -> list[Error]:
  """Runs our implementation on a golden file and returns the error of each of its outputs."""
  golden = read(path)
  system = golden.meta['system']
  if system not in SYSTEMS:
    raise KeyError(f'{path}: no implementation of system {system!r} yet')
  got = SYSTEMS[system](golden)
  tolerances = golden.meta.get('outputs', {})
  out = []
  for name, want in golden.outputs.items():
    entry = tolerances.get(name)
    if entry is None:  # schedules: relative
      tolerance = 1e-6 * float(np.abs(want).max())
    else:
      tolerance = 0. if entry.get('exact') else entry['suggested_atol']
    if augmentation.geometric(system, name):  # the files' README: mean difference under 1 level
      out.append(Error(name, augmentation.mean_difference(got.get(name), want), 1.))
      continue
    out.append(Error(name, difference(got.get(name), want), tolerance))
  return out


def main(paths: list[str]) -> int:
  """Prints the table for each file; returns the exit code."""
  failed = False
  for path in paths:
    print(path)
    for entry in errors(path):
      failed |= not entry.passed
      print(f'  {entry.output:72s} {entry.error:10.2e} {entry.tolerance:10.2e} '
            f'{"ok" if entry.passed else "FAILED"}')
  return int(failed)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
