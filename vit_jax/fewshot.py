"""Scores frozen representations by few-shot linear regression (ViT paper, section 4.1).

    python -m vit_jax.fewshot runs/quickstart digits
    python -m vit_jax.fewshot ViT-B_16.npz PATH --model=vit_b16 --train='train[:65000]' --json

Each number is the accuracy over the test split after learning from 1, 5, 10 and 25 examples of each
class, the mean of three draws. The classes need not be those the model was trained on.
"""

import json

from vit_jax import errors
from vit_jax.flags import Parser, number, size


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.fewshot', description=__doc__)
  flags.add_argument('checkpoint', help='workdir of a run, a checkpoint in it, or a published file')
  flags.add_argument('source', help='data set to score on, as data.source in a config')
  flags.add_argument('--train', default='train', help='split to draw examples from (default train)')
  flags.add_argument('--test', default='test', help='split to score (default test)')
  flags.add_argument('--data_dir', default='', help='where TFDS keeps its data')
  flags.add_argument('--model', help='name of the model that a published file belongs to')
  flags.add_argument('--image_size', metavar='HEIGHTxWIDTH', type=size,
                     help='of the images as the model sees them (default: as it was trained)')
  flags.add_argument('--batch_size', type=number(1), default=64, help='default 64')
  flags.add_argument('--json', action='store_true', help='print JSON instead of lines')
  return flags


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  import jax
  from vit_jax import compilation, config, sharding, weights
  from vit_jax.evaluation import fewshot
  from vit_jax.tasks.classification import Classification
  compilation.enable_cache()
  names = (flags.model, flags.checkpoint) if flags.model else (flags.checkpoint,)
  loaded = weights.load(*names, image_size=flags.image_size, verbose=False)
  info = loaded.info
  data = config.image_data(flags.source, info.image_size, flags.batch_size)
  data.update({key: getattr(info, key) for key in fewshot.PREPARATION if key != 'data_dir'})
  entry = dict(source=flags.source, train=flags.train, test=flags.test, data_dir=flags.data_dir)
  mesh = sharding.make_mesh()
  with jax.set_mesh(mesh):
    _, probe = fewshot.open_probe(entry, data, Classification(loaded.model, info), mesh)
    found = probe(loaded.params, loaded.state)
  print(json.dumps(found) if flags.json else '\n'.join(f'{k:8} {v:.4f}' for k, v in found.items()))


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.fewshot', main)
