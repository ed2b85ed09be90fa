"""Train a ConvNeXt on ImageNet (A ConvNet for the 2020s, arXiv:2201.03545, section 3.1 and table 5).

    python -m vit_jax.main --workdir=runs/convnext_t \\
        --config=configs/convnext.py:model=convnext_t,data=imagenet1k
    python -m vit_jax.main --workdir=runs/convnext_b_384 \\
        --config=configs/convnext.py:model=convnext_b,data=imagenet1k,recipe=enlarge
    python -m vit_jax.main --workdir=runs/convnext_b_22k \\
        --config=configs/convnext.py:model=convnext_b,data=imagenet21k,recipe=pretrain
    python -m vit_jax.main --workdir=runs/convnext_b_22k_1k --config.init_from=runs/convnext_b_22k \\
        --config=configs/convnext.py:model=convnext_b,data=imagenet1k,recipe=transfer

recipe=scratch is 300 epochs of AdamW at batch 4096: a rate of 0.004 after 20 epochs of warm-up, a cosine
to 1e-6, weight decay 0.05 of matrices and kernels, stochastic depth 0.1 to 0.5 by size, RandAugment,
mixup, cutmix and erasing; the average of the weights, with decay .9999, is evaluated. recipe=enlarge
goes from 224 to 384 pixels in 30 epochs at 5e-5: layer-wise decay .7, next to no weight decay, no mixup
and cutmix, a head that starts at a thousandth. recipe=pretrain is 90 epochs on ImageNet-22k;
recipe=transfer goes from there to ImageNet-1k, as recipe=enlarge but for a layer-wise decay of .8.
init_from is the authors' file unless given. Their ImageNet-22k has 21,841 classes, that of TFDS 21,843.

Arguments: model, data (imagenet1k, imagenet21k), dataset (any source; neither: the digits), recipe,
init_from, epochs, batch_size and resolution (0: the recipe's), smoke.

Hardware and time: not measured. Paper: 82.1, 83.1, 83.8, 84.3 % (T, S, B, L), 85.1 and 85.5 % at 384
pixels (B, L); from ImageNet-22k 85.8, 86.6, 87.0 % (B, L, XL), at 384 pixels 86.8, 87.5, 87.8 %.
Measured: not measured.
"""

from vit_jax import config, recipes
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD

# Rates are per image of the batch. Stochastic depth by size; of the isotropic models in table 2 too.
RECIPES = dict(
    scratch=dict(epochs=300., batch_size=4096, peak=4e-3 / 4096., end=1e-6, warmup=20., weight_decay=.05,
                 layer_decay=1., head_scale=1., ema=.9999, mixing=True, resolution=(224, 224), start='',
                 drop_path=dict(t=.1, s=.4, b=.5, l=.5, iso_s=.1, iso_b=.2, iso_l=.5)),
    enlarge=dict(epochs=30., batch_size=512, peak=5e-5 / 512., end=1e-6, warmup=0., weight_decay=1e-8,
                 layer_decay=.7, head_scale=.001, ema=0., mixing=False, resolution=(384, 384),
                 start='{}.imagenet1k', drop_path=dict(b=.8, l=.95)),
    pretrain=dict(epochs=90., batch_size=4096, peak=4e-3 / 4096., end=1e-6, warmup=5., weight_decay=.05,
                  layer_decay=1., head_scale=1., ema=0., mixing=True, resolution=(224, 224), start='',
                  drop_path=dict(b=.1, l=.1, xl=.2)),
    transfer=dict(epochs=30., batch_size=512, peak=5e-5 / 512., end=1e-6, warmup=0., weight_decay=1e-8,
                  layer_decay=.8, head_scale=.001, ema=0., mixing=False, resolution=(224, 224),
                  start='{}.imagenet22k', drop_path=dict(b=.2, l=.3, xl=.4)))

AUGMENT = (
    dict(name='randaugment', flavor='pil', layers=2, magnitude=9., magnitude_std=.5, increasing=True,
         interpolation='bicubic'),
    dict(name='random_erasing', probability=.25, mode='pixel'))
MIXING = dict(name='mixup_cutmix', mixup=.8, cutmix=1., probability=1., switch=.5, mode='batch')


def get_config(arg=None):
  a = config.arguments(arg, model='convnext_t', data='', dataset='', recipe='scratch', init_from='',
                       epochs=0., batch_size=0, resolution=(0, 0), smoke=False)
  r = recipes.one_of('recipe', a.recipe, RECIPES)
  a.batch_size = a.batch_size or r['batch_size']
  a.resolution = a.resolution if any(a.resolution) else r['resolution']
  c = config.base()
  c.total_epochs = a.epochs or r['epochs']
  c.ema_decay, c.ema_warmup = r['ema'], False
  c.init_from = a.init_from
  if r['start'] and not (a.init_from or a.smoke):
    c.init_from = r['start'].format(a.model)
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax', label_smoothing=.1)
  size = a.model.removeprefix('convnext_')
  drop_path = recipes.one_of(f'size of a ConvNeXt for recipe={a.recipe}', size, r['drop_path'])
  c.model = recipes.model(a.model, drop_path_rate=drop_path, head_scale=r['head_scale'])
  c.data = recipes.pretraining_data(a)
  c.data.update(channels=3, interpolation='bicubic', mean=IMAGENET_MEAN, std=IMAGENET_STD)
  c.data.crop.min_area = .08
  if min(a.resolution) >= 384:
    c.data.eval_crop = dict(name='squash')
  c.data.augment += [dict(op) for op in (*AUGMENT, *[MIXING] * r['mixing'])]
  c.optimizer = dict(name='adamw', eps=1e-8, weight_decay=r['weight_decay'], decay='timm',
                     layer_decay=r['layer_decay'])
  c.schedule = dict(name='cosine', peak=r['peak'] * a.batch_size, end=r['end'],
                    warmup_epochs=r['warmup'], form='convnext')
  recipes.evaluate_and_save(c, times=60)
  if a.smoke:
    recipes.smoke(c)
  return c
