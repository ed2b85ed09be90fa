"""Train a DeiT on ImageNet-1k without a teacher (arXiv:2012.12877, table 9; section 5.2 for 384).

    python -m vit_jax.main --workdir=runs/deit_b16 \\
        --config=configs/deit.py:model=deit_b16,data=imagenet1k
    python -m vit_jax.main --workdir=runs/deit_b16_384 \\
        --config=configs/deit.py:model=deit_b16,data=imagenet1k,recipe=finetune,init_from=runs/deit_b16

recipe=deit is the table's right column: AdamW, batch 1024, 0.0005 per 512 images, 300 epochs of cosine
after 5 of warm-up, stochastic depth, RandAugment, mixup, cutmix, erasing, each image three times in a
batch. As its code runs, the rate changes once per epoch, the decay begins with the warm-up, and a colour
jitter that its options name is not applied beside RandAugment. recipe=vit is the left column: the ViT
paper's ingredients as DeiT's authors list them. recipe=finetune goes from 224 to 384 pixels: 30 epochs
of a constant 5e-6 after the warm-up, next to no weight decay, no stochastic depth. Position tables are
resampled by the rule of the file they come from: bicubic for the authors' own.

variant=code lets the rate run one epoch behind its formula and the distillation token decay, as the
published code does; variant=paper does neither. That code also keeps an average of the weights that it
does not evaluate (`--config.ema_decay=.99996 --config.ema_warmup=false`), and drops the rest of an epoch
that fills no batch: 1,251 steps of 1,024 images.

The distilled rows of the paper wait for the task that has a teacher.

Arguments: model, data (imagenet1k), dataset (any source; neither: the digits), recipe, init_from,
epochs, batch_size and resolution (0: the recipe's), variant, smoke.

Hardware and time: not measured. Paper: Ti 72.2, S 79.8, B 81.8, B at 384 83.1 %.
Measured: not measured.
"""

from vit_jax import config, recipes
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD

# Rates are per image of the batch.
RECIPES = dict(
    deit=dict(epochs=300., batch_size=1024, peak=5e-4 / 512., end=1e-5, warmup=5., weight_decay=.05,
              smoothing=.1, dropout=0., drop_path=.1, clip=0., resolution=(224, 224)),
    vit=dict(epochs=300., batch_size=4096, peak=3e-3 / 4096., end=0., warmup=3.4, weight_decay=.3,
             smoothing=0., dropout=.1, drop_path=0., clip=1., resolution=(224, 224)),
    finetune=dict(epochs=30., batch_size=512, peak=5e-6 / 512., end=5e-6, warmup=5., weight_decay=1e-8,
                  smoothing=.1, dropout=0., drop_path=0., clip=0., resolution=(384, 384)))

AUGMENT = (
    dict(name='randaugment', flavor='pil', layers=2, magnitude=9., magnitude_std=.5, increasing=True,
         interpolation='bicubic'),
    dict(name='random_erasing', probability=.25, mode='pixel'),
    dict(name='mixup_cutmix', mixup=.8, cutmix=1., probability=1., switch=.5, mode='batch'))


def get_config(arg=None):
  a = config.arguments(arg, model='deit_b16', data='', dataset='', recipe='deit', init_from='',
                       epochs=0., batch_size=0, resolution=(0, 0), variant='code', smoke=False)
  r = recipes.one_of('recipe', a.recipe, RECIPES)
  code = recipes.one_of('variant', a.variant, dict(code=True, paper=False))
  a.batch_size = a.batch_size or r['batch_size']
  a.resolution = a.resolution if any(a.resolution) else r['resolution']
  c = config.base()
  c.total_epochs = a.epochs or r['epochs']
  c.init_from = a.init_from
  c.init_resampling = 'bicubic' if a.init_from else ''  # DeiT's rule, whatever wrote the file
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax',
                label_smoothing=r['smoothing'])
  c.model = recipes.model(a.model, dropout_rate=r['dropout'], drop_path_rate=r['drop_path'], scan=True,
                          remat='none')
  c.data = recipes.pretraining_data(a)
  c.optimizer = dict(name='adamw', eps=1e-8, weight_decay=r['weight_decay'], clip_norm=r['clip'])
  c.schedule = dict(name='cosine', peak=r['peak'] * a.batch_size, end=r['end'],
                    warmup_epochs=r['warmup'])
  if a.recipe != 'vit':
    c.data.update(channels=3, interpolation='bicubic', mean=IMAGENET_MEAN, std=IMAGENET_STD, repeats=3)
    c.data.crop.min_area = .08
    c.data.augment += [dict(op) for op in AUGMENT]
    c.optimizer.decay = 'deit' if code else 'timm'
    c.schedule.update(form='timm', warmup_from=1e-6, hold_epochs=1., lag_epochs=1. if code else 0.)
  c.evaluate.every = 1_251
  c.checkpoint.every = 1_251
  if a.smoke:
    recipes.smoke(c)
  return c
