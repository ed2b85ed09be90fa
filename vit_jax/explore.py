"""Draws what a trained model has learnt, as one self-contained HTML page.

    python -m vit_jax.explore runs/quickstart
    python -m vit_jax.explore runs/photos my_photos/*.jpg --out=page.html

Curves, the filters of the patch embedding, position embeddings before and after interpolation,
attention distance and rollout (as figures 6 and 7 of the ViT paper), confusions and mistakes.
"""

import os

import numpy as np

from vit_jax import errors
from vit_jax.flags import Parser, number


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.explore', description=__doc__)
  flags.add_argument('checkpoint', help='workdir of a run, or a checkpoint in it')
  flags.add_argument('paths', nargs='*', metavar='IMAGE', help='image files and folders to look at; '
                     'default: of the test split')
  flags.add_argument('--count', type=number(1), default=16,
                     help='images to look at, at most 32 (default 16)')
  flags.add_argument('--out', metavar='FILE', help='default: explore.html in the workdir')
  return flags


def explore(checkpoint: str, paths=(), count: int = 16, out: str | None = None) -> str:
  """Writes the picture page of a checkpoint and returns its path.

  Args:
    checkpoint: workdir of a run, or a checkpoint in it.
    paths: images to look at; none: the first ones of the test split.
    count: how many of them, at most 32.
    out: path of the page; None: `explore.html` in the workdir.

  Raises:
    UserError: no checkpoint, or images that cannot be read.
  """
  from vit_jax import inference, weights
  from vit_jax.weights.runs import find
  from vit_jax.visual import page
  workdir, _ = find(checkpoint)
  classifier = inference.Classifier.load(checkpoint)
  config = weights.run_config(workdir)
  count = min(count, inference.BATCH)  # attention maps are large: one batch of them
  split = test_split(config, classifier.info)
  if paths:
    names = inference.image_paths(paths)[:count]
    pictures = [classifier.prepare(name) for name in names]
  else:
    examples = [split.read(i) for i in range(min(count, len(split)))] if split else []
    names = [example.name for example in examples]
    pictures = [classifier.cut(example) for example in examples]
  sections = curves(workdir) + filters(classifier) + positions(classifier, config)
  if pictures:
    sections += attention(classifier, np.stack(pictures), names)
  if split and not classifier.info.multi_label:  # of several labels there is no confusion
    sections += mistakes(classifier, split)
  path = out or page_path(checkpoint)
  info = classifier.info
  facts = {'model': config['model']['name'], 'data': info.source, 'classes': info.num_classes,
           'image size': '{} x {}'.format(*info.image_size), 'training images': info.num_train,
           'test images': info.num_test}
  page.write_page(path, f'What {os.path.basename(os.path.abspath(checkpoint))} has learnt', sections,
                  facts)
  return path


def page_path(checkpoint: str) -> str:
  """Returns where the page of a checkpoint lies: in the workdir that was named, else in its own."""
  from vit_jax.weights.runs import find
  named = os.path.exists(os.path.join(checkpoint, 'config.json'))
  return os.path.join(checkpoint if named else find(checkpoint)[0], 'explore.html')


def test_split(config: dict, info):
  """Returns the test split of a run, or None, with a line, where its data is gone."""
  from vit_jax.data.sources import open_source
  data = config['data']
  try:
    return open_source({**data, 'channels': info.channels}).split(data['test'])
  except errors.UserError as error:
    print(f'without confusions and mistakes: {error}')
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


def filters(classifier) -> list:
  """Principal components of the filters that read the image."""
  from vit_jax import models, trees
  from vit_jax.visual import drawing
  from vit_jax.visual.filters import principal_filters
  from vit_jax.visual.page import Picture, Section
  flat = trees.flatten(classifier.params)
  path = models.family(classifier.model).image_kernel(flat)
  if path is None:
    return []
  found, shares = principal_filters(np.asarray(flat[path], np.float32))
  where = 'root' if 'root' in path else 'patch embedding'
  return [Section(f'Filters of the {where}', 'The first principal components of the learnt '
                  'filters, each stretched to full contrast (ViT paper, figure 7, left).',
                  [Picture(drawing.draw_filters(found, shares), 'principal components')])]


