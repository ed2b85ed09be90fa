# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of a DETR
#
# [![In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/vit_jax/blob/main/notebooks/detr_tour.ipynb)
#
# DETR finds objects without anchors to classify and without suppressing doubles afterwards: a
# transformer turns an image and a fixed number of *queries* into a set of boxes
# ([Carion et al.](https://arxiv.org/abs/2005.12872)). Here we get one, see how its boxes are matched
# with the truth, and look inside as the paper does in figures 3, 6 and 7.
#
# Without a network a small one is trained on the spot, on scenes of handwritten digits; everything takes
# two or three minutes on two CPU cores. **If you have a published file, or a network, change the cell
# "Which model" and nothing else.**

# %%
import os
import subprocess
import sys

if 'google.colab' in sys.modules:
  subprocess.run('git clone -q https://github.com/OWNER/vit_jax && pip install -q ./vit_jax',
                 shell=True, check=True)
  os.chdir('vit_jax')

# %%
# %matplotlib inline
import dataclasses
import pathlib
import tempfile

import jax
import numpy as np

import detr_jax
from detr_jax import pretrained
from detr_jax.data.sources.digit_scenes import DigitScenes
from detr_jax.faces import page
from detr_jax.ops import boxes as box_ops
from detr_jax.ops import matching
from detr_jax.visual import boxes, queries
from detr_jax.visual.matching import draw_costs
import vit_jax
from vit_jax import main

here = pathlib.Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / 'configs').is_dir())

# %% [markdown]
# ## Which model
#
# `published` may be a name from the list at the end, such as `'detr_r50.coco'`: its file is downloaded
# once, 167 MB, and checked. For a file of your own, give its model's name too:
# `vit_jax.load('detr_r50', 'detr-r50-e632da11.pth')`. Both then look at two photographs; as nobody has
# drawn boxes on them, the surest detections stand for the truth.
#
# Else the run of `make quickstart-detr` is taken where there is one, and if not, its config
# `configs/quickstart_detr.py` runs here, shortened.

# %%
published = ''
run = root / 'runs' / 'quickstart-detr'

if published:
  from sklearn.datasets import load_sample_images
  detector = vit_jax.load(published, verbose=False)
  examples = [detector.prepare(path) for path in load_sample_images().filenames]
  found = [detector.detect(example, detector.threshold) for example in examples]
  examples = [dataclasses.replace(example, boxes=one.boxes, labels=one.labels)
              for example, one in zip(examples, found)]
else:
  if not (run / 'results.json').exists():
    run = tempfile.mkdtemp() + '/digits'
    main.main([f'--config={root}/configs/quickstart_detr.py:steps=700', f'--workdir={run}',
               '--config.explore=0', '--config.log.every=100'])
  detector = vit_jax.load(str(run))
  scenes = DigitScenes().split('test')
  examples = [scenes.read(i) for i in range(200)]

model, info = detector.task.model, detector.info
f'{model.num_queries} queries, {info.num_classes} classes, {len(examples)} images'

# %% [markdown]
# ## What the model sees
#
# Images of all sizes lie in the upper left of a canvas, and the model is told how much of it is image.
# Each has a list of boxes and classes, as long as the data needs at most; what is left of it is empty.
# The scenes are as large as their canvas. Their digits are real, written by people; no scene shown here
# has one that a training scene had.

# %%
pictures = []
for example in examples[:8]:
  batch = detector.batch(example)
  scale = np.tile((batch['size'] / batch['original_size'])[0, ::-1], 2)
  canvas, corners = boxes.enlarged(batch['image'][0], example.boxes * scale, 220)
  pictures.append(boxes.draw_boxes(canvas, corners, example.labels, info.classes))
print({name: f'{array.dtype} {list(array.shape)}' for name, array in batch.items()})
boxes.sheet(pictures, 4)

# %% [markdown]
# ## What it finds
#
# Every query gives one box and a class, or says that there is no object. A score decides what is shown.
# Nothing removes doubles: in the decoder the queries see each other, and have learnt to share out the
# objects. After a training as short as this some are missing, doubled, or taken for another digit.

# %%
pictures = []
for example in examples[:8]:
  found = detector.detect(example, detector.threshold)
  image, corners = boxes.enlarged(np.asarray(example.image()), found.boxes, 220)
  pictures.append(boxes.draw_boxes(image, corners, found.labels, info.classes, found.scores))
boxes.sheet(pictures, 4)

