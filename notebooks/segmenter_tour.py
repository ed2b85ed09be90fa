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
# # A tour of Segmenter
#
# [![In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/vit_jax/blob/main/notebooks/segmenter_tour.ipynb)
#
# Segmenter gives every pixel a class ([Strudel et al.](https://arxiv.org/abs/2105.05633)). A backbone
# makes a vector of each patch. The *linear* decoder classifies each vector; the *mask transformer* lets
# the vectors and one embedding per class see each other, and compares them: a mask for each class.
#
# Without a network a small one is trained on the spot, on scenes of handwritten digits; everything takes
# two or three minutes on two CPU cores. **If you have a run of a mask transformer, change the cell
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
from detr_jax.evaluation import mean_iou
from detr_jax.faces import segmentation as face
from detr_jax.models import pixels
from detr_jax.ops.windows import Inference
from detr_jax.visual import maps, segmenters
from vit_jax import main, weights

here = pathlib.Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / 'configs').is_dir())

# %% [markdown]
# ## Which model
#
# `workdir` may be that of a run whose data is still there. Else the quickstart's config
# `configs/quickstart_segmentation.py` runs here with the mask transformer, shortened.

# %%
workdir = ''

if not workdir:
  workdir = tempfile.mkdtemp() + '/digits'
  main.main([f'--config={root}/configs/quickstart_segmentation.py:decoder=mask,steps=300',
             f'--workdir={workdir}', '--config.model.backbone_fields.width=16',
             '--config.model.backbone_fields.depths=(1, 1, 1, 1)', '--config.evaluate.every=300',
             '--config.explore=0', '--config.log.every=50'])
segmenter = vit_jax.load(workdir, verbose=False)
info, colours = segmenter.info, maps.colours_of(segmenter.info)
split = face.open_source(weights.origin(workdir).config['data']).split('test')
examples = [split.read(i) for i in range(min(100, len(split)))]
images = [np.asarray(example.image()) for example in examples]
truths = [example.labels(image.shape[:2]) for example, image in zip(examples, images)]
print(segmenter)

# %% [markdown]
# ## What it answers
#
# An image of any size goes in, and a map of its size comes out. After a training as short as this one
# digit is taken for another, and borders are coarse: the backbone's map has an entry for 8x8 pixels.

# %%
found = [segmenter.labels(image) for image in images]
rows = [(image, maps.overlaid(image, truth, colours), maps.overlaid(image, labels, colours))
        for image, truth, labels in zip(images[:4], truths, found)]
maps.draw(rows, ('image', 'truth', 'answer'), range(info.num_classes), info.classes, colours)

# %% [markdown]
# ## How it is measured
#
# Of each class, the intersection over the union of its pixels in the truth and in the answer, counted
# over all images together. Their mean, mIoU, weighs a rare class as much as the background.

# %%
counts = sum(np.asarray(mean_iou.confusion(truth, labels, info.num_classes), np.int64)
             for truth, labels in zip(truths, found))
measures, iou = mean_iou.measures(counts)
print({name: f'{value:.1%}' for name, value in measures.items()})
maps.bars(iou, info.classes, colours)

# %% [markdown]
# ## Where classes look
#
# In the mask transformer the embeddings of the classes are tokens beside the patches. What each of the
# largest classes of an image attends to, layer by layer, as the mean over the heads:

# %%
image = segmenter.view(images[0])
layers = segmenter.attention(image, pixels.family(segmenter.model).attention['classes'])
cells = layers[0].shape[-1] - info.num_classes
side = int(cells ** .5)
shown = np.argsort(-np.bincount(truths[0].ravel(), minlength=info.num_classes))[:5]
segmenters.draw_lit(image, [
    [(f'{info.classes[k]}, layer {i}', layer.mean(0)[cells + k, :cells].reshape(side, -1))
     for k in shown] for i, layer in enumerate(layers)])

# %% [markdown]
# ## How classes lie to each other
#
# The learnt embeddings by their two largest singular directions, as figure 8 of the paper does for the
# 150 classes of ADE20K.

# %%
segmenters.draw_classes(np.asarray(segmenter.params['decoder']['cls_emb']), info.classes, colours)

# %% [markdown]
# ## Images of another size
#
# `Inference` says how an image is seen: whole, or by windows that slide over it and whose logits are
# averaged; at several scales, and mirrored. Evaluation and `predict` share it (`config.data.inference`).
# Here the same image, four times as large, whole and by windows of the size of training:

# %%
large = np.kron(images[0], np.ones((2, 2, 1), np.uint8))
size = np.asarray([large.shape[:2]])
predict = lambda x: segmenter.model.apply(segmenter.variables, x).logits
batch = segmenter.normalize(large[None])
answers = [np.asarray(how.probabilities(predict, batch, size))[0].argmax(-1) for how in (
    Inference(), Inference(short_side=64), Inference(window=64, stride=32))]
maps.draw([[large, *(maps.overlaid(large, labels, colours) for labels in answers)]],
          ('image', 'whole', 'resized to 64', 'windows of 64'), range(info.num_classes), info.classes,
          colours)

# %% [markdown]
# ## Which models there are
#
# Segmenter, UperNet, SETR, DeepLabv3+ and OCRNet, each over any backbone: `backbone='convnext_t'`. They
# start from published classifiers such as `resnet101_c.openmmlab`. How to train on your own images, and
# what was measured: docs/segmentation.md.

# %%
pixels.list_models()