def positions(classifier, config: dict) -> list:
  """Similarity of position embeddings, before and after interpolation."""
  from vit_jax import models, trees, weights
  from vit_jax.layers.positions import resample
  from vit_jax.visual import drawing
  from vit_jax.visual.page import Picture, Section
  from vit_jax.visual.positions import position_similarity
  family, flat = models.family(classifier.model), trees.flatten(classifier.params)
  if family.positions not in flat:
    return []
  grid = family.grid(classifier.model, classifier.info.image_size)
  after = np.asarray(flat[family.positions])[:, grid.positions:]
  path = config['init_from']
  found = path and os.path.exists(path)
  source = weights.read(path, classifier.model.num_heads) if found else None
  started = source is not None and bool(source.grid) and family.positions in source.flat
  if started:
    old, new = source.grid, grid.size
    before = source.flat[family.positions][:, old.positions:]
    interpolated = resample(before, old.size, new, 0, source.table.resampling)
  else:
    before, old, new = after, grid, tuple(2 * n for n in grid.size)
    interpolated = resample(before, old.size, new, 0)
  similarity = lambda table, size: position_similarity(np.asarray(table).reshape(*size, -1))
  text = 'the weights this run started from' if started else 'this run'
  pictures = [Picture(drawing.draw_position_pair(
      similarity(before, old.size), similarity(interpolated, new)), f'of {text}, and interpolated')]
  if started:
    pictures.append(Picture(drawing.draw_position_similarity(
        similarity(after, grid.size), 'after training'), 'after training at this resolution'))
  return [Section('Position embeddings', 'Cosine similarity of the embedding of one patch to those '
                  'of all others, a small map for each patch (ViT paper, figure 7, centre).',
                  pictures)]


def attention(classifier, pictures: np.ndarray, names) -> list:
  """Attention distance per head, and rollout over the images."""
  from vit_jax import models
  from vit_jax.data import listing
  from vit_jax.visual import drawing, galleries
  from vit_jax.visual.attention import attention_distance, attention_rollout
  from vit_jax.visual.page import Picture, Section
  model = classifier.model
  family = models.family(model)
  if not family.attention:
    return []
  grid = family.grid(model, classifier.info.image_size)
  maps = classifier.attention(pictures)
  distance = attention_distance(maps, grid.size, model.patch, grid.tokens)
  rollout = attention_rollout(maps, grid.size, grid.tokens)
  names = [listing.shown(os.path.basename(name)) for name in names]
  return [
      Section('Attention distance', 'How far each head looks, in pixels, weighted by its attention '
              'and averaged over the images (ViT paper, figure 7, right).',
              [Picture(drawing.draw_attention_distance(distance), 'one dot per head')]),
      Section('Attention rollout', 'Where the prediction draws from, through all layers (Abnar and '
              'Zuidema, arXiv:2005.00928; ViT paper, figure 6).',
              [Picture(galleries.draw_rollouts(list(pictures), rollout, names), 'rollout')])]


def mistakes(classifier, split) -> list:
  """Confusion matrix and worst mistakes over the test split."""
  from vit_jax.visual import charts, galleries
  from vit_jax.visual.confusion import confusion_matrix, worst_mistakes
  from vit_jax.visual.page import Picture, Section
  read = lambda i: classifier.cut(split.read(int(i)))
  probabilities = classifier.probabilities(read, len(split))
  classes = classifier.info.classes
  labels = split.labels()
  matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(classes))
  worst = worst_mistakes(labels, probabilities, 20)
  right = int(np.trace(matrix))
  sections = [Section('Confusions', f'{right} of {len(split)} test images are right '
                      f'({right / len(split):.2%}).',
                      [Picture(charts.draw_confusion(matrix, classes), 'rows: truth')])]
  if len(worst):
    sections.append(Section('Worst mistakes', 'The most confident wrong predictions.', [Picture(
        galleries.draw_mistakes([read(i) for i in worst], labels[worst],
                                probabilities[worst], classes), 'true class, predicted class')]))
  return sections


def main() -> None:
  """Runs the command line."""
  flags = parser().parse_args()
  from vit_jax import compilation
  compilation.enable_cache()
  print(explore(flags.checkpoint, flags.paths, flags.count, flags.out))


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.explore', main)
