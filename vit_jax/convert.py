"""Writes the parameters of a run or of a published file in names that other tools read.

    python -m vit_jax.convert runs/quickstart weights.npz
    python -m vit_jax.convert runs/quickstart weights.safetensors --to=timm
    python -m vit_jax.convert ViT-B_16.npz vit_b16.safetensors --to=huggingface
    python -m vit_jax.convert runs/quickstart-detr detector.safetensors --to=detr

Of classifiers: npz, as the model's family was published (vision_transformer's names for a ViT;
big_vision's for what those have no name for); timm, deit, torchvision, huggingface: state dicts as
safetensors. Of detectors: huggingface, transformers' DetrForObjectDetection with timm's ResNet; detr,
the authors' names.
"""

from vit_jax import errors
from vit_jax.flags import Parser, size


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.convert', description=__doc__)
  flags.add_argument('source', help='workdir of a run, a checkpoint in it, or a published file')
  flags.add_argument('target', help='the file to write')
  flags.add_argument('--to', help='one of the formats above (default npz, of detectors huggingface)')
  flags.add_argument('--model', help='name of the model, when a published file does not show it')
  flags.add_argument('--image_size', metavar='HEIGHTxWIDTH', type=size, default=(0, 0),
                     help='of the images that a published file was trained at, if not square')
  return flags


def convert(face, origin, flags) -> list[str]:
  """Writes the file and returns what is to be told of it."""
  from vit_jax import trees, weights
  # Models that a file cannot tell apart have the same names and shapes: any of them converts it.
  known = [] if flags.model or isinstance(origin, weights.Run) else face.WEIGHTS.candidates(origin)[:1]
  to = flags.to or face.FORMAT
  face.WEIGHTS.check_format(flags.target, to)
  name = [flags.model] if flags.model else known
  loaded = face.WEIGHTS.load(*name, origin, verbose=False, trained_image_size=flags.image_size)
  notes = face.WEIGHTS.export(flags.target, loaded.model, loaded.variables, to, loaded.info.image_size)
  return [f'wrote {trees.count(loaded.params):,} parameters to {flags.target}', *notes]


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  from vit_jax import faces, weights
  origin = weights.origin(flags.source, faces.known())
  told = faces.first_that_reads(origin, flags.model, use=lambda face: convert(face, origin, flags))
  print('\n'.join(told))


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.convert', main)
