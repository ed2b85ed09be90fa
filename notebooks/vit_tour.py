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
# # A tour of a Vision Transformer
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/vit_jax/blob/main/notebooks/vit_tour.ipynb)
#
# A ViT cuts an image into patches, maps each to a vector, adds a learnt vector for its place, and lets
# attention do the rest ([Dosovitskiy et al.](https://arxiv.org/abs/2010.11929)). Here we get one, let it
# predict, and look inside as the paper does in figures 6 and 7.
#
# Without a network a small one is trained on the spot, on 1,442 handwritten digits; everything takes two
# or three minutes on two CPU cores. **If you have a published file, or a network, change the cell
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
import pathlib
import tempfile

import numpy as np

import vit_jax
from vit_jax import main, models, trees
from vit_jax.data.sources.memory import digits
from vit_jax.visual import attention, drawing, filters, galleries, positions

here = pathlib.Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / 'configs').is_dir())

# %% [markdown]
# ## Which model
#
# `published` may be a name from the list at the end, such as
# `'vit_b16.augreg_imagenet21k_imagenet1k_384'`: its file is downloaded once, 330 MB, and checked. For a
# file of your own, load it with its model's name: `vit_jax.load('vit_b16', 'my_file.npz')`.
#
# Else `configs/quickstart.py` runs, shortened: 16x16 pixels first, then 24x24, where the position
# embeddings of the 4x4 grid of patches are interpolated to 6x6.

# %%
published = ''

if published:
  from sklearn.datasets import load_sample_images
  classifier = vit_jax.load(published, verbose=False)
  images = [classifier.prepare(path) for path in load_sample_images().filenames]
  labels = None
else:
  run = tempfile.mkdtemp() + '/digits'
  main.main([f'--config={root}/configs/quickstart.py', f'--workdir={run}', '--config.explore=0',
             '--config.stages[0].total_epochs=20', '--config.stages[1].total_epochs=10',
             '--config.stages[0].log.every=150', '--config.stages[1].log.every=150'])
  classifier = vit_jax.load(run)
  test = digits().split('test')
  one_of_each = np.unique(test.labels(), return_index=True)[1]
  examples = [test.read(int(i)) for i in one_of_each]
  images = [classifier.cut(example) for example in examples]
  labels = [example.labels[0] for example in examples]

model, params, info = classifier.model, classifier.params, classifier.info
f'{trees.count(params):,} parameters, {info.num_classes} classes, images of {info.image_size}'

# %% [markdown]
# ## Predict
#
# `prepare` and `cut` give the image as the model was taught to see it: the size, the crop and the
# interpolation belong to the weights, and so does the mean that is subtracted.

# %%
probabilities = classifier.probabilities(lambda i: images[i], len(images))
shown = min(6, len(images))
names = [f'true class: {info.classes[label]}' for label in labels[:shown]] if labels else ()
galleries.draw_predictions(images[:shown], probabilities[:shown], info.classes, top_k=3, names=names,
                           columns=3)

# %% [markdown]
# ## The filters that read the image
#
# Figure 7, left. Each patch is mapped linearly to a vector: as many filters as the vector has entries.
# Their principal components, the strongest first, each stretched to full contrast. On ImageNet they look
# like a basis of plain textures; those of a short training on digits still have much of their random
# start.

# %%
kernel = trees.flatten(params)['embedding/kernel']
found, shares = filters.principal_filters(np.asarray(kernel))
drawing.draw_filters(found, shares)

# %% [markdown]
# ## Where a patch thinks it is
#
# Figure 7, centre. One small map per patch: how similar its position embedding is to those of all
# patches. Nobody told the model that the patches lie on a grid; the closer two are, the more alike their
# vectors have become.

# %%
grid = models.family(model).grid(model, info.image_size)
table = np.asarray(params['Transformer']['posembed_input']['pos_embedding'])
table = table[0, grid.positions:].reshape(*grid.size, -1)  # without the class token's
drawing.draw_position_similarity(positions.position_similarity(table))

# %% [markdown]
# ## How far each head looks
#
# Figure 7, right. The distance between the patch that asks and those it attends to, weighted by the
# attention and averaged over images. In the paper's large models some heads look everywhere from the
# first layer on, and others stay close, as the first layers of a convolutional network do. With six
# patches a side there is little to stay close to.

# %%
maps = classifier.attention(np.stack(images))
distance = attention.attention_distance(maps, grid.size, model.patch, grid.tokens)
drawing.draw_attention_distance(distance)

# %% [markdown]
# ## What the answer draws from
#
# Figure 6, attention rollout ([Abnar and Zuidema](https://arxiv.org/abs/2005.00928)): attention
# multiplied through all layers, with the residual path added in each. Bright is where the output comes
# from.

# %%
rollout = attention.attention_rollout(maps, grid.size, grid.tokens)
galleries.draw_rollouts(images, rollout)

# %% [markdown]
# ## The list of published checkpoints
#
# `vit_jax.load(NAME)` downloads the file into a cache, checks it, and gives model, parameters and facts;
# without a network one sentence says which file to put where. `python -m vit_jax.pretrained NAME` tells
# the rest: address, crop, interpolation, licence, and where the accuracy was published.

# %%
for name, known in vit_jax.list_pretrained('*16.augreg*').items():
  print(f'{name:45} {known.image_size[0]} px  {known.accuracy or "":5}  {known.data}')
