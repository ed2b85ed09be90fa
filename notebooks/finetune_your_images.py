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
# # Fine-tune on your images
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/vit_jax/blob/main/notebooks/finetune_your_images.ipynb)
#
# A folder of images, a model that has seen others, and a higher resolution than it was trained at: the
# recipe of section 4.1 of [the ViT paper](https://arxiv.org/abs/2010.11929). At the end there is a table
# of what is taken for what, the worst mistakes, and a file that
# [timm](https://github.com/huggingface/pytorch-image-models) loads.
#
# As it stands, nothing is downloaded: a folder of handwritten digits is written, and a small model is
# trained first. That takes two or three minutes on two CPU cores. **For your own images and a published
# checkpoint, change the cell "What is yours" and nothing else.**

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
import runpy
import tempfile

from IPython.display import Image

import vit_jax
from vit_jax import main, weights
from vit_jax.data.__main__ import main as show_data
from vit_jax.data.sources import open_source
from vit_jax.visual import charts, confusion, galleries
from vit_jax.visual.curves import read_metrics

here = pathlib.Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / 'configs').is_dir())
work = tempfile.mkdtemp()  # runs and pictures; name a folder of yours to keep them

# %% [markdown]
# ## What is yours
#
# - `folder`: `folder/train/CLASS/*.jpg` and `folder/test/CLASS/*.jpg`; any size, suffix and mode.
# - `start`: a published checkpoint, such as `'vit_s16.augreg_imagenet21k'` (115 MB, downloaded once; see
#   `vit_jax.list_pretrained('*')`), or the workdir of a run of yours.
# - `resolution`: in pixels; 384 is what the paper fine-tunes at.
#
# With `start = ''` the small model below is trained on the same folder first, at half the resolution.

# %%
folder = ''
start = ''
resolution = 384 if start else 32

if not folder:
  folder = f'{work}/digits'
  digits_folder = runpy.run_path(f'{root}/scripts/digits_folder.py')
  digits_folder['main'](folder)

# %% [markdown]
# ## The recipe
#
# A config is a file and its arguments; every leaf of it can be set behind them. What stands here for the
# small model and for digits, which must not be mirrored, is what you would leave out.

# %%
model = start.partition('.')[0] or 'vit_ti16'
small = [] if start else [f'--config.model.{field}' for field in (
    'patch_size=4', 'width=96', 'depth=4', 'num_heads=4', 'mlp_dim=192', 'pool=mean')]
writing = [] if start else [
    '--config.data.augment=[{"name": "affine", "degrees": 12., "translate": .1, "scale": .2}]',
    '--config.data.interpolation=bicubic', '--config.log.every=50']

if not start:
  start = f'{work}/pretrained'
  main.main([
      f'--config={root}/configs/vit_pretrain.py:model={model},dataset={folder},'
      f'resolution={resolution // 2},batch_size=64', f'--workdir={start}', *small, *writing,
      '--config.total_epochs=20', '--config.schedule.peak=3e-3', '--config.schedule.warmup_steps=50',
      '--config.optimizer.weight_decay=.05', '--config.model.dropout_rate=0.',
      '--config.data.crop.min_area=.7'])

recipe = [f'{root}/configs/vit_finetune.py:model={model},dataset={folder},init_from={start},'
          f'resolution={resolution},batch_size=64,steps=200', *small, *writing,
          '--config.schedule.warmup_steps=20', '--config.evaluate.every=50']

# %% [markdown]
# ## What the model will see
#
# Before anything is trained: images as they are after cropping and augmentation, with their labels, then
# test images. Most mistakes of a first run show here.

# %%
show_data([*recipe, '--show', f'--out={work}/sheet.png', '--count=24'])
Image(f'{work}/sheet.png')

# %% [markdown]
# ## Fine-tune
#
# The log says what became of the weights: which arrays were loaded, that the position embeddings were
# interpolated to the new grid of patches, and whether the head starts anew, as it does where the classes
# are others. The same call again resumes a run that was interrupted.

# %%
run = f'{work}/finetuned'
main.main([f'--config={recipe[0]}', f'--workdir={run}', *recipe[1:]])

# %%
charts.draw_curves(read_metrics(f'{run}/metrics.jsonl'))

# %% [markdown]
# ## What is taken for what
#
# Rows are the truth, columns the prediction.

# %%
classifier = vit_jax.load(run)
data = {**weights.run_config(run)['data'], 'channels': classifier.info.channels}
test = open_source(data).split(data['test'])
read = lambda i: classifier.cut(test.read(int(i)))
probabilities = classifier.probabilities(read, len(test))
matrix = confusion.confusion_matrix(test.labels(), probabilities.argmax(axis=1),
                                    classifier.info.num_classes)
print(f'{matrix.trace()} of {len(test)} test images are right: {matrix.trace() / len(test):.1%}')
charts.draw_confusion(matrix, classifier.info.classes)

# %% [markdown]
# ## The worst mistakes
#
# The wrong predictions that it was surest of; often it is the label that is wrong.

# %%
worst = confusion.worst_mistakes(test.labels(), probabilities, 10)
galleries.draw_mistakes([read(i) for i in worst], test.labels()[worst], probabilities[worst],
                        classifier.info.classes) if len(worst) else 'none'

# %% [markdown]
# ## Take it away
#
# The same weights under timm's names. `python -m vit_jax.convert RUN FILE --to=timm` does it in a shell;
# `--to=huggingface` and `--to=npz` are the other names.

# %%
loaded = weights.load(run, verbose=False)
for note in weights.export(f'{work}/finetuned.safetensors', loaded.model, loaded.variables, 'timm'):
  print(note)

# %% [markdown]
# In PyTorch, with the fields of the small model (of a published size, its timm name is enough):
#
#     from timm.models.vision_transformer import VisionTransformer
#     from safetensors.torch import load_file
#
#     model = VisionTransformer(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=4,
#                               mlp_ratio=2, num_classes=10, class_token=False,
#                               global_pool='avg', fc_norm=False, act_layer='gelu_tanh')
#     model.load_state_dict(load_file('finetuned.safetensors'))
#
# What to try next: `python -m vit_jax.explore RUN` draws filters, positions, attention and rollout on a
# page. `--config.schedule.peak` is the number to tune first. What helps most is a checkpoint that has
# seen more images, such as `vit_b16.augreg_imagenet21k`.
