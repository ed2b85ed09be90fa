"""Draws what a trained model has learnt, as one self-contained HTML page.

    python -m vit_jax.explore runs/quickstart
    python -m vit_jax.explore runs/quickstart-detr --count=4
    python -m vit_jax.explore runs/photos my_photos/*.jpg --out=page.html

Curves, and what the task shows of itself. A classifier: filters, position embeddings, attention distance
and rollout, fields of view, confusions and mistakes. A detector: detections beside the truth, attention
of the encoder and the decoder, where the boxes of each query lie, panoptic pictures. A segmenter: maps
beside the truth, attention of the encoder and of the classes, class embeddings, IoU of each class, worst
images.
"""

import os

from vit_jax import errors
from vit_jax.flags import Parser, number


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.explore', description=__doc__)
  flags.add_argument('checkpoint', help='workdir of a run, or a checkpoint in it')
  flags.add_argument('paths', nargs='*', metavar='IMAGE', help='image files and folders to look at; '
                     'default: of the test split')
  flags.add_argument('--count', type=number(1), help='images to look at (default 16, of detectors 12)')
  flags.add_argument('--out', metavar='FILE', help='default: explore.html in the workdir')
  return flags


def explore(checkpoint: str, paths=(), count: int | None = None, out: str | None = None) -> str:
  """Writes the picture page of a checkpoint and returns its path.

  Args:
    checkpoint: workdir of a run, or a checkpoint in it.
    paths: images to look at; none: the first ones of the test split.
    count: how many of them; None: as many as the task shows.
    out: path of the page; None: `explore.html` in the workdir.

  Raises:
    UserError: no run, or images that cannot be read.
  """
  from vit_jax import faces, weights
  from vit_jax.faces import inputs
  from vit_jax.visual import page
  origin = weights.origin(checkpoint, faces.known())
  if not isinstance(origin, weights.Run):
    weights.runs.find(checkpoint)  # says what is missing
  face, predictor = faces.find(checkpoint, verbose=False)
  count, info = count or face.COUNT, predictor.info
  pictures = inputs.image_paths(paths)[:count] if paths else count
  sections = curves(origin.workdir) + face.sections(predictor, origin.config, pictures,
                                                    test_split(face, origin.config, info))
  path = out or page_path(checkpoint, origin.workdir)
  facts = {'model': origin.config['model']['name'], 'data': info.source, 'classes': info.num_classes,
           'image size': '{} x {}'.format(*info.image_size), 'training images': info.num_train,
           'test images': info.num_test}
  page.write_page(path, f'What {os.path.basename(os.path.abspath(checkpoint))} has learnt', sections,
                  facts)
  return path


def page_path(checkpoint: str, workdir: str) -> str:
  """Returns where the page of a checkpoint lies: in the workdir that was named, else in its own."""
  named = os.path.exists(os.path.join(checkpoint, 'config.json'))
  return os.path.join(checkpoint if named else workdir, 'explore.html')


def test_split(face, config: dict, info):
  """Returns the test split of a run, or None, with a line, where its data is gone."""
  try:
    return face.open_source({**config['data'], 'channels': info.channels}).split(config['data']['test'])
  except errors.UserError as error:
    print(f'without the test split: {error}')
    return None


def curves(workdir: str) -> list:
  """Loss, main measures and learning rate, of the stages before this one too."""
  from vit_jax.visual import charts
  from vit_jax.visual.curves import read_metrics
  from vit_jax.visual.page import Picture, Section
  parent, own = os.path.split(os.path.abspath(workdir))
  from vit_jax.weights.runs import stages
  names = stages(parent) if own in stages(parent) else [own]
  pictures = []
  for name in names:
    path = os.path.join(parent, name, 'metrics.jsonl')
    if os.path.exists(path):
      pictures.append(Picture(charts.draw_curves(read_metrics(path)), name))
  return [Section('Curves', 'Of the training batches, as augmented, and of the test split.',
                  pictures)] if pictures else []


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  from vit_jax import compilation
  compilation.enable_cache()
  print(explore(flags.checkpoint, flags.paths, flags.count, flags.out))


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.explore', main)
