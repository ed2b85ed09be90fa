"""The picture page of a classifier.

Filters of the patch embedding, position embeddings before and after interpolation, attention distance
and rollout (as figures 6 and 7 of the ViT paper), fields of view of windows and neighbourhoods,
confusions and mistakes.
"""

import os

import numpy as np

MOST = 32  # images whose attention is drawn: attention maps are large


def sections(classifier, config: dict, names, split) -> list:
  """Returns the sections of the page.

  Args:
    classifier: a `vit_jax.faces.classification.Classifier`.
    config: of its run.
    names: image files to look at; an int: so many of the test split.
    split: the test split, or None where its data is gone.
  """
  from vit_jax.data import listing
  if isinstance(names, int):
    examples = [split.read(i) for i in range(min(names, MOST, len(split)))] if split else []
    names, pictures = [e.name for e in examples], [classifier.cut(e) for e in examples]
  else:
    names, pictures = names[:MOST], [classifier.prepare(name) for name in names[:MOST]]
  out = filters(classifier) + positions(classifier, config)
  if pictures:
    names = [listing.shown(os.path.basename(name)) for name in names]
    out += attention(classifier, np.stack(pictures), names) + views(classifier, pictures[0])
  if split and not classifier.info.multi_label:  # of several labels there is no confusion
    out += mistakes(classifier, split)
  return out


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
  from vit_jax.visual import drawing, galleries
  from vit_jax.visual.attention import attention_distance, attention_rollout
  from vit_jax.visual.page import Picture, Section
  model = classifier.model
  family = models.family(model)
  if not family.attention:
    return []
  grid = family.grid(model, classifier.info.image_size)
  maps = classifier.attention(pictures)
  patch = tuple(n / cells for n, cells in zip(classifier.info.image_size, grid.size, strict=True))
  distance = attention_distance(maps, grid.size, patch, grid.tokens)
  rollout = attention_rollout(maps, grid.size, grid.tokens)
  return [
      Section('Attention distance', 'How far each head looks, in pixels, weighted by its attention '
              'and averaged over the images (ViT paper, figure 7, right).',
              [Picture(drawing.draw_attention_distance(distance), 'one dot per head')]),
      Section('Attention rollout', 'Where the prediction draws from, through all layers (Abnar and '
              'Zuidema, arXiv:2005.00928; ViT paper, figure 6).',
              [Picture(galleries.draw_rollouts(list(pictures), rollout, names), 'rollout')])]


def views(classifier, picture: np.ndarray) -> list:
  """Which pixels the middle of each block's output sees, of windows and neighbourhoods."""
  from vit_jax import models
  from vit_jax.visual import views as drawing
  from vit_jax.visual.page import Picture, Section
  blocks = models.family(classifier.model).blocks
  if not blocks:
    return []
  found = drawing.fields_of_view(classifier.model, classifier.variables, classifier.normalize, picture,
                                 blocks)
  return [Section('Fields of view', "Which pixels the middle of each block's output draws from, behind "
                  'all blocks in front of it, and their share of the image: windows and shifted windows '
                  'of a Swin, the neighbourhood of a NAT, the kernels of a convolutional network.',
                  [Picture(drawing.draw(picture, found), 'from the first block on')])]


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
