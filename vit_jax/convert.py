"""Writes the parameters of a run as a published `.npz` file, which other tools read.

    python -m vit_jax.convert runs/quickstart weights.npz

The names are vision_transformer's; big_vision's for what those have no name for (attention pooling,
positions without the class token).
"""

import argparse

from vit_jax import errors


def main() -> None:
  """Runs the command line."""
  flags = argparse.ArgumentParser(prog='python -m vit_jax.convert', description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('source', help='workdir of a run, or a checkpoint in it')
  flags.add_argument('target', help='the .npz file to write')
  flags = flags.parse_args()
  if not flags.target.endswith('.npz'):
    raise errors.UserError(f'{flags.target!r} does not end with .npz, the only format written so far')
  from vit_jax import trees, weights
  model, params, _ = weights.load(flags.source, verbose=False)
  weights.export(flags.target, model, params)
  print(f'wrote {trees.count(params):,} parameters to {flags.target}')


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.convert', main)
