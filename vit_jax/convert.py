"""Writes the parameters of a run or of a published file in names that other tools read.

    python -m vit_jax.convert runs/quickstart weights.npz
    python -m vit_jax.convert runs/quickstart weights.safetensors --to=timm
    python -m vit_jax.convert ViT-B_16.npz vit_b16.safetensors --to=huggingface

npz: as the model's family was published (vision_transformer's names for a ViT; big_vision's for what
those have no name for). timm, deit, torchvision, huggingface: state dicts as safetensors.
"""

import importlib

from vit_jax import errors
from vit_jax.flags import Parser, size


def main(package: str = 'vit_jax', description: str = __doc__, default: str = 'npz') -> None:
  """Runs the command line.

  Args:
    package: whose `weights` read and write.
    description: of its formats.
    default: the format that is written.
  """
  flags = Parser(prog=f'python -m {package}.convert', description=description)
  flags.add_argument('source', help='workdir of a run, a checkpoint in it, or a published file')
  flags.add_argument('target', help='the file to write')
  flags.add_argument('--to', default=default, help=f'one of the formats above (default {default})')
  flags.add_argument('--model', help='name of the model, when a published file does not show it')
  flags.add_argument('--image_size', metavar='HEIGHTxWIDTH', type=size, default=(0, 0),
                     help='of the images that a published file was trained at, if not square')
  flags = flags.parse_args()
  from vit_jax.weights import Run
  from vit_jax import trees
  weights = importlib.import_module(f'{package}.weights')
  weights.check_format(flags.target, flags.to)
  # Models that a file cannot tell apart have the same names and shapes: any of them converts it.
  from_ = weights.origin(flags.source)
  known = [] if flags.model or isinstance(from_, Run) else weights.candidates(from_)[:1]
  source = ([flags.model] if flags.model else known) + [flags.source]
  loaded = weights.load(*source, verbose=False, trained_image_size=flags.image_size)
  notes = weights.export(flags.target, loaded.model, loaded.variables, flags.to, loaded.info.image_size)
  print('\n'.join([f'wrote {trees.count(loaded.params):,} parameters to {flags.target}', *notes]))


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.convert', main)