# %% [markdown]
# ## Who is responsible for what
#
# The loss compares two sets, so it must first say which query answers for which object. Each pair has a
# cost: how unsure the query is of the class, how far its box is off, and how little the two overlap
# (equation 1). The matching gives every object a query of its own so that the sum is least, here exactly
# as in training. Dark is cheap; the frames are the pairs. Where one query would be the cheapest for two
# objects, one of them has to take another. All other queries should find nothing.

# %%
example = max(examples[:20], key=lambda example: len(example.labels))
look, criterion = detector.look(example), detector.task.criterion
names = [info.classes[label] for label in example.labels]
width, height = example.image().size
costs = matching.cost(
    look.logits, detector.boxes(example), example.labels,
    box_ops.to_cxcywh(example.boxes / (width, height, width, height)),
    classification=criterion.classification, cost_class=criterion.cost_class,
    cost_bbox=criterion.cost_bbox, cost_giou=criterion.cost_giou)
query = np.asarray(matching.match(costs[None], np.array([len(names)])))[0]
draw_costs(costs, query, names)

# %% [markdown]
# The same pairs as boxes: left the objects, right what their queries say, whatever the score.

# %%
image, corners = boxes.enlarged(np.asarray(example.image()), example.boxes, 420)
_, answers = boxes.enlarged(look.image, look.boxes[query], 420)
boxes.sheet([boxes.draw_boxes(image, corners, example.labels, info.classes),
             boxes.draw_boxes(image, answers, look.labels[query], info.classes, look.scores[query])], 2)

# %% [markdown]
# ## Where points of the image look
#
# Figure 3: self-attention of the last encoder layer, from the points marked by a cross. In the paper's
# model it already tells one object from the next, before there is any box; after a few minutes there is
# little of that to see. The map is as coarse as the backbone's: published models have a token for 32x32
# pixels, the small one for 8x8.

# %%
looks = [detector.look(example) for example in examples[:2]]
print('tokens:', looks[0].grid)
boxes.sheet([picture for look in looks for picture in page.encoder_row(look)], 1 + page.OBJECTS)

# %% [markdown]
# ## Where queries look
#
# Figure 6: attention of the last decoder layer, for the objects it is surest of. The paper finds it at
# the extremities, heads and feet: the encoder has told the objects apart, and what a box still needs is
# where its object ends.

# %%
boxes.sheet([picture for look in looks for picture in page.decoder_row(look, info.classes)],
            1 + page.OBJECTS)

# %% [markdown]
# ## What queries specialise in
#
# Figure 7: a square per query, a dot per image where the centre of its box lies; green small, red wide,
# blue tall. Learned queries divide the image among them, by place and by size. Anchors, which the small
# model has, start from a place of their own, and stay near it.

# %%
queries.draw_query_boxes(np.stack([detector.boxes(example) for example in examples]))

# %% [markdown]
# ## What padding changes
#
# An image should give the same on any canvas. The transformer never attends to padding; a backbone,
# though, turns zeros into something else and carries it over the edge, and published models live with
# that. `mask_padding` keeps all that lies outside at zero. Below, an untrained model with the batch norm
# of published ones looks at an image alone, and then on a canvas that is twice as large each way.

# %%
fresh = detr_jax.create_model(
    'detr_r50', num_classes=10, backbone='resnet18', backbone_fields=dict(width=16, depths=(1, 1, 1)),
    width=64, num_heads=4, mlp_dim=128, encoder_layers=1, decoder_layers=1)
image = jax.random.normal(jax.random.key(0), (1, 64, 96, 3))
on_canvas = np.pad(image, ((0, 0), (0, 64), (0, 96), (0, 0)))
size = np.array([[64, 96]])
variables = jax.jit(fresh.init)(jax.random.key(1), image, size)
for kept in (False, True):
  apply = jax.jit(fresh.clone(mask_padding=kept).apply)
  alone, padded = (apply(variables, x, size).logits[-1] for x in (image, on_canvas))
  print(f'mask_padding={kept!s:5}  largest change of a logit: {np.abs(padded - alone).max():.0e}, '
        f'of logits up to {np.abs(alone).max():.1f}')

# %% [markdown]
# ## The list of published detectors
#
# `vit_jax.load(NAME)` downloads the file into a cache, checks it, and gives model, parameters and
# facts. `python -m vit_jax.predict NAME photo.jpg --out=boxes.png` draws what it finds, and
# `python -m vit_jax.explore` makes a page of the pictures above for a run of your own.

# %%
for name, known in pretrained.list_pretrained().items():
  print(f'{name:30} {known.accuracy}  {known.measure:7} {known.data}')
