"""Train a Swin transformer on ImageNet (arXiv:2103.14030, section 4.1, and the authors' configs/swin).

    python -m vit_jax.main --workdir=runs/swin_t --config=configs/swin.py:model=swin_t,data=imagenet1k
    python -m vit_jax.main --workdir=runs/swin_b_384 \\
        --config=configs/swin.py:model=swin_b_384,data=imagenet1k,recipe=enlarge
    python -m vit_jax.main --workdir=runs/swin_b_22k \\
        --config=configs/swin.py:model=swin_b,data=imagenet21k,recipe=pretrain
    python -m vit_jax.main --workdir=runs/swin_b_22k_1k --config.init_from=runs/swin_b_22k \\
        --config=configs/swin.py:model=swin_b,data=imagenet1k,recipe=transfer

recipe=scratch is 300 epochs of AdamW at batch 1024: a rate of 0.001 after 20 epochs of warm-up, then a
cosine to a hundredth of it, weight decay 0.05 of matrices alone, relative biases excepted, gradients
clipped to norm 5, stochastic depth 0.2, 0.3, 0.5 (T, S, B), RandAugment, mixup, cutmix and erasing. No
average of the weights. recipe=enlarge goes from 224 to 384 pixels and windows of 12 in 30 epochs.
recipe=pretrain is 90 epochs on ImageNet-22k at batch 4096; recipe=transfer goes from there to
ImageNet-1k in 30 epochs, with the rows of the head that are its classes. init_from is the authors' file
unless given. Their ImageNet-22k has 21,841 classes, that of TFDS 21,843. Where the paper's text differs
(a constant rate and no decay for 384 pixels, weight decay .01 on ImageNet-22k), this is the code.

Arguments: model, data (imagenet1k, imagenet21k), dataset (any source; neither: the digits), recipe,
init_from, epochs, batch_size and resolution (0: the recipe's, and the model's), smoke.

Hardware and time: not measured. Paper: 81.3, 83.0, 83.5 % (T, S, B), 84.5 % at 384 pixels (B); from
ImageNet-22k 85.2 % (B), at 384 pixels 86.4 and 87.3 % (B, L).
Measured: not measured.
"""

from vit_jax import config, models, recipes
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD

# Rates are per image of the batch, and so are those of the warm-up's start and the end.
RECIPES = dict(
    scratch=dict(epochs=300., batch_size=1024, peak=5e-4 / 512., start=5e-7 / 512., end=5e-6 / 512.,
                 warmup=20., weight_decay=.05, init='', drop_path=dict(t=.2, s=.3, b=.5)),
    enlarge=dict(epochs=30., batch_size=1024, peak=2e-5 / 512., start=2e-8 / 512., end=2e-7 / 512.,
                 warmup=5., weight_decay=1e-8, init='{}.imagenet1k', drop_path=dict(b=.5)),
    pretrain=dict(epochs=90., batch_size=4096, peak=1.25e-4 / 512., start=1.25e-7 / 512.,
                  end=1.25e-6 / 512., warmup=5., weight_decay=.05, init='',
                  drop_path=dict(b=.2, l=.2)),
    transfer=dict(epochs=30., batch_size=1024, peak=2e-5 / 512., start=2e-8 / 512., end=2e-7 / 512.,
                  warmup=5., weight_decay=1e-8, init='{}.imagenet22k', drop_path=dict(b=.2, l=.2)))

AUGMENT = (
    dict(name='randaugment', flavor='pil', layers=2, magnitude=9., magnitude_std=.5, increasing=True,
         interpolation='bicubic'),
    dict(name='random_erasing', probability=.25, mode='pixel'),
    dict(name='mixup_cutmix', mixup=.8, cutmix=1., probability=1., switch=.5, mode='batch'))


def get_config(arg=None):
  a = config.arguments(arg, model='swin_t', data='', dataset='', recipe='scratch', init_from='',
                       epochs=0., batch_size=0, resolution=(0, 0), smoke=False)
  r, variant = recipes.one_of('recipe', a.recipe, RECIPES), models.variant(a.model)
  a.batch_size = a.batch_size or r['batch_size']
  a.resolution = a.resolution if any(a.resolution) else variant.image_size
  c = config.base()
  c.total_epochs = a.epochs or r['epochs']
  c.init_from = a.init_from
  if r['init'] and not (a.init_from or a.smoke):  # from 224 pixels, or from the same
    smaller = a.model.removesuffix('_384') if a.recipe == 'enlarge' else a.model
    c.init_from = r['init'].format(smaller)
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax', label_smoothing=.1)
  size = a.model.split('_')[1]
  drop_path = recipes.one_of(f'size of a Swin for recipe={a.recipe}', size, r['drop_path'])
  c.model = recipes.model(a.model, drop_path_rate=drop_path)
  c.data = recipes.pretraining_data(a)
  c.data.update(channels=3, interpolation='bicubic', mean=IMAGENET_MEAN, std=IMAGENET_STD)
  c.data.crop.min_area = .08
  if variant.preprocessing.crop == 'squash':
    c.data.eval_crop = dict(name='squash')
  c.data.augment += [dict(op) for op in AUGMENT]
  c.optimizer = dict(name='adamw', eps=1e-8, weight_decay=r['weight_decay'], decay='kernels',
                     clip_norm=5.)
  rate = lambda name: r[name] * a.batch_size
  c.schedule = dict(name='cosine', peak=rate('peak'), end=rate('end'), warmup_epochs=r['warmup'],
                    warmup_from=rate('start'))
  recipes.evaluate_and_save(c, times=60)
  if a.smoke:
    recipes.smoke(c)
  return c
