"""Train a NAT or DiNAT on ImageNet-1k (arXiv:2204.07143, section 4.1; arXiv:2209.15001, section 4.1).

    python -m vit_jax.main --workdir=runs/nat_mini --config=configs/nat.py:model=nat_mini,data=imagenet1k
    python -m vit_jax.main --workdir=runs/dinat_large_384 \\
        --config=configs/nat.py:model=dinat_large_384,data=imagenet1k,recipe=transfer

recipe=scratch is the authors' configs/nat_*.yml, the same for DiNAT: AdamW, batch 1024, a rate of 0.001
after 20 epochs of warm-up, 300 epochs of cosine with the warm-up and 10 more at its end, 5e-6; weight
decay 0.05 of matrices alone, relative biases excepted; gradients clipped to norm 5; stochastic depth 0.2
to 0.5 by size; RandAugment, mixup, cutmix and erasing as Swin has them; crops resized by a filter drawn
for each, bilinear or bicubic. No average of the weights.

recipe=transfer is their dinat_large*.yml: from ImageNet-22k to ImageNet-1k in 30 epochs, without mixup,
cutmix and warm-up, next to no weight decay at 384 pixels. Their file names a linear decay, which their
published code leaves out; here the rate, 5e-5 per 512 images, falls to 0. The batch of 64 images per GPU
is taken for 8 GPUs. init_from is the authors' file unless given; the head starts anew. How they trained
on ImageNet-22k is not published.

Arguments: model, data (imagenet1k), dataset (any source; neither: the digits), recipe, init_from,
epochs, batch_size and resolution (0: the recipe's, and the model's), smoke.

Hardware and time: not measured. Paper: NAT 81.8, 83.2, 83.7, 84.3 %; DiNAT 81.8, 82.7, 83.8, 84.4 %
(Mini, Tiny, Small, Base), Large from ImageNet-22k 86.6 %, at 384 pixels 87.4 %.
Measured: not measured.
"""

from vit_jax import config, models, recipes
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD

# Rates are per image of the batch.
RECIPES = dict(
    scratch=dict(epochs=300., cooldown=10., batch_size=1024, peak=1e-3 / 1024., warmup=20.,
                 schedule='cosine', end=5e-6, mixing=True),
    transfer=dict(epochs=30., cooldown=0., batch_size=512, peak=5e-5 / 512., warmup=0.,
                  schedule='linear', end=0., mixing=False))
DROP_PATH = dict(mini=.2, tiny=.2, small=.3, base=.5, large=.35)

AUGMENT = (
    dict(name='randaugment', flavor='pil', layers=2, magnitude=9., magnitude_std=.5, increasing=True,
         interpolation='random'),
    dict(name='random_erasing', probability=.25, mode='pixel'))
MIXING = dict(name='mixup_cutmix', mixup=.8, cutmix=1., probability=1., switch=.5, mode='batch')


def get_config(arg=None):
  a = config.arguments(arg, model='nat_mini', data='', dataset='', recipe='scratch', init_from='',
                       epochs=0., batch_size=0, resolution=(0, 0), smoke=False)
  r = recipes.one_of('recipe', a.recipe, RECIPES)
  variant, transfer = models.variant(a.model), a.recipe == 'transfer'
  a.batch_size = a.batch_size or r['batch_size']
  a.resolution = a.resolution if any(a.resolution) else variant.image_size
  c = config.base()
  c.total_epochs = (a.epochs or r['epochs']) + r['cooldown']
  c.init_from = a.init_from
  if transfer and not (a.init_from or a.smoke):
    c.init_from = 'dinat_large.imagenet22k'
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax', label_smoothing=.1)
  drop_path = recipes.one_of('size of a NAT', a.model.split('_')[1], DROP_PATH)
  c.model = recipes.model(a.model, drop_path_rate=drop_path)
  c.data = recipes.pretraining_data(a)
  c.data.update(channels=3, interpolation='bicubic', mean=IMAGENET_MEAN, std=IMAGENET_STD)
  c.data.crop.update(min_area=.08, any_filter=True)
  c.data.eval_crop.ratio = variant.preprocessing.crop_ratio
  c.data.augment += [dict(op) for op in (*AUGMENT, *[MIXING] * r['mixing'])]
  decay = 1e-10 if max(a.resolution) > 224 else 1e-4
  c.optimizer = dict(name='adamw', eps=1e-8, weight_decay=decay if transfer else .05, decay='kernels',
                     clip_norm=5.)
  c.schedule = dict(name=r['schedule'], peak=r['peak'] * a.batch_size, end=r['end'],
                    warmup_epochs=r['warmup'], warmup_from=1e-6, flat_epochs=r['cooldown'], form='timm')
  recipes.evaluate_and_save(c, times=60)
  if a.smoke:
    recipes.smoke(c)
  return c
